"""A computation as what is sent, done at clients, added up, and made of it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from keras import ops

from fedlearn.core.aggregates import AGGREGATES, Arrays
from fedlearn.core.local_computation import LocalComputation, form, lane_key
from fedlearn.core.program import Op, Program
from fedlearn.core.types import TensorType
from fedlearn.threefry import threefry_2x32


class NotOneRound(ValueError):  # noqa: N818
    """Clients would have to be asked again with what they said before."""


class MapSum:
    """One time that clients are asked, made by `fl.core.compile`.

    Four pure functions of flat tuples of arrays, compiled:

        prepare(known) -> sent                  what goes to every client
        client(sent, clients, index) -> total   of some clients
        merge(total, total) -> total            of all these, in any grouping
        finish(known, total) -> results

    `known` is what the server has and `clients` what clients have, along a
    first axis of as many as one likes. `index` numbers these, int32, and is -1
    for those that don't count, which come last. A `total` is of one size
    whatever the number of clients, but for `federated_collect`.
    """

    def __init__(
        self,
        program: Program,
        known: Sequence[int],
        aggregates: Sequence[Op],
        results: Sequence[int],
    ):
        self._known, self._results = known, results
        self._aggregates = aggregates
        self._clients = program.parameter_tensors(each=True)
        self._varying = _varying(program)
        wanted = (i for op in aggregates for i in op.inputs)
        self._work, start = _needed(program, wanted, at_clients=True)
        self._sent = [i for i in start if i not in self._varying]
        self._before, _ = _needed(program, self._sent, at_clients=False)
        self._after, _ = _needed(program, results, at_clients=False)
        types = program.tensors()
        sent = [types[i] for i in self._sent]
        prepare = form.jit(self._sends, [types[i] for i in known])
        client = form.jit(self._works, [*sent, *lane_types(program)])
        self.prepare = lambda known: prepare(*known)
        self.client = lambda sent, clients, i: client(*sent, *clients, i)
        self.merge = form.jit(self._merges)
        self.finish = form.jit(self._ends)

    def whole(self, known: Arrays, clients: Arrays, index: Any) -> Arrays:
        """All of it, to be compiled as one."""
        total: Arrays = ()
        if self._aggregates:
            total = self._works(*self._sends(*known), *clients, index)
        return self._ends(known, total)

    def _sends(self, *known: Any) -> Arrays:
        env = dict(zip(self._known, known, strict=True))
        return _at_server(self._before, env, self._sent)

    def _works(self, *arrays: Any) -> Arrays:
        index, start = arrays[-1], [*self._sent, *self._clients]
        env = dict(zip(start, arrays[:-1], strict=True))
        for op in self._work:
            inputs = [env[i] for i in op.inputs]
            many = [i in self._varying for i in op.inputs]
            outputs = _at_clients(op, inputs, many, index)
            env.update(zip(op.outputs, outputs, strict=True))

        def each(i):
            if i in self._varying:
                return env[i]
            shape = ops.shape(index)[0], *ops.shape(env[i])
            return ops.broadcast_to(env[i], shape)

        return tuple(
            AGGREGATES[op.kind].lanes(op, tuple(map(each, op.inputs)), index)
            for op in self._aggregates
        )

    def _merges(self, a: Arrays, b: Arrays) -> Arrays:
        triples = zip(self._aggregates, a, b, strict=True)
        return tuple(AGGREGATES[o.kind].merge(o, x, y) for o, x, y in triples)

    def _ends(self, known: Arrays, total: Arrays) -> Arrays:
        env = dict(zip(self._known, known, strict=True))
        for op, part in zip(self._aggregates, total, strict=True):
            outputs = AGGREGATES[op.kind].finish(op, part)
            env.update(zip(op.outputs, outputs, strict=True))
        return _at_server(self._after, env, self._results)


def _at_server(
    work: Iterable[Op], env: dict[int, Any], results: Iterable[int]
) -> Arrays:
    for op in work:
        if op.first not in env:
            outputs: Any = op.constants
            if op.functions:
                outputs = op.functions[0].run((), *(env[i] for i in op.inputs))
            env.update(zip(op.outputs, outputs, strict=True))
    return tuple(env[i] for i in results)


def _at_clients(op: Op, inputs: Any, many: list[bool], index: Any) -> Any:
    if op.kind == "federated_value":
        return op.constants
    if op.kind == "federated_broadcast":
        return inputs
    if op.kind == "federated_seeds":
        counter = ops.cast(index, "uint32")
        key = inputs[0][0], inputs[0][1]
        words = threefry_2x32(key, (counter, ops.zeros_like(counter)))
        return [ops.stack(words, axis=1)]
    if op.kind == "federated_select":
        keys, most, *values = inputs
        shape = ops.shape(keys)
        keys = ops.reshape(ops.clip(keys, 0, most), (-1,))
        flags = [False] * len(values) + [True]
        found = op.functions[0].run(flags, *values, keys)
        return [ops.reshape(x, (*shape, *ops.shape(x)[1:])) for x in found]
    return op.functions[0].run(many, *inputs)


def artifacts(program: Program) -> Iterator[tuple[LocalComputation, str]]:
    """The functions that a program runs, and the artifacts that do."""
    varying = _varying(program)
    for op in program.ops:
        many = [op.at_clients and i in varying for i in op.inputs]
        if op.kind == "federated_select":
            many = [False] * (len(many) - 2) + [True]
        for fn in op.functions:
            yield from ((fn, ""), (fn, lane_key(many)))


def stages(program: Program) -> list[MapSum]:
    """A computation, cut where clients wait for an aggregate."""
    level = _levels(program)
    known = program.parameter_tensors(each=False)
    found: list[MapSum] = []
    last = max([level[op.first] for op in program.ops], default=0)
    for stage in range(1, max(last, 1) + 1):
        now = [
            op
            for op in program.ops
            if op.kind in AGGREGATES and level[op.first] == stage
        ]
        outputs = [i for op in now for i in op.outputs]
        results = outputs if stage < last else list(program.results)
        found.append(MapSum(program, known, now, results))
        known = known + outputs
    return found


def asks_again(program: Program) -> Op | None:
    """The first operator by which clients wait for an aggregate."""
    level = _levels(program)
    late = (op for op in program.ops if op.at_clients and level[op.first])
    return next(late) if max(level, default=0) > 1 else None


def lane_types(program: Program) -> list[TensorType]:
    """What `client` takes after `sent`: clients' arrays, and `index`."""
    types = program.tensors()
    clients = [types[i] for i in program.parameter_tensors(each=True)]
    lanes = [TensorType(t.dtype, (None, *t.shape)) for t in clients]
    return [*lanes, TensorType("int32", (None,))]


def _levels(program: Program) -> list[int]:
    """How many aggregates, one after another, each tensor waits for."""
    level = [0] * sum(map(len, map(program.parameter_tensors, (True, False))))
    for op in program.ops:
        own = max((level[i] for i in op.inputs), default=0)
        level += [own + (op.kind in AGGREGATES)] * len(op.outputs)
    return level


def _varying(program: Program) -> set[int]:
    """The tensors that differ from client to client."""
    found = set(program.parameter_tensors(each=True))
    for op in program.ops:
        if op.kind == "federated_seeds" or found.intersection(op.inputs):
            found |= set(op.outputs) if op.at_clients else set()
    return found


def _needed(
    program: Program, wanted: Iterable[int], at_clients: bool
) -> tuple[list[Op], list[int]]:
    """Operators on one side for some tensors, and what these start from."""
    wanted, found, made = set(wanted), [], set()
    for op in reversed(program.ops):
        here = op.kind not in AGGREGATES and op.at_clients == at_clients
        if here and wanted.intersection(op.outputs):
            found.append(op)
            made |= set(op.outputs)
            wanted |= set(op.inputs)
    return found[::-1], sorted(wanted - made)
