"""What a computation is called with: checked, and in blocks of clients."""

from collections.abc import Iterator, Mapping, Sequence
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
    tensors,
)
from fedlearn.data.federated_dataset import FederatedDataset

_BLOCK_BYTES = 2**27  # of arguments and the server's values, in all lanes
_MOST_LANES = 2**16


class Block(NamedTuple):
    """Clients whose arrays are of the same shapes, as `MapSum` takes them."""

    clients: tuple[np.ndarray, ...]
    index: Any


class Arguments(NamedTuple):
    """What the server has, and clients in blocks."""

    known: tuple[np.ndarray, ...]
    blocks: tuple[Block, ...]


def arguments(program: Program, values: Mapping[str, Any]) -> Arguments:
    """Checks the values of a program's parameters."""
    known: list[np.ndarray] = []
    clients: list[_Clients] = []
    sizes: dict[str, int] = {}
    for name, t in program.parameters.items():
        at = f"`{name}`"
        if t.placement == CLIENTS and not t.all_equal:
            clients.append(_Clients(values[name], t, at))
            if clients[-1].num != clients[0].num or not clients[0].num:
                raise TypeError(
                    f"{at} is of {clients[-1].num} clients"
                    + f", {clients[0].at} of {clients[0].num}"
                    * (len(clients) > 1)
                    + "."
                )
        else:
            arrays = list(flatten(values[name], t.member, at))
            _same_sizes(arrays, tensors(t), sizes, at)
            known += arrays
    if not clients:
        return Arguments(tuple(known), ())
    num_bytes = sum(x.nbytes for x in known)
    collects = any(op.kind == "federated_collect" for op in program.ops)
    blocks = (
        block
        for numbers, arrays in _groups(clients, sizes)
        for block in _blocks(
            numbers, arrays, num_bytes, form.PADS and not collects
        )
    )
    return Arguments(tuple(known), tuple(blocks))


class _Clients:
    """A parameter's value at all clients: stacked arrays, or each one's."""

    def __init__(self, value: Any, t: FederatedType, at: str):
        self.at, self.types = at, tensors(t)
        self.rows: list[list[np.ndarray]] | None = None
        self.stacked: list[np.ndarray] = []
        if isinstance(value, FederatedDataset):
            value = list(value.values())
        fixed = isinstance(t.member, TensorType) and all(
            isinstance(s, int) for s in t.member.shape
        )
        member = getattr(t.member, "element", t.member)
        parts = isinstance(value, tuple) and isinstance(member, StructType)
        if isinstance(value, (list, tuple)) and not fixed and not parts:
            self.num = len(value)
            self.rows = [
                list(flatten(v, t.member, f"{at}[{i}]"))
                for i, v in enumerate(value)
            ]
        else:
            self.stacked = list(flatten(value, t.member, at, (None,)))
            self.num = len(self.stacked[0])
            if any(len(x) != self.num for x in self.stacked):
                raise TypeError(
                    f"{at} has arrays for unlike numbers of clients, which "
                    "their first axis counts. Give a list with the value of "
                    "each client instead."
                )

    def row(self, i: int) -> list[np.ndarray]:
        return self.rows[i] if self.rows else [x[i] for x in self.stacked]


def _groups(
    clients: Sequence[_Clients], sizes: dict[str, int]
) -> Iterator[tuple[Any, list[np.ndarray]]]:
    """Clients of the same shapes: their numbers, and their arrays."""
    groups: dict[Any, Any] = {None: np.arange(clients[0].num)}
    ragged = any(c.rows for c in clients)
    if ragged:
        groups = {}
        for i in range(clients[0].num):
            shapes = tuple(x.shape for c in clients for x in c.row(i))
            groups.setdefault(shapes, []).append(i)
    for members in groups.values():
        own = dict(sizes)
        for c in clients:
            at = f"{c.at}[{members[0]}]"
            _same_sizes(c.row(members[0]), c.types, own, at)
        arrays = [x for c in clients for x in c.stacked]
        if ragged:
            rows = ([x for c in clients for x in c.row(i)] for i in members)
            arrays = [np.stack(column) for column in zip(*rows, strict=True)]
        yield np.array(members, np.int32), arrays


def _same_sizes(
    arrays: Sequence[Any],
    types: Sequence[TensorType],
    sizes: dict[str, int],
    at: str,
) -> None:
    """Checks that dimensions of one name are of one length, not 0."""
    own: dict[str, int] = {}  # those of sequences are of this value alone
    for x, t in zip(arrays, types, strict=True):
        for name, length in zip(t.shape, x.shape, strict=True):
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
    numbers: Any, arrays: list[np.ndarray], num_bytes: int, pads: bool
) -> Iterator[Block]:
    num_bytes += sum(x[0].nbytes for x in arrays)
    most = min(_MOST_LANES, _power_of_two(_BLOCK_BYTES // max(num_bytes, 1)))
    for start in range(0, len(numbers), most):
        part = [x[start : start + most] for x in arrays]
        index = numbers[start : start + most]
        more = _power_of_two(2 * len(index) - 1) - len(index)
        if pads and more:
            part = [np.concatenate([x, x[-1:].repeat(more, 0)]) for x in part]
            index = np.append(index, np.full(more, -1, np.int32))
        yield Block(tuple(part), index)


def _power_of_two(number: int) -> int:
    """The largest that is at most as large, and at least 1."""
    return 1 << max(number.bit_length() - 1, 0)
