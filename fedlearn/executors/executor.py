import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
from keras import ops

from fedlearn import backend
from fedlearn.clients.cohort import Cohort
from fedlearn.clients.program import Accepted, ClientProgram
from fedlearn.messages.broadcast import Received
from fedlearn.messages.update import StackedUpdate, Update, added
from fedlearn.serialization import Configurable

Run = Callable[[Received, Cohort, list[int]], Update]
"""`(broadcast, cohort, seeds) -> total`."""


class Executor(Configurable):
    """Maps a client's round over a cohort, and sums.

    An executor decides in which way and where, never what: all executors give
    the same total, up to the rounding of sums.
    """

    def bind(self, program: ClientProgram) -> Run:
        """Compiles what it needs of what a client does.

        Returns:
            `run(broadcast, cohort, seeds) -> total`: the sum of the updates
            of all clients of a `fedlearn.clients.cohort.Cohort`, of which
            `seeds` gives each its own. Clients are read when they are needed
            and not kept.
        """
        raise NotImplementedError

    def plan(self, program: ClientProgram) -> str:
        """In words, how it runs a program: sums are rounded as they are made.

        A run that goes on must go on in the same way.
        """
        del program
        return repr(self)


def ended(
    program: ClientProgram, broadcast: Received, *args: Any
) -> tuple[Accepted, tuple]:
    """What the server accepts, and what is looked at on the host.

    That is what the client keeps, and its message where its length is not that
    of others.
    """
    message, kept = program.send(broadcast, *args)
    sent = message if program.varies_in_length else ()
    return program.accept(broadcast.params, message), (kept, sent)


def counted(program: ClientProgram, accepted: Accepted) -> tuple:
    """The sums of one client's `Update`; zeros if its update isn't finite."""
    sums = keras.tree.map_structure(
        ops.convert_to_tensor, (accepted.summand, accepted.metrics)
    )
    # A branch and not `where`, which would copy all the weights.
    summand, metrics = ops.cond(
        accepted.finite,
        lambda: sums,
        lambda: keras.tree.map_structure(ops.zeros_like, sums),
    )
    if program.stacked:
        summand = keras.tree.map_structure(
            lambda a: ops.expand_dims(a, 0), summand
        )
    count = ops.cast(accepted.finite, "int32")
    num_examples = count * accepted.num_examples
    return summand, metrics, count, num_examples, 1 - count


class Total:
    """Adds up what clients come to, in the order in which it comes."""

    def __init__(self, program: ClientProgram):
        self._program = program
        # One compiled addition, not one dispatch for each array.
        self._add = backend.jit(added)

    def __call__(
        self, parts: Iterable[tuple[tuple, Sequence[str], Sequence[tuple]]]
    ) -> Update:
        """The total of parts, each of one client or some.

        A part is the sum of `counted`, the clients' ids, and for each what
        `ended` left for the host; nothing for all if there is nothing.
        """
        program, stacks = self._program, []
        total: Any = None
        num_bytes, states = 0, {}
        for sums, client_ids, asides in parts:
            if program.stacked:
                stacks.append(sums[0])
                sums = ((), *sums[1:])
            total = sums if total is None else self._add(total, sums)
            if not asides:
                num_bytes += len(client_ids) * program.bytes_up()
            for client_id, aside in zip(client_ids, asides, strict=False):
                kept, message = backend.to_numpy(aside)
                if keras.tree.flatten(kept):
                    states[client_id] = kept
                num_bytes += program.bytes_up(message or None)
        if not stacks:
            return Update.of(total, num_bytes, states)
        summand = keras.tree.map_structure(
            lambda *arrays: ops.concatenate(arrays, axis=0), *stacks
        )
        return StackedUpdate.of((summand, *total[1:]), num_bytes, states)


@contextlib.contextmanager
def naming(client_ids: Sequence[str]) -> Iterator[None]:
    """Turns TensorFlow's InvalidArgumentError into a ValueError with ids."""
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
