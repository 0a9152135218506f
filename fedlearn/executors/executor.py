"""The interface of everything that runs the clients of a round."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import ops

from fedlearn import backend
from fedlearn.clients.cohort import Cohort
from fedlearn.clients.program import Accepted, ClientProgram
from fedlearn.messages.broadcast import Received
from fedlearn.messages.message import Message
from fedlearn.messages.update import Update
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


Ending = Callable[..., Any]
"""`(broadcast, carry, num_examples, seed_words, client_state)`, compiled."""


def ending_at_client(program: ClientProgram) -> Ending:
    """What a client does after its steps: `(message, client_state)`."""

    def end(broadcast, carry, num_examples, seed, client_state):
        result = program.finish(broadcast, carry, client_state)
        return program.send(broadcast, result, num_examples, seed, client_state)

    return end


def ended(
    program: ClientProgram,
    broadcast: Received,
    carry: Any,
    num_examples: Any,
    seed: Any,
    client_state: Any,
) -> tuple[Accepted, tuple]:
    """What comes after a client's steps, at the client and at the server.

    Returns:
        What the server accepts, and what `on_host` needs: what the client
        keeps, and its message where its length is not that of others.
    """
    message, kept = ending_at_client(program)(
        broadcast, carry, num_examples, seed, client_state
    )
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


def ending_at_server(program: ClientProgram) -> Callable[[Any, Message], tuple]:
    """What the server does with one message: `(params, message) -> sums`."""
    return lambda params, message: counted(
        program, program.accept(params, message)
    )


def on_host(
    program: ClientProgram, client_ids: Sequence[str], asides: Sequence[tuple]
) -> tuple[int, dict[str, Any]]:
    """An update's `bytes_up` and `client_states`, of some clients.

    Args:
        program: What they did.
        client_ids: Who they are.
        asides: From `ended`, for each.
    """
    states, num_bytes = {}, 0
    for client_id, aside in zip(client_ids, asides, strict=True):
        kept, message = backend.to_numpy(aside)
        if keras.tree.flatten(kept):
            states[client_id] = kept
        num_bytes += program.bytes_up(message or None)
    return num_bytes, states


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
