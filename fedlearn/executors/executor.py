"""The interface of everything that runs the clients of a round."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fedlearn.serialization import Configurable


class Executor(Configurable):
    """Maps a client's round over a cohort, and sums.

    An executor decides in which way and where, never what: all executors give
    the same total, up to the rounding of sums.
    """

    def bind(self, program: Any) -> Callable[[Any, Any, list[int]], Any]:
        """Compiles what it needs of a `fedlearn.clients.program.ClientProgram`.

        Returns:
            `run(broadcast, cohort, seeds) -> total`: the sum of the updates
            of all clients of a `fedlearn.clients.cohort.Cohort`, of which
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


@contextlib.contextmanager
def naming(client_ids: Sequence[str]) -> Iterator[None]:
    """Says whose examples TensorFlow found an invalid value in.

    Raises:
        ValueError: Instead of TensorFlow's InvalidArgumentError.
    """
    try:
        yield
    except Exception as error:
        if type(error).__name__ != "InvalidArgumentError":
            raise
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = next((n for n in lines[::-1] if "{{node" not in n), "")
        whose = (
            f"client {client_ids[0]!r}"
            if len(client_ids) == 1
            else f"one of the clients {list(client_ids)}"
        )
        raise ValueError(
            f"TensorFlow can't compute the loss of {whose}: {reason.strip()} "
            "Check their labels against the model's output and loss."
        ) from error
