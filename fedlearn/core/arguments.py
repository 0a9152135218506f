"""What a computation is called with: checked, and in blocks of clients."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedlearn.core.local_computation import form
from fedlearn.core.program import Program
from fedlearn.core.structure import flatten
from fedlearn.core.types import (
    CLIENTS,
    FederatedType,
    StructType,
    TensorType,
    Type,
    tensors,
)
from fedlearn.data.federated_dataset import FederatedDataset

_BLOCK_BYTES = 2**27  # of arguments and the server's values, in all lanes
_MOST_LANES = 2**16


class Block(NamedTuple):
    """Clients whose arrays are of the same shapes, as `MapSum` takes them."""

    clients: tuple[Any, ...]
    index: Any

    def read(self, data: FederatedDataset | None) -> "Block":
        """It with arrays in place of what is `Unread`."""
        unread = [x for x in self.clients if isinstance(x, Unread)]
        if not unread or data is None:
            return self
        ids, member, at = unread[0]
        rows = {i: [*flatten(data[i], member, f"{at}[{i!r}]")] for i in ids}
        stacked = map(np.stack, zip(*(rows[i] for i in ids), strict=True))
        arrays = [
            next(stacked) if isinstance(x, Unread) else x for x in self.clients
        ]
        return Block(tuple(arrays), self.index)


class Unread(NamedTuple):
    """One tensor of clients of a data set, still to be read."""

    client_ids: Sequence[str]
    member: Type
    at: str


class Clients(NamedTuple):
    """Blocks of clients, some of whose arrays are yet to be read.

    An executor takes it for a cohort of blocks.
    """

    blocks: Sequence[Block]
    data: FederatedDataset | None = None

    def read(self) -> list[Block]:
        return [block.read(self.data) for block in self.blocks]

    def part(self, positions: Iterable[int]) -> "Clients":
        return Clients([self.blocks[i] for i in positions], self.data)

    def sent(self) -> Sequence[Block]:
        return self.blocks

    def prepare(self) -> None:
        """Nothing: a program knows its types."""

    @property
    def source(self) -> Any:
        return None if self.data is None else self.data.source

    @property
    def ids(self) -> list[str]:
        names: Any = range(2**31) if self.data is None else self.data.client_ids
        numbers = (i for block in self.blocks for i in block.index if i >= 0)
        return [str(names[i]) for i in numbers]


class Arguments(NamedTuple):
    """What the server has, and clients in blocks."""

    known: tuple[np.ndarray, ...]
    blocks: Sequence[Block]


@dataclasses.dataclass(frozen=True)
class _DataSet:
    """One tensor of the clients of a data set."""

    data: FederatedDataset
    member: Type
    at: str
    row: tuple[int, ...]  # the shape of an example

    def __len__(self) -> int:
        return len(self.data)


# The types of some tensors, with arrays: of all clients, or of each.
_Columns = list[
    tuple[TensorType, np.ndarray | tuple[np.ndarray, ...] | _DataSet]
]


def arguments(
    program: Program, values: Mapping[str, Any], num_blocks: int = 1
) -> tuple[tuple[np.ndarray, ...], Clients]:
    """The values of a program's parameters, checked.

    Clients are in about `num_blocks`, or in more if these would be large.
    """
    known: list[np.ndarray] = []
    clients: dict[str, _Columns] = {}
    sizes: dict[str, int] = {}
    data: FederatedDataset | None = None
    for name, t in program.parameters.items():
        at = f"`{name}`"
        if t.placement == CLIENTS and not t.all_equal:
            value = values[name]
            if isinstance(value, FederatedDataset):
                if data is None and len(value) and value.knows_sizes:
                    data = value
                else:
                    value = list(value.values())
            clients[at] = _columns(value, t, at)
        else:
            arrays = list(flatten(values[name], t.member, at))
            shapes = [x.shape for x in arrays]
            _same_sizes(shapes, tensors(t), sizes, at)
            known += arrays
    if not clients:
        return tuple(known), Clients(())
    counts = {at: len(columns[0][1]) for at, columns in clients.items()}
    if 0 in counts.values() or len(set(counts.values())) > 1:
        found = ", ".join(f"{at} is of {n} clients" for at, n in counts.items())
        raise TypeError(f"{found}. Give one or more, and as many everywhere.")
    num_bytes = sum(x.nbytes for x in known)
    collects = any(op.kind == "federated_collect" for op in program.ops)
    pads = form.PADS and not collects
    columns = [pair for pairs in clients.values() for pair in pairs]
    most = -(-len(columns[0][1]) // num_blocks)
    blocks = (
        block
        for members in _groups(clients, sizes)
        for block in _blocks(members, columns, num_bytes, most, pads)
    )
    return tuple(known), Clients(tuple(blocks), data)


def _columns(value: Any, t: FederatedType, at: str) -> _Columns:
    """The value of a parameter at all clients, tensor by tensor."""
    types = tensors(t)
    if isinstance(value, FederatedDataset):
        first = value.client_ids[0]
        arrays = flatten(value[first], t.member, f"{at}[{first!r}]")
        rows = (x.shape[1:] for x in arrays)
        unread = (_DataSet(value, t.member, at, row) for row in rows)
        return list(zip(types, unread, strict=True))
    fixed = isinstance(t.member, TensorType) and all(
        isinstance(s, int) for s in t.member.shape
    )
    member = getattr(t.member, "element", t.member)
    parts = isinstance(value, tuple) and isinstance(member, StructType)
    columns: Any
    if isinstance(value, (list, tuple)) and value and not fixed and not parts:
        rows = (flatten(v, t.member, f"{at}[{i}]") for i, v in enumerate(value))
        columns = zip(*rows, strict=True)
    else:
        columns = list(flatten(value, t.member, at, (None,)))
        if len(set(map(len, columns))) > 1:
            raise TypeError(
                f"{at} has arrays for unlike numbers of clients, which "
                "their first axis counts. Give a list with the value of "
                "each client instead."
            )
    return list(zip(types, columns, strict=True))


def _groups(
    clients: Mapping[str, _Columns], sizes: dict[str, int]
) -> Iterator[np.ndarray]:
    """Clients of the same shapes, by their numbers."""
    columns: Any = [x for pairs in clients.values() for _, x in pairs]
    groups: dict[Any, Any] = {None: np.arange(len(columns[0]))}
    if not all(isinstance(x, np.ndarray) for x in columns):
        groups = {}
        for i in range(len(columns[0])):
            shapes = tuple(_shape(x, i) for x in columns)
            groups.setdefault(shapes, []).append(i)
    for members in groups.values():
        own, first = dict(sizes), members[0]
        for at, pairs in clients.items():
            found = [_shape(x, first) for _, x in pairs]
            _same_sizes(found, [t for t, _ in pairs], own, f"{at}[{first}]")
        yield np.array(members, np.int32)


def _shape(column: Any, i: int) -> tuple[int, ...]:
    if isinstance(column, _DataSet):
        data = column.data
        return data.num_examples(data.client_ids[i]), *column.row
    shape: tuple[int, ...] = column[i].shape
    return shape


def _stacked(column: Any, members: np.ndarray) -> Any:
    if isinstance(column, _DataSet):
        ids = column.data.client_ids
        return Unread([ids[i] for i in members], column.member, column.at)
    if isinstance(column, tuple):
        return np.stack([column[i] for i in members])
    start, end = members[0], members[-1] + 1
    if np.array_equal(members, np.arange(start, end)):
        return column[start:end]  # a view
    return column[members]


def _same_sizes(
    shapes: Sequence[tuple[int, ...]],
    types: Sequence[TensorType],
    sizes: dict[str, int],
    at: str,
) -> None:
    """Checks that dimensions of one name are of one length, not 0."""
    own: dict[str, int] = {}  # those of sequences are of this value alone
    for shape, t in zip(shapes, types, strict=True):
        for name, length in zip(t.shape, shape, strict=True):
            if not length and not isinstance(name, int):
                # Of what JAX exports, dimensions are at least 1.
                raise TypeError(
                    f"{at} is empty: {t} of length 0. Leave out clients "
                    "without examples."
                )
            if isinstance(name, str):
                where = own if name.startswith("examples_") else sizes
                if where.setdefault(name, length) != length:
                    raise TypeError(
                        f"{at} has a dimension {name!r} of {where[name]} and "
                        f"one of {length}, in {t}."
                    )


def _blocks(
    members: np.ndarray,
    columns: _Columns,
    num_bytes: int,
    most: int,
    pads: bool,
) -> Iterator[Block]:
    for t, x in columns:
        num_bytes += math.prod(_shape(x, members[0])) * t.dtype.itemsize
    fitting = _power_of_two(_BLOCK_BYTES // max(num_bytes, 1))
    most = min(_power_of_two(2 * most - 1), _MOST_LANES, fitting)
    for start in range(0, len(members), most):
        part = index = members[start : start + most]
        more = _power_of_two(2 * len(part) - 1) - len(part)
        if pads and more:
            part = np.append(part, part[-1:].repeat(more))
            index = np.append(index, np.full(more, -1, np.int32))
        yield Block(tuple(_stacked(x, part) for _, x in columns), index)


def _power_of_two(number: int) -> int:
    """The largest that is at most as large, and at least 1."""
    return 1 << max(number.bit_length() - 1, 0)
