"""The types of the language: what a value is, and where."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from fedlearn.data.federated_dataset import FederatedDataset

_NAME = r"[^=<>,(){}@*\s]+"
_TOKEN = re.compile(rf"{_NAME}=| -> |@\w+|\w+(\[[\w,?]*\])?|.", re.DOTALL)
CLIENTS, SERVER = "CLIENTS", "SERVER"


class Type:
    """A type. Its text is the field's notation; types of one text are equal."""

    parts: tuple["Type", ...] = ()  # what it is made of

    def takes(self, other: "Type") -> bool:
        """Whether a value of type `other` can be used where this is wanted.

        As in federated-language: a named structure takes one without names,
        but not the other way round; what is equal at all clients is taken for
        what may differ. A dimension None takes any; so does a name, but not
        two lengths at once.
        """
        return not self.difference(other)

    def difference(
        self, other: "Type", sizes: dict[str, Any] | None = None, at: str = ""
    ) -> str:
        """Where it doesn't: the element and both sides; "" if it does.

        The lengths that names are found to have are put into `sizes`.
        """
        if type(self) is not type(other):
            return _unlike(at, self, other)
        return self._difference(other, {} if sizes is None else sizes, at)

    def _difference(self, other: Any, sizes: dict[str, Any], at: str) -> str:
        """The same of two of one kind."""
        return self.parts[0].difference(other.parts[0], sizes, at)

    def like(self, parts: Sequence[Any]) -> Any:
        """The type with other parts."""
        raise NotImplementedError

    def map(self, fn: Callable[["TensorType"], "TensorType"]) -> Any:
        """The type with other tensors."""
        return self.like([part.map(fn) for part in self.parts])

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
        try:
            self.dtype = np.dtype(getattr(ml_dtypes, name, dtype))
        except TypeError:
            raise TypeError(f"There is no dtype {dtype!r}.") from None
        self.shape = tuple(shape)
        named = [s for s in self.shape if isinstance(s, str)]
        if self.dtype.kind not in "biufcV" or self.dtype.fields:
            raise TypeError(f"Tensors are of numbers. Received: {dtype!r}.")
        if not all(map(str.isidentifier, named)):
            raise ValueError(f"A dimension can't have such a name: {named}.")
        sizes = ",".join("?" if s is None else str(s) for s in self.shape)
        self._text = self.dtype.name + (f"[{sizes}]" if sizes else "")

    def __str__(self) -> str:
        return self._text

    def map(self, fn):
        return fn(self)

    def _difference(self, other, sizes, at):
        def fits(expected, received):
            if isinstance(expected, str) and received is not None:
                return sizes.setdefault(expected, received) == received
            return not isinstance(expected, int) or expected == received

        if (
            self.dtype == other.dtype
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
        self.elements = self.parts = tuple(map(to_type, elements))
        for name in self.names or ():
            if not re.fullmatch(_NAME, name):
                raise ValueError(f"An element can't be named {name!r}.")

    def __str__(self) -> str:
        parts = (f"{n}={e}" if self.names else str(e) for n, e in self.items())
        return f"<{','.join(parts)}>"

    def items(self) -> Iterator[tuple[str, Type]]:
        """Elements by their names, or their numbers in brackets."""
        names = self.names or [f"[{i}]" for i in range(len(self.elements))]
        return zip(names, self.elements, strict=True)

    def like(self, parts):
        if self.names is None:
            return StructType(parts)
        return StructType(dict(zip(self.names, parts, strict=True)))

    def _difference(self, other, sizes, at):
        if len(self.elements) != len(other.elements):
            return _unlike(at, self, other)
        theirs = other.names or self.names or ("",) * len(self.elements)
        pairs = zip(self.items(), theirs, other.elements, strict=True)
        for (name, element), their_name, their_element in pairs:
            here = f"{at}.{name}" if at and self.names else at + name
            if their_name != (name if self.names else ""):
                own = name if self.names else "no name"
                return _unlike(here, f"an element of {own}", their_name)
            if found := element.difference(their_element, sizes, here):
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
        self.parts = (self.element,)

    def __str__(self) -> str:
        return f"{self.element}*"

    def like(self, parts):
        return SequenceType(parts[0])


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
        self.parts = (self.member,)
        self.all_equal = placement == SERVER if all_equal is None else all_equal
        if placement not in (CLIENTS, SERVER):
            raise ValueError(f"There is CLIENTS and SERVER, no {placement!r}.")
        if "@" in str(self.member):
            raise TypeError(f"A federated value can't hold {self.member}.")

    def __str__(self) -> str:
        member = str(self.member) if self.all_equal else f"{{{self.member}}}"
        return f"{member}@{self.placement}"

    def like(self, parts):
        return FederatedType(parts[0], self.placement, self.all_equal)

    def _difference(self, other, sizes, at):
        unequal = self.all_equal and not other.all_equal
        if other.placement != self.placement or unequal:
            return _unlike(at, self, other)
        return super()._difference(other, sizes, at)


class FunctionType(Type):
    """A computation; `parameter` is None for one without.

    >>> FunctionType(["float32", "float32"], "bool")
    (<float32,float32> -> bool)
    """

    def __init__(self, parameter: Any, result: Any):
        self.parameter = None if parameter is None else to_type(parameter)
        self.result = to_type(result)

    def __str__(self) -> str:
        return f"({self.parameter or ''} -> {self.result})"

    def _difference(self, other, sizes, at):
        ours, theirs = self.parameter, other.parameter
        if (ours and theirs and theirs.takes(ours)) or ours is theirs:
            return self.result.difference(other.result, sizes, at)
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
    if hasattr(spec, "shape") and not isinstance(spec, type):
        return TensorType(spec.dtype, tuple(spec.shape))
    match spec:
        case str() if not spec.isidentifier():
            tokens = [m[0] for m in _TOKEN.finditer(spec)]
            t = _parsed([*3 * [""], *reversed(tokens)])  # the end is empty
            if str(t) != spec:
                raise TypeError(f"No type: {spec!r}. Is it {t}?")
            return t
        case FederatedDataset():
            stacked = to_type(spec[spec.client_ids[0]])
            one = stacked.map(lambda t: TensorType(t.dtype, t.shape[1:]))
            return FederatedType(SequenceType(one), CLIENTS)
        case (str() | type() | np.dtype() as dtype, list() | tuple() as shape):
            if all(s is None or isinstance(s, (int, str)) for s in shape):
                return TensorType(dtype, shape)
            return StructType(spec)
        case Mapping() | list() | tuple():
            return StructType(spec)
        case bool() | int() | float():
            names = {bool: "bool", int: "int32", float: "float32"}
            return TensorType(names[type(spec)])
    return TensorType(spec)


def _parsed(tokens: list[str]) -> Type:
    """The type at the end of a reversed list, from which it is taken.

    It goes on where something is missing: the text of what it finds differs.
    """
    t: Type
    token = tokens.pop()
    if token == "<":
        names, elements = [], []
        while tokens[-1] != ">":
            if tokens[-1].endswith("="):
                names.append(tokens.pop()[:-1])
            elements.append(_parsed(tokens))
            if tokens[-1] == ",":
                tokens.pop()
        tokens.pop()
        pairs = dict(zip(names, elements, strict=True)) if names else elements
        t = StructType(pairs)
    elif token == "(":
        parameter = None if tokens[-1] == " -> " else _parsed(tokens)
        tokens.pop()
        t = FunctionType(parameter, _parsed(tokens))
        tokens.pop()
    elif token == "{":
        t = _parsed(tokens)
        tokens.pop()
        t = FederatedType(t, tokens.pop()[1:], False)
    else:
        if not token[:1].isalpha():
            raise TypeError(f"No type begins with {token!r}.")
        dtype, _, sizes = token.rstrip("]").partition("[")
        shape = [
            int(s) if s.isdigit() else None if s == "?" else s
            for s in filter(None, sizes.split(","))
        ]
        t = TensorType(dtype, shape)
    if tokens[-1] == "*":
        tokens.pop()
        t = SequenceType(t)
    if tokens[-1].startswith("@"):
        t = FederatedType(t, tokens.pop()[1:], True)
    return t


def tensors(t: Type | None) -> list[TensorType]:
    """The arrays that a value of a type is made of, in order.

    Those of a sequence have one dimension more, named for the sequence.
    """
    found: list[TensorType] = []

    def visit(t: Type, lead: tuple[str, ...]) -> None:
        if isinstance(t, TensorType):
            found.append(TensorType(t.dtype, (*lead, *t.shape)) if lead else t)
        if isinstance(t, SequenceType):
            lead = *lead, f"examples_{len(found)}"
        for part in t.parts:
            visit(part, lead)

    if t is not None:
        visit(t, ())
    return found


def dimension_names(types: Sequence[TensorType]) -> list[str]:
    """The names of dimensions, without those of sequences."""
    sizes = dict.fromkeys(s for t in types for s in t.shape)
    names = [s for s in sizes if isinstance(s, str)]
    return [s for s in names if not s.startswith("examples_")]


def sized(t: Any, sizes: Mapping[str, Any]) -> Any:
    """A type with the lengths that its names have where it is used."""

    def sized_tensor(t: TensorType) -> TensorType:
        shape = [sizes.get(s) if isinstance(s, str) else s for s in t.shape]
        return t if shape == list(t.shape) else TensorType(t.dtype, shape)

    return t.map(sized_tensor)


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
