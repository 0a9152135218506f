"""The types of the language: what a value is, and where."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from fedlearn.data.federated_dataset import FederatedDataset

_NAME = r"[^=<>,(){}@*\s]+"
_NAMED = re.compile(f"({_NAME})=")
_PLACE = re.compile("@(CLIENTS|SERVER)")
_TENSOR = re.compile(r"(\w+)(?:\[([\w,?]*)\])?")
CLIENTS, SERVER = "CLIENTS", "SERVER"


class Type:
    """A type. Its text is the field's notation; types of one text are equal."""

    def takes(self, other: "Type") -> bool:
        """Whether a value of type `other` can be used where this is wanted.

        As in federated-language: a named structure takes one without names,
        but not the other way round; what is equal at all clients is taken for
        what may differ. A dimension None takes any; so does a name, but not
        two lengths at once.
        """
        return not self.difference(other)

    def difference(
        self, other: "Type", sizes: dict[str, Any] | None = None
    ) -> str:
        """Where it doesn't: the element and both sides; "" if it does.

        The lengths that names are found to have are put into `sizes`.
        """
        return self._difference(other, "", {} if sizes is None else sizes)

    def _difference(self, other: Any, at: str, sizes: dict[str, Any]) -> str:
        """`sizes`: the lengths that names were found to have."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __repr__(self) -> str:
        return str(self)


class TensorType(Type):
    """An array of numbers.

    Args:
        dtype: A dtype, or its name.
        shape: For each dimension its length, None for any, or a name:
            dimensions of one name are of one length, which may differ from
            client to client.

    >>> TensorType("float32", ("n", 20))
    float32[n,20]
    """

    def __init__(self, dtype: Any, shape: Sequence[int | str | None] = ()):
        name = str(getattr(dtype, "name", dtype))
        self.dtype = np.dtype(getattr(ml_dtypes, name, dtype))
        self.shape = tuple(shape)
        named = [s for s in self.shape if isinstance(s, str)]
        if self.dtype.kind not in "biufcV" or self.dtype.fields:
            raise TypeError(f"Tensors are of numbers. Received: {dtype!r}.")
        if not all(map(str.isidentifier, named)):
            raise ValueError(f"A dimension can't have such a name: {named}.")

    def __str__(self) -> str:
        sizes = ",".join("?" if s is None else str(s) for s in self.shape)
        return f"{self.dtype.name}[{sizes}]" if sizes else self.dtype.name

    def _difference(self, other, at, sizes):
        def fits(expected, received):
            if isinstance(expected, str) and received is not None:
                return sizes.setdefault(expected, received) == received
            return not isinstance(expected, int) or expected == received

        if (
            isinstance(other, TensorType)
            and self.dtype == other.dtype
            and len(self.shape) == len(other.shape)
            and all(map(fits, self.shape, other.shape))
        ):
            return ""
        wanted = TensorType(self.dtype, [sizes.get(s, s) for s in self.shape])
        return _unlike(at, wanted, other)


class StructType(Type):
    """Several values: all of them with names (of a dict), or none.

    >>> StructType({"x": ("float32", (3,)), "y": "int32"})
    <x=float32[3],y=int32>
    """

    def __init__(self, elements: Mapping[str, Any] | Sequence[Any]):
        self.names: tuple[str, ...] | None = None
        if isinstance(elements, Mapping):
            self.names, elements = tuple(elements), list(elements.values())
        self.elements = tuple(map(to_type, elements))
        for name in self.names or ():
            if not re.fullmatch(_NAME, name):
                raise ValueError(f"An element can't be named {name!r}.")

    def items(self) -> Iterator[tuple[str, Type]]:
        """Elements by their names, or their numbers in brackets."""
        names = self.names or [f"[{i}]" for i in range(len(self.elements))]
        return zip(names, self.elements, strict=True)

    def like(self, elements: Sequence[Type]) -> "StructType":
        """Other elements of the same names."""
        if self.names is None:
            return StructType(elements)
        return StructType(dict(zip(self.names, elements, strict=True)))

    def __str__(self) -> str:
        parts = (f"{n}={e}" if self.names else str(e) for n, e in self.items())
        return f"<{','.join(parts)}>"

    def _difference(self, other, at, sizes):
        if not isinstance(other, StructType) or len(self.elements) != len(
            other.elements
        ):
            return _unlike(at, self, other)
        theirs = other.names or self.names or ("",) * len(self.elements)
        pairs = zip(self.items(), theirs, other.elements, strict=True)
        for (name, element), their_name, their_element in pairs:
            here = f"{at}.{name}" if at and self.names else at + name
            if their_name != (name if self.names else ""):
                own = name if self.names else "no name"
                return _unlike(here, f"an element of {own}", their_name)
            found = element._difference(their_element, here, sizes)
            if found:
                return found
        return ""


class SequenceType(Type):
    """Any number of values of one type, such as the examples of a client.

    A local computation sees them stacked: of `<x=float32[20],y=int32>*` an `x`
    of shape `(n, 20)` and a `y` of shape `(n,)`.

    >>> SequenceType({"x": ("float32", (20,)), "y": "int32"})
    <x=float32[20],y=int32>*
    """

    def __init__(self, element: Any):
        self.element = to_type(element)

    def __str__(self) -> str:
        return f"{self.element}*"

    def _difference(self, other, at, sizes):
        if not isinstance(other, SequenceType):
            return _unlike(at, self, other)
        return self.element._difference(other.element, at, sizes)


class FederatedType(Type):
    """A value at the server, or one at each client.

    Args:
        member: The type of a single value.
        placement: `CLIENTS` or `SERVER`.
        all_equal: Whether all clients have the same; the server has one.

    >>> FederatedType("float32", CLIENTS), FederatedType("float32", SERVER)
    ({float32}@CLIENTS, float32@SERVER)
    """

    def __init__(
        self, member: Any, placement: str, all_equal: bool | None = None
    ):
        self.member, self.placement = to_type(member), placement
        self.all_equal = placement == SERVER if all_equal is None else all_equal
        if placement not in (CLIENTS, SERVER):
            raise ValueError(f"There is CLIENTS and SERVER, no {placement!r}.")
        if "@" in str(self.member):
            raise TypeError(f"A federated value can't hold {self.member}.")

    def __str__(self) -> str:
        member = str(self.member) if self.all_equal else f"{{{self.member}}}"
        return f"{member}@{self.placement}"

    def _difference(self, other, at, sizes):
        if (
            not isinstance(other, FederatedType)
            or other.placement != self.placement
            or (self.all_equal and not other.all_equal)
        ):
            return _unlike(at, self, other)
        return self.member._difference(other.member, at, sizes)


class FunctionType(Type):
    """A computation; `parameter` is None for one without.

    >>> FunctionType(["float32", "float32"], "bool")
    (<float32,float32> -> bool)
    """

    def __init__(self, parameter: Any, result: Any):
        self.parameter = None if parameter is None else to_type(parameter)
        self.result = to_type(result)

    def __str__(self) -> str:
        parameter = "" if self.parameter is None else self.parameter
        return f"({parameter} -> {self.result})"

    def _difference(self, other, at, sizes):
        if isinstance(other, FunctionType):
            ours, theirs = self.parameter, other.parameter
            if ours is None or theirs is None:
                fits = ours is theirs
            else:
                fits = theirs.takes(ours)
            if fits:
                return self.result._difference(other.result, at, sizes)
        return _unlike(at, self, other)


def _unlike(at: str, expected: Any, received: Any) -> str:
    place = f" in `{at}`" if at else ""
    return f"{place}:\n  expected  {expected}\n  received  {received}"


def to_type(spec: Any) -> Type:
    """The type that something stands for.

    Args:
        spec: A type or its text; a dtype; `(dtype, shape)`; a number, array,
            variable or tensor spec; a dict, list or tuple of these; or a
            `FederatedDataset`, whose clients have sequences of examples.

    >>> to_type([("float32", (20, 16)), {"rate": "float32"}])
    <float32[20,16],<rate=float32>>
    >>> to_type("{<x=float32[n,20],y=int32[n]>}@CLIENTS").member.names
    ('x', 'y')
    """
    if isinstance(spec, Type):
        return spec
    if isinstance(spec, str):
        t, end = _parsed(spec)
        if end < len(spec):
            raise TypeError(f"No type: {spec!r}, from {spec[end:]!r} on.")
        return t
    if isinstance(spec, FederatedDataset):
        first = spec[spec.client_ids[0]]
        return FederatedType(SequenceType(_element(to_type(first))), CLIENTS)
    if isinstance(spec, Mapping):
        return StructType(spec)
    if isinstance(spec, (list, tuple)):
        match spec:
            case (str() | type() | np.dtype() as dtype, list() | tuple() as s):
                if all(x is None or isinstance(x, (int, str)) for x in s):
                    return TensorType(dtype, s)
        return StructType(spec)
    if hasattr(spec, "shape") and not isinstance(spec, type):
        return TensorType(spec.dtype, tuple(spec.shape))
    if isinstance(spec, (bool, int, float)):
        names = {bool: "bool", int: "int32", float: "float32"}
        return TensorType(names[type(spec)])
    return TensorType(spec)


def _parsed(text: str, at: int = 0) -> tuple[Type, int]:
    """The type that a text has from a place on, and the place after it."""
    t: Type
    if text[at : at + 1] == "<":
        names, elements = [], []
        at += 1
        while text[at : at + 1] != ">":
            if named := _NAMED.match(text, at):
                names.append(named[1])
                at = named.end()
            element, at = _parsed(text, at)
            elements.append(element)
            at += text.startswith(",", at)
        pairs = dict(zip(names, elements, strict=True)) if names else elements
        t, at = StructType(pairs), at + 1
    elif text[at : at + 1] == "(":
        parameter, at = None, at + 1
        if not text.startswith(" ", at):
            parameter, at = _parsed(text, at)
        result, at = _parsed(text, at + 4 * text.startswith(" -> ", at))
        return FunctionType(parameter, result), at + text.startswith(")", at)
    elif text[at : at + 1] == "{":
        t, at = _parsed(text, at + 1)
        place = _PLACE.match(text, at + text.startswith("}", at))
        if not place:
            raise TypeError(f"No type: a place is missing in {text:.100}.")
        return FederatedType(t, place[1], False), place.end()
    else:
        tensor = _TENSOR.match(text, at)
        if not tensor:
            raise TypeError(f"No type: {text[at : at + 100]!r}.")
        sizes = tensor[2].split(",") if tensor[2] else []
        shape = [
            int(s) if s.isdigit() else None if s == "?" else s for s in sizes
        ]
        t, at = TensorType(tensor[1], shape), tensor.end()
    if text.startswith("*", at):
        t, at = SequenceType(t), at + 1
    if place := _PLACE.match(text, at):
        t, at = FederatedType(t, place[1], True), place.end()
    return t, at


def _element(t: Type) -> Type:
    """The type of one example, of that of all."""
    if isinstance(t, StructType):
        return t.like([_element(e) for e in t.elements])
    assert isinstance(t, TensorType)
    return TensorType(t.dtype, t.shape[1:])


def tensors(t: Type | None) -> list[TensorType]:
    """The arrays that a value of a type is made of, in order.

    Those of a sequence have one dimension more, named for the sequence.
    """
    found: list[TensorType] = []

    def visit(t: Any, lead: tuple[str, ...]) -> None:
        if isinstance(t, TensorType):
            found.append(TensorType(t.dtype, (*lead, *t.shape)) if lead else t)
        elif isinstance(t, StructType):
            for element in t.elements:
                visit(element, lead)
        elif isinstance(t, FederatedType):
            visit(t.member, lead)
        elif isinstance(t, SequenceType):
            visit(t.element, (*lead, f"examples_{len(found)}"))

    visit(t, ())
    return found


def sized(t: Any, sizes: Mapping[str, Any]) -> Any:
    """A type with the lengths that its names have where it is used."""
    if isinstance(t, TensorType):
        shape = [sizes.get(s) if isinstance(s, str) else s for s in t.shape]
        return TensorType(t.dtype, shape)
    if isinstance(t, StructType):
        return t.like([sized(e, sizes) for e in t.elements])
    if isinstance(t, SequenceType):
        return SequenceType(sized(t.element, sizes))
    return FederatedType(sized(t.member, sizes), t.placement, t.all_equal)


def zipped(t: Type) -> FederatedType | None:
    """The type of a structure of federated values as one, or None."""
    if isinstance(t, FederatedType):
        return t
    if not isinstance(t, StructType) or not t.elements:
        return None
    found = [f for f in map(zipped, t.elements) if f is not None]
    if len(found) < len(t.elements) or len({f.placement for f in found}) > 1:
        return None
    equal = all(f.all_equal for f in found)
    member = t.like([f.member for f in found])
    return FederatedType(member, found[0].placement, equal)
