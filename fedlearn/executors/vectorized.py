import collections
import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from fedlearn import backend, checks
from fedlearn.clients.cohort import Cohort
from fedlearn.clients.program import ClientProgram, seed_words
from fedlearn.executors.executor import (
    Executor,
    Run,
    Seeds,
    Shard,
    naming,
    partial_sum,
)
from fedlearn.messages.broadcast import Received
from fedlearn.messages.update import Update


class Vectorized(Executor):
    """Runs many clients at once, each in a lane of a leading axis.

    The plan for small models, whose single steps are too little work to keep
    a machine busy.

    Clients of different lengths are exact: no example is ever padded, which
    would change default losses and BatchNormalization's statistics. Lanes
    whose clients have fewer batches sit steps out (they are computed and
    thrown away), and the last, smaller batches of an epoch are run together
    with those of the same size.

    Args:
        max_lanes: At most so many clients at once, so that memory doesn't
            grow with the number of clients in a round; None for as many as
            keep the lanes' weights under 128 MB, up to 128.

    Raises:
        MemoryError: In a round, if so many are too many for the memory.
    """

    def __init__(self, max_lanes: int | None = None):
        if max_lanes is not None:
            max_lanes = checks.whole("max_lanes", max_lanes)
        self.max_lanes = max_lanes

    def bind(self, program: ClientProgram) -> Run:
        if program.per_example:
            raise ValueError(
                "The clients' batches have random lengths (`LocalTraining("
                "dp=...)`), so lanes of clients would wait for each other, "
                "and gradients are vectorised over examples as it is. Use "
                "executor='sequential' (or 'auto')."
            )
        return _Runner(program, self.max_lanes)

    def __repr__(self) -> str:
        return f"Vectorized(max_lanes={self.max_lanes})"


class _Phase(NamedTuple):
    """Steps that some lanes take together, with batches of one size.

    Attributes:
        positions: Rows of the block's examples, of shape `(L, S, b)`.
        lanes: Which lanes, of shape `(L,)`; `()` for all of them.
        active: Whether a lane takes a step, of shape `(L, S)`; `()` if all do.
    """

    positions: np.ndarray
    lanes: np.ndarray | tuple[()] = ()
    active: np.ndarray | tuple[()] = ()


