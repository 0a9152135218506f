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
# The types of some tensors, with arrays: of all clients, or of each.
_Columns = list[tuple[TensorType, np.ndarray | tuple[np.ndarray, ...]]]


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
    clients: dict[str, _Columns] = {}
    sizes: dict[str, int] = {}
    for name, t in program.parameters.items():
        at = f"`{name}`"
        if t.placement == CLIENTS and not t.all_equal:
            clients[at] = _columns(values[name], t, at)
        else:
            arrays = list(flatten(values[name], t.member, at))
            _same_sizes(arrays, tensors(t), sizes, at)
            known += arrays
    if not clients:
        return Arguments(tuple(known), ())
    counts = {at: len(columns[0][1]) for at, columns in clients.items()}
    if 0 in counts.values() or len(set(counts.values())) > 1:
        found = ", ".join(f"{at} is of {n} clients" for at, n in counts.items())
        raise TypeError(f"{found}. Give one or more, and as many everywhere.")
    num_bytes = sum(x.nbytes for x in known)
    collects = any(op.kind == "federated_collect" for op in program.ops)
    pads = form.PADS and not collects
    blocks = (
        block
        for group in _groups(clients, sizes)
        for block in _blocks(*group, num_bytes, pads)
    )
    return Arguments(tuple(known), tuple(blocks))


def _columns(value: Any, t: FederatedType, at: str) -> _Columns:
    """The value of a parameter at all clients, tensor by tensor."""
    if isinstance(value, FederatedDataset):
        value = list(value.values())
    fixed = isinstance(t.member, TensorType) and all(
        isinstance(s, int) for s in t.member.shape
    )
    member = getattr(t.member, "element", t.member)
    parts = isinstance(value, tuple) and isinstance(member, StructType)
    types = tensors(t)
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
) -> Iterator[tuple[Any, list[np.ndarray]]]:
    """Clients of the same shapes: their numbers, and their arrays."""
    columns: Any = [x for pairs in clients.values() for _, x in pairs]
    groups: dict[Any, Any] = {None: np.arange(len(columns[0]))}
    ragged = any(isinstance(x, tuple) for x in columns)
    if ragged:
        groups = {}
        for i, row in enumerate(zip(*columns, strict=True)):
            groups.setdefault(tuple(x.shape for x in row), []).append(i)
    for members in groups.values():
        own, first = dict(sizes), members[0]
        for at, pairs in clients.items():
            types, arrays = zip(*((t, x[first]) for t, x in pairs), strict=True)
            _same_sizes(arrays, types, own, f"{at}[{first}]")
        if ragged:
            rows = [np.stack([x[i] for i in members]) for x in columns]
        yield np.array(members, np.int32), rows if ragged else columns


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
