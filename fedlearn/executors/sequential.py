"""One client after another, each of any length."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import backend
from fedlearn.clients.program import seed_words
from fedlearn.executors.executor import Executor, naming
from fedlearn.messages.update import StackedUpdate, Update


class Sequential(Executor):
    """Runs clients one after another.

    On TensorFlow a client's whole round is one graph with a loop over its
    batches, of any length. On JAX the loop is on the host, since a batch of
    another length is another program there: at most one for each
    power of two up to `batch_size` where the model and its loss are known to
    take each example by itself (plain layers and losses of Keras), and else
    one for each length that occurs, which takes a second or more to compile.

    The plan for models that are heavy for each example, such as convolutions:
    a single client keeps all cores busy.
    """

    def bind(self, program: Any) -> Callable[[Any, Any, list[int]], Any]:
        update = _stacked if program.stacked else _summed
        run_client = (
            _loop_in_graph(program)
            if backend.LOOPS_IN_GRAPH
            else _loop_on_host(program)
        )
        # One compiled addition, not one dispatch for each array.
        add = (
            (lambda a, b: a + b)
            if program.stacked
            else _adding(backend.jit(lambda a, b: Update(*a) + Update(*b)))
        )

        def run(broadcast, cohort, seeds):
            total = None
            for client, seed in zip(cohort, seeds, strict=True):
                with naming([client.id]):
                    *parts, kept = run_client(broadcast, client, seed)
                pairs: tuple = ()
                if program.keeps:
                    pairs = ((client.id, backend.to_numpy(kept)),)
                new = update(parts, pairs)
                total = new if total is None else add(total, new)
            return total

        return run


def _summed(parts: Any, kept: Any) -> Update:
    return Update(*parts)._replace(kept=kept)


def _stacked(parts: Any, kept: Any) -> StackedUpdate:
    summand = keras.tree.map_structure(
        lambda a: ops.expand_dims(a, 0), parts[0]
    )
    return StackedUpdate(summand, *parts[1:])._replace(kept=kept)


def _adding(compiled: Callable[[tuple, tuple], tuple]) -> Callable:
    """Additions with a compiled sum of all but what is on the host."""

    def add(a: Update, b: Update) -> Update:
        sums = compiled(tuple(a[:5]), tuple(b[:5]))
        return Update(*sums[:5])._replace(kept=a.kept + b.kept)

    return add


def _counted(parts: Any, num_examples: Any) -> tuple:
    """A client's parts of an `Update`; zeros if its update isn't finite."""
    summand, metrics, finite, kept = parts
    sums = keras.tree.map_structure(ops.convert_to_tensor, (summand, metrics))
    # A branch and not `where`, which would copy all the weights.
    summand, metrics = ops.cond(
        finite,
        lambda: sums,
        lambda: keras.tree.map_structure(ops.zeros_like, sums),
    )
    accepted = ops.cast(finite, "int32")
    num_examples = accepted * ops.cast(num_examples, "int32")
    return summand, metrics, accepted, num_examples, 1 - accepted, kept


def _loop_in_graph(program: Any) -> Callable[[Any, Any, int], Any]:
    def client_round(
        broadcast, data, order, bounds, num_examples, seed, client_state
    ):
        def body(step, carry):
            positions = order[bounds[step] : bounds[step + 1]]
            batch = keras.tree.map_structure(
                lambda a: ops.take(a, positions, axis=0), data
            )
            return program.step(broadcast, carry, batch)

        carry = program.start(broadcast, seed, client_state)
        num_steps = ops.shape(bounds)[0] - 1
        carry = backend.loop(num_steps, body, carry)
        parts = program.finish(
            broadcast, carry, num_examples, seed, client_state
        )
        return _counted(parts, num_examples)

    compiled = backend.jit(client_round, free=(1, 2, 3))

    def run(broadcast, client, seed):
        batches = program.batches(client.num_examples, seed)
        lengths = [0, *(len(b) for b in batches)]
        order = np.concatenate(batches) if batches else np.zeros(0, np.int32)
        return compiled(
            broadcast,
            client.data,
            order,
            np.cumsum(lengths, dtype=np.int32),
            np.asarray(client.num_examples, np.int32),
            seed_words(seed),
            client.state,
        )

    return run


def _loop_on_host(program: Any) -> Callable[[Any, Any, int], Any]:
    start = backend.jit(program.start)
    steps = Steps(program)
    finish = backend.jit(
        lambda broadcast, carry, num_examples, seed, client_state: _counted(
            program.finish(broadcast, carry, num_examples, seed, client_state),
            num_examples,
        )
    )

    def run(broadcast, client, seed):
        words = ops.convert_to_tensor(seed_words(seed))
        carry = start(broadcast, words, client.state)
        for positions in program.batches(client.num_examples, seed):
            carry = steps(broadcast, carry, client.data, positions)
        num_examples = ops.convert_to_tensor(
            np.asarray(client.num_examples, np.int32)
        )
        return finish(broadcast, carry, num_examples, words, client.state)

    return run


class Steps:
    """Single compiled steps, with few programs for batches of any length.

    On JAX every new batch length is a new program, which takes a second or
    more to compile. Where it is known to be exact, a smaller batch is filled
    up with copies of its first row, to the next power of two: then there are
    as many programs as such powers. Never further, as taking the copies off
    again costs digits and time. Else there are as many as lengths.

    What happens to a batch depends on its length alone, and not on who came
    before.
    """

    def __init__(self, program: Any):
        self._program = program
        self._step = backend.jit(program.step)
        self._padded = backend.jit(program.padded_step)

    def __call__(self, broadcast, carry, data, positions):
        length = len(positions)
        if self._program.pad_to is not None:
            size = self._program.pad_to(length)
            return self._pad(broadcast, carry, data, positions, size)
        power = 1 << (length - 1).bit_length()
        size = min(power, self._program.batch_size)
        if length == size or not self._program.can_pad(data):
            return self._step(broadcast, carry, _rows(data, positions))
        return self._pad(broadcast, carry, data, positions, size)

    def _pad(self, broadcast, carry, data, positions, size):
        padded = np.full(size, positions[0] if len(positions) else 0)
        padded[: len(positions)] = positions
        num_real = ops.convert_to_tensor(np.asarray(len(positions), "float32"))
        return self._padded(broadcast, carry, _rows(data, padded), num_real)


def _rows(data: Any, positions: np.ndarray) -> Any:
    return keras.tree.map_structure(
        lambda a: ops.convert_to_tensor(a[positions]), data
    )
