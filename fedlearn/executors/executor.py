"""The interface of everything that runs the clients of a round."""

from collections.abc import Callable
from typing import Any


class Executor:
    """Maps a client's round over a cohort, and sums.

    An executor decides in which way and where, never what: all executors give
    the same total, up to the rounding of sums.
    """

    def bind(self, program: Any) -> Callable[[Any, Any, list[int]], Any]:
        """Compiles what it needs of a `fedlearn.clients.program.ClientProgram`.

        Returns:
            `run(broadcast, cohort, seeds) -> total`: the sum of the updates
            of all clients of a `fedlearn.data.cohort.Cohort`, of which
            `seeds` gives each its own. Clients are read when they are needed
            and not kept.
        """
        raise NotImplementedError

    def plan(self, program: Any) -> str:
        """In words, how it runs a program: sums are rounded as they are made.

        A run that goes on must go on in the same way.
        """
        del program
        return repr(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
