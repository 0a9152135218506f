"""A program in the schema of federated-language, which others read.

Messages of `computation.proto` (google-parfait/federated-language 0.5.4,
Apache 2.0) are written field by field, so that neither that library nor a
version of protobuf is needed.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedlearn.core.local_computation import LocalComputation, form
from fedlearn.core.program import Op, Program
from fedlearn.core.types import (
    CLIENTS,
    SERVER,
    FederatedType,
    FunctionType,
    SequenceType,
    StructType,
    TensorType,
    Type,
    tensors,
    to_type,
)

# By dtype: its number, and that of the field of `Array` with such numbers.
_DTYPES = {
    "float32": (1, 13),
    "float64": (2, 14),
    "int32": (3, 6),
    "uint8": (4, 8),
    "int16": (5, 5),
    "int8": (6, 4),
    "complex64": (8, 15),
    "int64": (9, 7),
    "bool": (10, 3),
    "bfloat16": (14, 19),
    "uint16": (17, 9),
    "complex128": (18, 16),
    "float16": (19, 12),
    "uint32": (22, 10),
    "uint64": (23, 11),
}
_SUMS = {
    *("federated_sum", "federated_mean", "federated_min", "federated_max"),
    "federated_secure_sum",
}
# The fields of `Computation`, by what it is.
_TENSORFLOW, _INTRINSIC, _LAMBDA, _BLOCK, _REFERENCE = 2, 3, 4, 5, 6
_CALL, _STRUCT, _SELECTION, _DATA, _LITERAL = 7, 8, 9, 10, 14


def encode(program: Program) -> bytes:
    """The program as a `Computation`.

    Raises:
        ValueError: If it has what the schema has no words for.
    """
    return _Writer(program).message


class _Node(NamedTuple):
    """A `Computation`: its type, and all of it."""

    type: Any
    message: bytes


class _Writer:
    """A function of `arg`: names that are bound in turn, and a result."""

    def __init__(self, program: Program):
        self._types = program.tensors()
        self._owners: list[tuple[_Node, int]] = []  # by tensor; and its first
        self._bound: list[bytes] = []
        self._functions: dict[Any, _Node] = {}
        self._num_selections = 0
        parameters = dict(program.parameters)
        seeded = {}
        for i, op in enumerate(program.ops):
            if op.kind == "federated_seeds":
                seeded[i] = f"seeds_of_{i + 1}"
                parameters[seeded[i]] = op.type
        if len(parameters) > 1:
            t: Any = StructType(parameters)
            whole = _reference("arg", t)
            parts = [_selection(whole, i) for i in range(len(parameters))]
        else:
            t = next(iter(parameters.values()), None)
            parts = [_reference("arg", t)] * len(parameters)
        nodes = dict(zip(parameters, parts, strict=True))
        for name in program.parameters:
            self._own(nodes[name])
        for i, op in enumerate(program.ops):
            self._own(
                nodes[seeded[i]]
                if i in seeded
                else self._bind(f"x{i + 1}", self._op(op))
            )
        result = self._result(program.results, program.type)
        names = b"".join(_field(1, name) for name in self._bound)
        block = _node(result.type, _BLOCK, names + _field(2, result.message))
        self.message = _lambda("arg" if nodes else "", t, block).message

    def _own(self, node: _Node) -> None:
        count = len(tensors(node.type))
        self._owners += [(node, len(self._owners))] * count

    def _bind(self, name: str, node: _Node) -> _Node:
        self._bound.append(_field(1, name) + _field(2, node.message))
        return _reference(name, node.type)

    def _op(self, op: Op) -> _Node:
        place, inputs = op.type.placement, op.inputs
        gives: Any = op.type.member
        given = (self._types[i] for i in inputs)
        result = FederatedType(gives, place)
        equal = FederatedType(gives, place, all_equal=True)
        at_place = f"{op.kind}_at_{place.lower()}"
        parameters: list[Any] = [fn.type.parameter for fn in op.functions]
        match op.kind:
            case "federated_value":
                value = _constant(gives, iter(op.constants))
                return _call(at_place, [value], equal)
            case "federated_eval":
                fn = self._function(op.functions[0], None, gives)
                return _call(at_place, [fn], result)
            case "federated_broadcast":
                return _call(
                    op.kind, [self._value(inputs, gives, SERVER)], equal
                )
            case "federated_map" | "federated_apply":
                takes = _shaped(parameters[0], given)
                value = self._value(inputs, takes, place)
                fn = self._function(op.functions[0], takes, gives)
                return _map(fn, value)
            case "federated_select":
                keys, most = next(given), next(given)
                source = _shaped(parameters[0].elements[0], given)
                takes = StructType([source, "int32"])
                parts = [
                    self._value(inputs[:1], keys, CLIENTS),
                    self._value(inputs[1:2], most, SERVER),
                    self._value(inputs[2:], source, SERVER),
                    self._function(op.functions[0], takes, gives.element),
                ]
                return _call(op.kind, parts, result)
            case "federated_aggregate":
                of = _shaped(parameters[0].elements[1], given)
                constants = map(to_type, op.constants)
                total = _shaped(parameters[0].elements[0], constants)
                takes = [StructType([total, of]), StructType([total] * 2)]
                types = [*takes, total], [total, total, gives]
                parts = [
                    self._value(inputs, of, CLIENTS),
                    _constant(total, iter(op.constants)),
                    *map(self._function, op.functions, *types),
                ]
                return _call(op.kind, parts, result)
        if op.kind not in _SUMS:
            raise ValueError(
                f"federated-language has no {op.kind}, which is at {op.source}."
            )
        # Of a value, and perhaps weights or bounds.
        count, kind = len(tensors(gives)), op.kind
        parts = [self._value(inputs[:count], gives, CLIENTS)]
        if inputs[count:]:
            kind = "federated_weighted_mean"
            t = self._types[inputs[count]]
            parts.append(self._value(inputs[count:], t, CLIENTS))
        if op.constants:
            parts.append(_bound(op, gives))
        return _call(kind, parts, result)

    def _function(self, fn: LocalComputation, takes: Any, gives: Any) -> _Node:
        t = FunctionType(takes, gives)
        key = fn, str(t)
        if key not in self._functions:
            data = fn.artifact("")
            form.check(data)
            name = f"fn{len(self._functions) + 1}_{fn.__name__}"
            self._functions[key] = self._bind(name, _artifact(t, data))
        return self._functions[key]

    def _value(self, numbers: Sequence[int], t: Type, place: str) -> _Node:
        """Tensors in one place as one value with members of a type."""
        start, count = (*numbers, 0)[0], len(numbers)
        if count and tuple(numbers) == tuple(range(start, start + count)):
            owner, first = self._owners[start]
            path = _path(owner.type.member, start - first, t)
            if path is not None:
                return self._selected(owner, path)
        parts = [self._value(n, e, place) for n, e in _split(numbers, t)]
        at_place = f"at_{place.lower()}"
        if not parts:
            nothing = FederatedType(t, place, all_equal=True)
            return _call(f"federated_value_{at_place}", [_struct([])], nothing)
        zipped = _struct(parts, getattr(t, "names", None))
        result = FederatedType(t, place)
        return _call(f"federated_zip_{at_place}", [zipped], result)

    def _selected(self, node: _Node, path: tuple[int, ...]) -> _Node:
        """A part of a value, by a map: `federated` has no selections."""
        if not path:
            return node
        self._num_selections += 1
        name, t = f"s{self._num_selections}", node.type.member
        part = _reference(name, t)
        for i in path:
            part = _selection(part, i)
        return _map(_lambda(name, t, part), node)

    def _result(self, numbers: Sequence[int], t: Any) -> _Node:
        if isinstance(t, FederatedType):
            return self._value(numbers, t.member, t.placement)
        parts = [self._result(n, e) for n, e in _split(numbers, t)]
        return _struct(parts, t.names)


def _path(t: Any, at: int, wanted: Type) -> tuple[int, ...] | None:
    """To the part of a type that begins with its tensor `at`; None if none."""
    same = t == wanted
    if not isinstance(wanted, StructType):
        same = same or wanted.takes(t)  # examples without names
    if at == 0 and same:
        return ()
    for i, element in enumerate(getattr(t, "elements", ())):
        count = len(tensors(element))
        if at < count:
            path = _path(element, at, wanted)
            return None if path is None else (i, *path)
        at -= count
    return None


def _shaped(t: Any, given: Iterator[Any]) -> Any:
    """A type with the shapes of what is given for it."""

    def shaped(tensor: TensorType) -> TensorType:
        shape = next(given).shape  # of a sequence, with how many there are
        return TensorType(tensor.dtype, shape[len(shape) - len(tensor.shape) :])

    return t.map(shaped)


def _split(numbers: Sequence[int], t: Any) -> Iterator[tuple[Any, Type]]:
    """The elements of a structure, with their tensors."""
    start = 0
    for element in t.elements:
        end = start + len(tensors(element))
        yield numbers[start:end], element
        start = end


def _bound(op: Op, t: Any) -> _Node:
    """The bound of a secure sum, for each tensor."""
    most, mask = map(int, op.constants)
    if mask != 2**31 - 1:
        raise ValueError(
            f"{op.kind} at {op.source} has a modulus of its own, for which "
            "federated-language has no word. Leave `modulus_bits` at 31."
        )
    bounds = [np.array(most, x.dtype) for x in tensors(t)]
    return _constant(_shaped(t, map(to_type, bounds)), iter(bounds))


def _map(fn: _Node, value: _Node) -> _Node:
    t = value.type
    result = FederatedType(fn.type.result, t.placement, t.all_equal)
    kind = "federated_apply"
    if t.placement == CLIENTS:
        kind = "federated_map" + "_all_equal" * t.all_equal
    return _call(kind, [fn, value], result)


def _call(kind: str, parts: Sequence[_Node], result: Any) -> _Node:
    given = parts[0] if len(parts) == 1 else _struct(parts)
    takes = given.type
    if kind != "federated_map_all_equal":
        takes = _apart(takes)
    intrinsic = _node(FunctionType(takes, result), _INTRINSIC, _field(1, kind))
    body = _field(1, intrinsic.message) + _field(2, given.message)
    return _node(result, _CALL, body)


def _apart(t: Any) -> Any:
    """A type whose values at clients may differ."""
    if isinstance(t, StructType):
        return t.like([_apart(e) for e in t.elements])
    if isinstance(t, FederatedType):
        return FederatedType(t.member, t.placement)
    return t


def _lambda(name: str, takes: Any, result: _Node) -> _Node:
    body = _field(1, name) + _field(2, result.message)
    return _node(FunctionType(takes, result.type), _LAMBDA, body)


def _reference(name: str, t: Any) -> _Node:
    return _node(t, _REFERENCE, _field(1, name))


def _selection(source: _Node, i: int) -> _Node:
    body = _field(1, source.message) + _field(3, i)
    return _node(source.type.elements[i], _SELECTION, body)


def _struct(
    parts: Sequence[_Node], names: Sequence[str] | None = None
) -> _Node:
    types: Any = [p.type for p in parts]
    if names is not None:
        types = dict(zip(names, types, strict=True))
    pairs = zip(names or [""] * len(parts), parts, strict=True)
    elements = (_field(1, n) + _field(2, p.message) for n, p in pairs)
    body = b"".join(_field(1, element) for element in elements)
    return _node(StructType(types), _STRUCT, body)


def _constant(t: Any, values: Iterator[np.ndarray]) -> _Node:
    if isinstance(t, StructType):
        return _struct([_constant(e, values) for e in t.elements], t.names)
    array = np.asarray(next(values))
    number, numbers = _dtype(t)
    if array.dtype.itemsize == 2 and array.dtype.kind not in "iu":
        array = array.view(np.uint16)
    if array.dtype.kind in "fc":
        content = array.astype(array.dtype.newbyteorder("<")).tobytes()
    else:
        content = b"".join(map(_varint, array.ravel().tolist()))
    shape = _packed(1, array.shape)
    body = _field(1, number) + _field(2, shape)
    body += _field(numbers, _field(1, content) if content else b"")
    return _node(t, _LITERAL, _field(1, body))


def _artifact(t: FunctionType, data: bytes) -> _Node:
    """A function: a graph of tensors as TensorFlow's, or else as data."""
    if form.NAME == "graph_def" and "*" not in str(t):
        inputs, outputs, graph = form.parts(data)  # type: ignore[attr-defined]
        text = graph.SerializeToString(deterministic=True)
        url = "type.googleapis.com/tensorflow.GraphDef"
        body = _field(1, _field(1, url) + _field(2, text))
        if t.parameter is not None:
            body += _field(2, _binding(t.parameter, iter(inputs)))
        body += _field(3, _binding(t.result, iter(outputs)))
        return _node(t, _TENSORFLOW, body)
    message = _field(1, f"fedlearn/{form.NAME}") + _field(2, data)
    return _node(t, _DATA, _field(3, message))