class _Runner(Run):
    def __init__(self, program: ClientProgram, max_lanes: int | None):
        super().__init__(program)
        model = program.model.model
        self._max_lanes = max_lanes or lane_limit(
            model.trainable_variables, model.non_trainable_variables
        )
        self._start = backend.jit(self._start_fn, free=(1, 2))
        self._passes = [_compiled_phase(step) for step in program.steps]
        self._finish = backend.jit(self._finish_fn, free=(1, 2, 3, 4, 5))

    def shards(self, cohort: Cohort) -> list[Shard]:
        sizes = [cohort.num_examples(i) for i in range(len(cohort))]
        return [
            Shard(members[start : start + self._max_lanes])
            for members in _groups(sizes)
            for start in range(0, len(members), self._max_lanes)
        ]

    def run_shard(
        self, broadcast: Received, cohort: Cohort, seeds: Seeds, plan: str = ""
    ) -> Update:
        clients = list(cohort)
        ids = [client.id for client in clients]
        with naming(ids), _enough_memory(len(ids)):
            sums, *asides = self._run_block(broadcast, clients, seeds)
        # Lanes that were added stand at the end.
        if self.program.stacked:
            sums = (_rows(sums[0], slice(len(ids))), *sums[1:])
        kept, sent = (backend.rows(a, len(ids)) for a in asides)
        return partial_sum(self.program, sums, ids, kept, sent)

    def _run_block(self, broadcast, clients, seeds):
        sizes = [c.num_examples for c in clients]
        offsets = np.cumsum([0, *sizes], dtype=np.int32)
        passes = [
            [
                [positions + offset for positions in batches]
                for batches in self.program.passes(size, seed)
            ]
            for seed, size, offset in zip(seeds, sizes, offsets, strict=False)
        ]
        data = keras.tree.map_structure(
            lambda *arrays: np.concatenate(arrays), *[c.data for c in clients]
        )
        of_lanes = (
            np.asarray(sizes, np.int32),
            np.stack([seed_words(seed) for seed in seeds]),
            np.ones(len(clients), bool),
        )
        phases = [
            (run, phase)
            for run, *batches in zip(self._passes, *passes, strict=True)
            for phase in _phases(batches)
        ]
        uniform = all(len(p.lanes) == len(p.active) == 0 for _, p in phases)
        # XLA compiles every new shape anew, so lengths that differ from round
        # to round are rounded up there. TensorFlow's graphs don't care.
        grow = int if backend.LOOPS_IN_GRAPH or uniform else _step_up
        # TensorFlow's rule for adding a convolution's bias confuses a single
        # lane with none: there are always two.
        width = max(2, grow(len(clients)))
        if width > len(clients) or grow is _step_up:
            phases = [(run, _wider(p, width, grow)) for run, p in phases]
            length = grow(int(offsets[-1]))
            data = keras.tree.map_structure(lambda a: _pad(a, length), data)
            of_lanes = keras.tree.map_structure(
                lambda a: _pad(a, width), of_lanes
            )
        num_examples, words, real = of_lanes
        # What the lanes that were added keep is thrown away too.
        missing = len(real) - len(clients)
        states = [c.state for c in (*clients, *clients[:1] * missing)]
        states = backend.stack(states)
        carry = self._start(broadcast, words, states)
        for run, phase in phases:
            carry = run(broadcast, carry, data, *phase)
        return self._finish(broadcast, carry, num_examples, words, real, states)

    # Compiled.

    def _start_fn(self, broadcast, words, states):
        return backend.vmap(lambda *lane: self.program.start(broadcast, *lane))(
            words, states
        )

    def _finish_fn(self, broadcast, carry, num_examples, words, real, states):
        program = self.program

        def lane(carry, num_examples, seed, before):
            before = before or program.fresh(broadcast)
            result = program.finish(broadcast, carry, before)
            message, after, finite = program.encode(
                broadcast, result, num_examples, seed, before
            )
            accepted = program.accept(broadcast.params, message)
            sent = message if program.varies_in_length else ()
            return accepted, before, after, finite, sent

        accepted, before, after, finite, sent = backend.vmap(lane)(
            carry, num_examples, words, states
        )
        counts = ops.logical_and(real, accepted.finite)
        summed = accepted.summand, accepted.metrics
        zeros = keras.tree.map_structure(ops.zeros_like, summed)
        summand, metrics = backend.where_rows(counts, summed, zeros)

        def add(tree):
            return keras.tree.map_structure(lambda a: ops.sum(a, axis=0), tree)

        num_clients = ops.cast(counts, "int32")
        rejected = ops.logical_and(real, ops.logical_not(counts))
        sums = (
            summand if program.stacked else add(summand),
            add(metrics),
            ops.sum(num_clients),
            ops.sum(num_clients * num_examples),
            ops.sum(ops.cast(rejected, "int32")),
        )
        return sums, backend.where_rows(finite, after, before), sent


@contextlib.contextmanager
def _enough_memory(num_clients: int) -> Iterator[None]:
    """Tells what the backends say in words of their own."""
    try:
        yield
    except Exception as error:
        kind = type(error).__name__
        if not (
            isinstance(error, MemoryError)
            or kind == "ResourceExhaustedError"
            or "RESOURCE_EXHAUSTED" in str(error)
        ):
            raise
        raise MemoryError(
            f"There is too little memory for {num_clients} clients at once: "
            f"{str(error)[:300]}. Run fewer at once, for example with "
            f"fl.executors.Vectorized(max_lanes={max(1, num_clients // 2)}), "
            "or one after another, with 'sequential'. Which clients are run "
            "together changes the last bits, so it isn't changed on the way."
        ) from error


def _compiled_phase(step: Callable[..., Any]) -> Callable[..., Any]:
    """`(broadcast, carry, data, *phase) -> carry`, of a step of one client."""

    def run(broadcast, carry, data, positions, lanes, active):
        def body(number, carry):
            rows = positions[:, number]
            batch = keras.tree.map_structure(
                lambda a: ops.take(a, rows, axis=0), data
            )
            taken = backend.vmap(lambda c, b: step(broadcast, c, b))(
                carry, batch
            )
            if isinstance(active, tuple):
                return taken
            mask = active[:, number]
            return backend.where_rows(mask, taken, carry)

        part = carry
        if not isinstance(lanes, tuple):
            part = keras.tree.map_structure(
                lambda a: ops.take(a, lanes, axis=0), carry
            )
        part = backend.loop(ops.shape(positions)[1], body, part)
        if isinstance(lanes, tuple):
            return part
        return keras.tree.map_structure(
            lambda a, p: ops.scatter_update(a, lanes[:, None], p), carry, part
        )

    return backend.jit(run, free=(1, 2), loose=(3, 4, 5))


