"""Columns: an array of all clients' examples, kept in as few bytes as hold it.

A column is filled chunk by chunk, in any order, and read by ranges of
examples. Where its values lie is not its business: NumPy arrays and HDF5
data sets serve alike. What comes out has the dtype and the bits of what went
in:

- integers are kept in the narrowest dtype that holds those seen so far;
- floats of at most 256 different values (an image's bytes, divided by 255)
  are kept as one byte each and a table;
- text is kept end to end, with the place of each piece.
"""

import itertools
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

# Narrowest first.
_INT_DTYPES = [np.dtype(d) for d in ("uint8", "int16", "int32", "int64")]

# How much is copied at a time when a column becomes wider.
_COPY_BYTES = 1 << 24


class Storage(Protocol):
    """Makes the arrays that columns keep their values in."""

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        """Something that is indexed like an array of this shape."""

    def pool(self) -> Any:
        """Bytes that grow: `append(data)`, `len(pool)`, `pool[a:b]`."""


class MemoryStorage:
    """Columns in memory."""

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """A NumPy array."""
        return np.empty(shape, dtype)

    def pool(self) -> "MemoryPool":
        """A `MemoryPool`."""
        return MemoryPool()


class MemoryPool(bytearray):
    """Bytes in memory that grow at their end."""

    def append(self, data: bytes) -> None:  # type: ignore[override]
        """Adds all of `data`, not one byte."""
        self.extend(data)


