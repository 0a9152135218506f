"""Values of a computation while it is written down."""

import functools
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, NoReturn

import numpy as np

from fedlearn.core.federated_type_error import FederatedTypeError, users_line
from fedlearn.core.program import Op
from fedlearn.core.structure import children
from fedlearn.core.types import (
    SERVER,
    FederatedType,
    StructType,
    Type,
    tensors,
    zipped,
)


class Trace:
    """A computation that is being written down."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self._num_tensors = 0

    def new(self, t: Type) -> "Value":
        """A value of tensors with the next numbers."""
        start = self._num_tensors
        self._num_tensors += len(tensors(t))
        return Value(t, tuple(range(start, self._num_tensors)), self)


tracing: ContextVar[Trace | None] = ContextVar("tracing", default=None)


class Value:
    """A value of which only the type is known.

    Elements of a structure are items and attributes (`value.x`, `value["x"]`,
    `value[0]`), and it can be unpacked.
    """

    def __init__(self, type_: Type, numbers: tuple[int, ...], of: Any = None):
        self.type, self.numbers = type_, numbers
        self._of = of or tracing.get()

    def __repr__(self) -> str:
        return f"<value of type {self.type}>"

    @functools.cached_property
    def _elements(self) -> "dict[str, Value]":
        t, start, found = self.type, 0, {}
        member = t.member if isinstance(t, FederatedType) else t
        if not isinstance(member, StructType):
            raise FederatedTypeError(f"{t} has no elements.")
        for name, e in member.items():
            end = start + len(tensors(e))
            e = t.like([e]) if isinstance(t, FederatedType) else e
            found[name] = Value(e, self.numbers[start:end], self._of)
            start = end
        return found

    def __getitem__(self, key: int | str) -> "Value":
        found = self._elements
        if isinstance(key, str) and key in found:
            return found[key]
        if isinstance(key, int) and -len(found) <= key < len(found):
            return list(found.values())[key]
        raise FederatedTypeError(f"{self.type} has no element {key!r}.")

    def __getattr__(self, name: str) -> "Value":
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __len__(self) -> int:
        return len(self._elements)

    def __iter__(self) -> Any:
        return iter(self._elements.values())

    def _refuse(self, *_: Any) -> NoReturn:
        raise FederatedTypeError(
            f"A value of type {self.type} can't be looked at or computed with "
            "here: this function only writes down what happens where. Map a "
            "function that computes: federated_map(lambda x: ..., value)."
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
    __truediv__ = __rtruediv__ = __pow__ = __matmul__ = __neg__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __and__ = __or__ = __invert__ = _refuse
    __bool__ = __float__ = __int__ = __index__ = __array__ = _refuse
    __eq__ = __ne__ = _refuse
    __hash__ = object.__hash__


def as_value(x: Any, what: str) -> Value:
    """A value, or a dict, list or tuple of values, as one value."""
    if isinstance(x, Value):
        if x._of is not tracing.get():
            raise FederatedTypeError(
                f"{what} is a value of another computation. Make it a "
                "parameter of this one."
            )
        return x
    if isinstance(x, (Mapping, list, tuple)):
        values = [as_value(v, what) for v in children(x)]
        types: Any = [v.type for v in values]
        if isinstance(x, Mapping):
            types = dict(zip(x, types, strict=True))
        numbers = tuple(n for v in values for n in v.numbers)
        return Value(StructType(types), numbers)
    is_number = isinstance(x, (bool, int, float, np.ndarray, np.generic))
    raise FederatedTypeError(
        f"{what} must be a value of the computation. Received: {x!r}."
        + " Say where it is: federated_value(..., SERVER)." * is_number
    )


def federated(
    x: Any, name: str, operator: str, placement: str | None = None
) -> tuple[Value, FederatedType]:
    """A value that is in one place, and its type."""
    what = f"`{name}` of {operator}"
    value = as_value(x, what)
    t = zipped(value.type)
    if t is not None and placement in (None, t.placement):
        return Value(t, value.numbers), t
    hint = ""
    if placement == SERVER:
        hint = "\nAggregate it first: federated_mean(...), federated_sum(...)."
    elif f"@{SERVER}" in str(value.type):
        hint = "\nSend the server's to the clients: federated_broadcast(...)."
    if isinstance(value.type, StructType):
        received = [f"\n  {n}: {e}" for n, e in value.type.items()]
    else:
        received = [str(value.type)]
    raise FederatedTypeError(
        f"{what} must be at {placement or 'one place'}. Received: "
        f"{''.join(received)}{hint}"
    )


def emit(
    kind: str,
    type_: FederatedType,
    *inputs: Value,
    functions: Any = (),
    constants: Any = (),
) -> Value:
    """Writes down an operator, and gives what it gives."""
    trace = tracing.get()
    if trace is None:
        raise FederatedTypeError(
            f"{kind} can only be used inside of a federated computation: "
            "decorate a function with @fl.core.federated_computation(...)."
        )
    if not tensors(type_):
        raise FederatedTypeError(f"There is nothing in what {kind} gives.")
    given = tuple(n for value in inputs for n in value.numbers)
    line = users_line().rpartition("/")[2]  # its folders are no one's business
    new = trace.new(type_)
    fns, arrays = tuple(functions), tuple(constants)
    trace.ops.append(Op(kind, fns, given, arrays, type_, new.numbers[0], line))
    return new