def _rows(tree: Any, rows: Any) -> Any:
    return keras.tree.map_structure(lambda a: a[rows], tree)


def _groups(sizes: Sequence[int]) -> list[list[int]]:
    """Positions of clients of like size, so that few steps are sat out."""
    groups = collections.defaultdict(list)
    for i, size in enumerate(sizes):
        groups[math.ceil(math.log2(size)) if size else -1].append(i)
    return [members for _, members in sorted(groups.items())]


def num_vector_steps(
    sizes: Sequence[int], lengths: Callable[[int], Sequence[int]]
) -> int:
    """How many steps clients of such sizes take, with all lanes as one.

    `lengths` gives those of a client's batches for a size.
    """
    total = 0
    for members in _groups(sizes):
        lanes = [lengths(size) for size in {sizes[i] for i in members}]
        full = max((n for lane in lanes for n in lane), default=0)
        total += max(sum(n == full for n in lane) for lane in lanes)
        # Smaller batches come at the ends of epochs, each size by itself.
        smaller = collections.Counter[int]()
        for lane in lanes:
            smaller |= collections.Counter(n for n in lane if n < full)
        total += smaller.total()
    return total


def lane_limit(trainable: Sequence[Any], non_trainable: Sequence[Any]) -> int:
    """As many lanes as keep the weights in them under 128 MB, up to 128."""
    num_bytes = sum(
        int(np.prod(w.shape)) * 4 for w in (*trainable, *non_trainable)
    )
    return max(1, min(128, 2**27 // max(num_bytes, 1)))


def _phases(batches: list[list[np.ndarray]]) -> list[_Phase]:
    """The steps of a block's lanes, in an order that keeps each lane's own.

    Lanes run their full batches of an epoch together, then each its smaller
    last one with those of the same size.
    """
    full = max((len(b) for lane in batches for b in lane), default=0)
    queues = [collections.deque(lane) for lane in batches]
    phases: list[_Phase] = []
    while any(queues):
        # Full batches up to each lane's next smaller one.
        runs = [_take_full(queue, full) for queue in queues]
        longest = max(map(len, runs))
        if longest:
            positions = np.zeros((len(runs), longest, full), np.int32)
            active = np.zeros((len(runs), longest), bool)
            for lane, run in enumerate(runs):
                if run:
                    positions[lane, : len(run)] = run
                    active[lane, : len(run)] = True
            everyone = active.all()
            phases.append(_Phase(positions, (), () if everyone else active))
        by_size = collections.defaultdict(list)
        for lane, queue in enumerate(queues):
            if queue:
                by_size[len(queue[0])].append(lane)
        for _, lanes in sorted(by_size.items()):
            positions = np.stack([queues[i].popleft() for i in lanes])[:, None]
            if len(lanes) == len(queues):
                phases.append(_Phase(positions))
                continue
            if len(lanes) == 1:
                # Twice the same lane, written twice: never a single one.
                lanes, positions = lanes * 2, np.repeat(positions, 2, axis=0)
            phases.append(_Phase(positions, np.asarray(lanes, np.int32)))
    return phases


def _take_full(queue: collections.deque, full: int) -> list[np.ndarray]:
    run = []
    while queue and len(queue[0]) == full:
        run.append(queue.popleft())
    return run


def _wider(phase: _Phase, width: int, grow: Callable[[int], int]) -> _Phase:
    """A phase with more lanes and steps, whose results are thrown away.

    Few programs then serve many rounds, where every length is a program of its
    own. No example is ever added to a batch.
    """
    positions, lanes, active = phase
    if len(lanes):
        # The first lane again: it computes and writes the same twice.
        repeat = np.zeros(grow(len(lanes)), np.int64)
        repeat[: len(lanes)] = np.arange(len(lanes))
        return _Phase(positions[repeat], np.asarray(lanes)[repeat])
    count, steps, size = positions.shape
    wide = np.zeros((width, grow(steps), size), np.int32)
    mask = np.zeros(wide.shape[:2], bool)
    wide[:count, :steps] = positions
    mask[:count, :steps] = active if len(active) else True
    return _Phase(wide, (), mask)


def _pad(array: np.ndarray, length: int) -> np.ndarray:
    missing = length - len(array)
    return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))


def _step_up(n: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24, ...: at most a third more."""
    power = 1 << max(n - 1, 0).bit_length()
    return power * 3 // 4 if power >= 4 and n <= power * 3 // 4 else power
