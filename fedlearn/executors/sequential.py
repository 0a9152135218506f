import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import backend
from fedlearn.clients.cohort import Client, Cohort
from fedlearn.clients.program import ClientProgram, seed_words
from fedlearn.executors.executor import (
    Executor,
    Run,
    Seeds,
    Shard,
    ended,
    naming,
    partial_sum,
)
from fedlearn.keras_model.example_wise import is_example_wise, labels_match
from fedlearn.messages.broadcast import Received
from fedlearn.messages.update import Update


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

    def bind(self, program: ClientProgram) -> Run:
        return _Runner(program)


# A shard is one client until there are so many of them.
_MOST_SHARDS = 64


class _Runner(Run):
    def __init__(self, program: ClientProgram):
        super().__init__(program)
        self._run_client = client_rounds(
            program, functools.partial(ended, program)
        )

    def shards(self, cohort: Cohort) -> list[Shard]:
        length = -(-len(cohort) // _MOST_SHARDS)
        positions = range(len(cohort))
        return [
            Shard(positions[i : i + length])
            for i in range(0, len(cohort), length)
        ]

    def run_shard(
        self, broadcast: Received, cohort: Cohort, seeds: Seeds, plan: str = ""
    ) -> Update:
        total = self.total(len(cohort))
        for number, (client, seed) in enumerate(
            zip(cohort, seeds, strict=True)
        ):
            with naming([client.id]):
                sums, *asides = self._run_client(broadcast, client, seed)
            update = partial_sum(
                self.program, sums, [client.id], *([a] for a in asides)
            )
            total.add(update, number)
        return total.result()


def client_rounds(
    program: ClientProgram, end: Callable[..., Any]
) -> Callable[[Received, Client, int], Any]:
    """The compiled rounds of single clients, with `end` after their steps."""
    loop = _loop_in_graph if backend.LOOPS_IN_GRAPH else _loop_on_host
    return loop(program, end)


def _loop_in_graph(program, end):
    def client_round(
        broadcast, data, order, bounds, num_examples, seed, client_state
    ):
        def run_pass(step, order, bounds, carry):
            def body(i, carry):
                positions = order[bounds[i] : bounds[i + 1]]
                batch = keras.tree.map_structure(
                    lambda a: ops.take(a, positions, axis=0), data
                )
                return step(broadcast, carry, batch)

            return backend.loop(ops.shape(bounds)[0] - 1, body, carry)

        carry = program.start(broadcast, seed, client_state)
        for args in zip(program.steps, order, bounds, strict=True):
            carry = run_pass(*args, carry)
        return end(broadcast, carry, num_examples, seed, client_state)

    compiled = backend.jit(client_round, free=(1, 2, 3))

    def run(broadcast, client, seed):
        passes = program.passes(client.num_examples, seed)
        nothing = np.zeros(0, np.int32)
        return compiled(
            broadcast,
            client.data,
            [np.concatenate([nothing, *batches]) for batches in passes],
            [
                np.cumsum([0, *map(len, batches)], dtype=np.int32)
                for batches in passes
            ],
            np.asarray(client.num_examples, np.int32),
            seed_words(seed),
            client.state,
        )

    return run


def _loop_on_host(program, end):
    start = backend.jit(program.start)
    steps = [Steps(program, step) for step in program.steps]
    end = backend.jit(end)

    def run(broadcast, client, seed):
        words = ops.convert_to_tensor(seed_words(seed))
        carry = start(broadcast, words, client.state)
        passes = program.passes(client.num_examples, seed)
        for step, batches in zip(steps, passes, strict=True):
            for positions in batches:
                carry = step(broadcast, carry, client.data, positions)
        num_examples = ops.convert_to_tensor(
            np.asarray(client.num_examples, np.int32)
        )
        return end(broadcast, carry, num_examples, words, client.state)

    return run


class Steps:
    """Single compiled steps, with few programs for batches of any length.

    On JAX every new batch length is a program that takes a second or more to
    compile. Where it is known to be exact, a smaller batch is filled up to the
    next power of two with copies of its first row, and no further, as taking
    them off again costs digits and time. Rows that the step itself leaves out
    cost neither: then there are at most four lengths.

    What happens to a batch depends on its length alone, and not on who came
    before.
    """

    def __init__(self, program: ClientProgram, step: Callable[..., Any]):
        self._program = program
        self._step = backend.jit(step)
        self._example_wise: bool | None = None

    def __call__(self, broadcast, carry, data, positions):
        length, size = len(positions), self._size(len(positions), data)
        if size == length and not self._program.per_example:
            return self._step(broadcast, carry, _rows(data, positions))
        padded = np.full(size, positions[0] if length else 0)
        padded[:length] = positions
        num_real = ops.convert_to_tensor(np.asarray(length, "float32"))
        return self._step(broadcast, carry, _rows(data, padded), num_real)

    def _size(self, length: int, data: tuple) -> int:
        """How many rows a batch is given."""
        full = self._program.batch_size
        if self._program.per_example:
            quarter = -(-full // 4)
            return quarter * max(1, -(-length // quarter))
        power = min(1 << (length - 1).bit_length(), full)
        return power if power > length and self._can_pad(data) else length

    def _can_pad(self, data: tuple) -> bool:
        """Whether copies of a row can be taken off again, exactly."""
        functional = self._program.model
        model: Any = functional.model
        if self._example_wise is None:  # known once the metrics exist
            roles = functional.roles
            self._example_wise = (
                not roles.state and not roles.local and is_example_wise(model)
            )
        return (
            self._example_wise
            and len(data) == 2
            and not self._program.weighs_examples
            and labels_match(model, data[1], model.outputs)
        )


def _rows(data: Any, positions: np.ndarray) -> Any:
    return keras.tree.map_structure(
        lambda a: ops.convert_to_tensor(a[positions]), data
    )