def _runs(places: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """Slices of rows, and of places in the column, that lie end to end."""
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    edges = [0, *breaks.tolist(), len(places)]
    for start, stop in itertools.pairwise(edges):
        first = int(places[start])
        yield slice(start, stop), slice(first, first + stop - start)


def _narrowest(chunk: np.ndarray) -> np.dtype:
    low, high = int(chunk.min()), int(chunk.max())
    fitting = (
        d
        for d in _INT_DTYPES
        if np.iinfo(d).min <= low and high <= np.iinfo(d).max
    )
    # Only uint64 holds more than int64.
    return next(fitting, chunk.dtype)


def _width(dtype: np.dtype) -> int:
    return _INT_DTYPES.index(dtype) if dtype in _INT_DTYPES else 4


class ValueTable:
    """At most 256 different floats, told apart by all their bits.

    `encode` finds the place of a value by a hash without collisions, which
    is some twenty times quicker than searching a sorted table.
    """

    SIZE = 256

    def __init__(self, dtype: np.dtype) -> None:
        self._bits = np.dtype(f"u{dtype.itemsize}")
        self._dtype = dtype
        self._known = np.zeros(0, self._bits)

    @property
    def values(self) -> np.ndarray:
        """`(256,)` of the floats' dtype; unused places hold 0."""
        table = np.zeros(self.SIZE, self._bits)
        table[: len(self._known)] = self._known
        return table.view(self._dtype)

    def encode(self, chunk: np.ndarray) -> np.ndarray | None:
        """The places of `chunk`'s values as `uint8`; None: too many values.

        Values met for the first time are added to the table.
        """
        bits = np.ascontiguousarray(chunk).view(self._bits)
        if len(self._known):
            codes, strange = self._look_up(bits)
            if not len(strange):
                return codes
        else:
            strange = bits
        known = np.concatenate([self._known, np.unique(strange)])
        if len(known) > self.SIZE or not self._make_hash(known):
            return None
        self._known = known
        return self._look_up(bits)[0]

    def _slots(self, bits: np.ndarray, factor: int) -> np.ndarray:
        # The highest 16 bits of a product depend on all bits of the value.
        shift = self._bits.type(8 * self._bits.itemsize - 16)
        with np.errstate(over="ignore"):
            return (bits * self._bits.type(factor)) >> shift

    def _make_hash(self, known: np.ndarray) -> bool:
        limit = 1 << (8 * self._bits.itemsize)
        factor = 0x9E3779B97F4A7C15 % limit | 1
        # Of 256 values into 65,536 slots, some 60 % of factors keep all
        # apart.
        for _ in range(100):
            slots = self._slots(known, factor)
            if len(np.unique(slots)) == len(known):
                self._factor = factor
                self._codes = np.zeros(1 << 16, np.uint8)
                self._codes[slots] = np.arange(len(known))
                return True
            factor = factor * 0xD1342543DE82EF95 % limit | 1
        return False

    def _look_up(self, bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        codes = self._codes[self._slots(bits, self._factor)]
        return codes, bits[self._known[codes] != bits]


class NumberColumn:
    """Numbers of one shape an example.

    Args:
        storage: Where to keep them.
        total: Number of examples of all clients.
        shape: Shape of one example.
        dtype: What is handed out: a boolean, integer, float or complex type.
    """

    def __init__(
        self,
        storage: Storage,
        total: int,
        shape: tuple[int, ...],
        dtype: np.dtype,
    ) -> None:
        self.dtype = dtype
        self.shape = (total, *shape)
        self.values: Any = None
        self.table: np.ndarray | None = None
        self._storage = storage
        self._values_seen: ValueTable | None = None
        if dtype.kind == "f" and dtype.itemsize in (4, 8):
            self._values_seen = ValueTable(dtype)

    @classmethod
    def of(
        cls, values: Any, table: np.ndarray | None, dtype: np.dtype
    ) -> "NumberColumn":
        """A column that is filled already, for reading."""
        column = cls(MemoryStorage(), len(values), values.shape[1:], dtype)
        column.values, column.table = values, table
        return column

    def put(self, places: np.ndarray, rows: np.ndarray) -> None:
        """Sets the examples at `places`, increasing integers, to `rows`."""
        if not len(places):
            return
        stored = self._encode(rows)
        for some, where in _runs(places):
            self.values[where] = stored[some]

    def _encode(self, rows: np.ndarray) -> np.ndarray:
        rows = rows.astype(self.dtype, copy=False)  # of this byte order
        if self._values_seen is not None:
            codes = self._values_seen.encode(rows)
            if codes is not None:
                self._hold(codes.dtype)
                self.table = self._values_seen.values
                return codes
            self._values_seen = None
        if self.dtype.kind == "b":
            rows = rows.view(np.uint8)
        dtype = rows.dtype
        if self.dtype.kind in "iu":
            dtype = _narrowest(rows) if rows.size else _INT_DTYPES[0]
            if self.values is not None:
                dtype = max(dtype, self.values.dtype, key=_width)
        self._hold(dtype)
        return rows

    def _hold(self, dtype: np.dtype) -> None:
        """Makes room for values of a dtype, keeping what is there."""
        if self.values is not None and self.values.dtype == dtype:
            return
        old, table = self.values, self.table
        self.values = self._storage.array(self.shape, dtype)
        self.table = None
        if old is None:
            return
        row_bytes = dtype.itemsize * int(np.prod(self.shape[1:], dtype=int))
        step = max(1, _COPY_BYTES // max(1, row_bytes))
        for start in range(0, self.shape[0], step):
            block = old[start : start + step]
            self.values[start : start + step] = (
                block if table is None else table[block]
            )

    def read(self, start: int, stop: int) -> np.ndarray:
        """Examples `start` to `stop`, of shape `(stop - start, *shape)`."""
        stored = self.values[start:stop]
        if self.table is not None:
            # "clip" skips a check: every uint8 is a place in the table.
            return np.take(self.table, stored, mode="clip")
        if self.dtype.kind == "b":
            return stored.view(np.bool_)
        return stored.astype(self.dtype, copy=False)


class TextColumn:
    """Byte strings or text, of one shape an example.

    Args:
        starts: `(examples, ...)` integers: where in `pool` each text begins.
        lengths: The same shape: how many bytes it has.
        pool: The bytes; see `Storage.pool`.
        text: Whether `str` is handed out, or else `bytes`.
    """

    def __init__(
        self,
        starts: Any,
        lengths: Any,
        pool: Any,
        text: bool,
    ) -> None:
        self.starts = starts
        self.lengths = lengths
        self.pool = pool
        self.text = text

    @classmethod
    def empty(
        cls, storage: Storage, total: int, shape: tuple[int, ...], text: bool
    ) -> "TextColumn":
        """A column to be filled."""
        return cls(
            storage.array((total, *shape), np.dtype(np.int64)),
            storage.array((total, *shape), np.dtype(np.int32)),
            storage.pool(),
            text,
        )

    def put(self, places: np.ndarray, rows: np.ndarray) -> None:
        """Sets the examples at `places`, increasing integers, to `rows`."""
        if not len(places):
            return
        pieces = rows.reshape(-1).tolist()
        if self.text:
            pieces = [piece.encode("utf-8") for piece in pieces]
        lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
        ends = np.cumsum(lengths) + len(self.pool)
        self.pool.append(b"".join(pieces))
        starts = (ends - lengths).reshape(rows.shape)
        lengths = lengths.reshape(rows.shape)
        for some, where in _runs(places):
            self.starts[where] = starts[some]
            self.lengths[where] = lengths[some]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Examples `start` to `stop`: an object array of `bytes` or `str`.

        Raises:
            ValueError: If a place lies outside the text.
        """
        starts, lengths = self.starts[start:stop], self.lengths[start:stop]
        out = np.empty(starts.shape, object)
        if not out.size:
            return out
        ends = starts + lengths
        low, high = int(starts.min()), int(ends.max())
        if low < 0 or (lengths < 0).any() or high > len(self.pool):
            raise ValueError("a text lies outside the stored texts")
        places = zip(starts.flat, ends.flat, strict=True)
        # Mostly a client's texts lie end to end; if others lie between
        # them, reading everything from the first to the last may be a lot.
        if high - low <= 2 * int(lengths.sum()) + (1 << 16):
            data = bytes(self.pool[low:high])
            pieces = [data[a - low : b - low] for a, b in places]
        else:
            pieces = [bytes(self.pool[a:b]) for a, b in places]
        out.reshape(-1)[:] = (
            [piece.decode("utf-8") for piece in pieces] if self.text else pieces
        )
        return out


Column = NumberColumn | TextColumn


def column_for(chunk: np.ndarray, storage: Storage, total: int) -> Column:
    """An empty column for arrays like `chunk`.

    Raises:
        ValueError: If it holds neither numbers nor text.
    """
    kind, shape = chunk.dtype.kind, chunk.shape[1:]
    if kind in "biufc":
        dtype = chunk.dtype.newbyteorder("=")
        return NumberColumn(storage, total, shape, dtype)
    if kind in "SUO":
        text = chunk.size > 0 and isinstance(chunk.flat[0], str)
        return TextColumn.empty(storage, total, shape, text)
    raise ValueError(f"dtype {chunk.dtype} is neither numbers nor text")