def _binding(t: Any, names: Iterator[str]) -> bytes:
    if isinstance(t, StructType):
        parts = (_field(1, _binding(e, names)) for e in t.elements)
        return _field(1, b"".join(parts))
    return _field(2, _field(1, next(names)))


def _node(t: Any, what: int, body: bytes) -> _Node:
    return _Node(t, _field(1, _type(t)) + _field(what, body))


@functools.lru_cache(1024)
def _type(t: Any) -> bytes:
    """A `Type`. Dimensions that have names are unknown."""
    match t:
        case TensorType():
            sizes = [s if isinstance(s, int) else -1 for s in t.shape]
            return _field(4, _field(1, _dtype(t)[0]) + _packed(2, sizes))
        case StructType():
            pairs = zip(
                t.names or [""] * len(t.elements), t.elements, strict=True
            )
            elements = (_field(1, n) + _field(2, _type(e)) for n, e in pairs)
            return _field(2, b"".join(_field(1, e) for e in elements))
        case SequenceType():
            return _field(3, _field(1, _type(t.element)))
        case FederatedType():
            place = _field(2, _field(1, t.placement.lower()))
            body = _field(1, place) + _field(2, int(t.all_equal))
            return _field(7, body + _field(3, _type(t.member)))
    body = _field(2, _type(t.result))
    if t.parameter is not None:
        body = _field(1, _type(t.parameter)) + body
    return _field(1, body)


def _dtype(t: TensorType) -> tuple[int, int]:
    if t.dtype.name not in _DTYPES:
        raise ValueError(f"federated-language has no {t}.")
    return _DTYPES[t.dtype.name]


def _field(number: int, value: int | str | bytes) -> bytes:
    """A field of a message; none where it is as if it weren't there."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value) if value else b""
    if isinstance(value, str):
        if not value:
            return b""
        value = value.encode()
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _packed(number: int, values: Sequence[int]) -> bytes:
    """A field of whole numbers."""
    return _field(number, b"".join(map(_varint, values))) if values else b""


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; negative ones have 64."""
    number &= 2**64 - 1
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])
