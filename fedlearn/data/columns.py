"""Columns: an array of all clients' examples, kept in as few bytes as hold it.

What comes out has the dtype and the bits of what went in:

- integers are kept in the narrowest dtype that holds them;
- floats of at most 256 different values (an image's bytes, divided by 255)
  are kept as one byte each and a table;
- text is kept end to end, with the place of each piece.

A column begins narrow, and is copied to a wider array by the first chunk of
examples that demands it. Its arrays may lie in memory or in an HDF5 file.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from fedlearn.data import element as el

# Places of examples (increasing integers), and one row for each.
Chunk = tuple[np.ndarray, el.Element]

# From a shape and a dtype to an array, or an HDF5 data set; one of no examples
# can be resized.
Create = Callable[[tuple[int, ...], Any], Any]

_TABLE_SIZE = 256

# How much is copied at a time when a column becomes wider.
_COPY_BYTES = 1 << 24


def _runs(places: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """Slices of rows, and of places in the column, that lie end to end."""
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    edges = [0, *breaks.tolist(), len(places)]
    for start, stop in itertools.pairwise(edges):
        first = int(places[start])
        yield slice(start, stop), slice(first, first + stop - start)


def _bits(values: np.ndarray) -> np.ndarray:
    """Floats as unsigned integers, which tell -0.0 from 0.0."""
    return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")


def _grey(dtype: np.dtype) -> np.ndarray:
    """What the bytes of images become when they are divided by 255."""
    return np.arange(_TABLE_SIZE).astype(dtype) / dtype.type(255)


class NumberColumn:
    """`(examples, ...)` numbers, handed out as `dtype`.

    `values` are the numbers, or places in `table`, if there is one.
    """

    def __init__(
        self, values: Any, dtype: np.dtype, table: np.ndarray | None = None
    ) -> None:
        self.values = values
        self.dtype = dtype
        self.table = table
        self._used = np.zeros(_TABLE_SIZE, bool)  # of the table
        self._end = 0  # no example beyond it was put

    def put(self, places: np.ndarray, rows: np.ndarray, create: Create) -> None:
        """Sets the examples at `places` to `rows`."""
        rows = rows.astype(self.dtype, copy=False)  # of this byte order
        stored = rows
        if self.table is not None:
            found = self._places(rows, self.table)
            if found is None:
                self._widen(self.dtype, create)
            else:
                stored = found
        elif self.dtype.kind in "iu" and rows.size:
            dtype = _narrowest(int(rows.min()), int(rows.max()), self.dtype)
            if dtype.itemsize > self.values.dtype.itemsize:
                self._widen(dtype, create)
        for some, where in _runs(places):
            self.values[where] = stored[some]
        self._end = max(self._end, int(places[-1]) + 1)

    def _places(self, rows: np.ndarray, table: np.ndarray) -> np.ndarray | None:
        """Places in the table, which gets what it lacks; None if it is full."""
        bits = _bits(rows)
        if np.array_equal(table, _grey(table.dtype)):  # ten times quicker
            with np.errstate(invalid="ignore", over="ignore"):
                places = np.rint(rows * 255).astype(np.uint8)
            if np.array_equal(_bits(table[places]), bits):
                return places
            for some in self._blocks():
                self._used[self.values[some]] = True
        new = np.setdiff1d(bits, _bits(table)[self._used])
        free = np.flatnonzero(~self._used)[: len(new)]
        if len(free) < len(new):
            return None
        table[free] = new.view(table.dtype)
        self._used[free] = True
        used = np.flatnonzero(self._used)
        used = used[np.argsort(_bits(table)[used])]
        return used[np.searchsorted(_bits(table)[used], bits)].astype(np.uint8)

    def _widen(self, dtype: np.dtype, create: Create) -> None:
        shape = self.values.shape
        wide = create(shape, dtype)
        for some in self._blocks():
            wide[some] = self[some]
        self.values, self.table = wide, None

    def _blocks(self) -> Iterator[slice]:
        """Slices of all examples so far, each of some megabytes."""
        step = _COPY_BYTES // max(1, math.prod(self.values.shape[1:])) or 1
        for start in range(0, self._end, step):
            yield slice(start, min(start + step, self._end))

    def __getitem__(self, rows: slice) -> np.ndarray:
        """The examples of a slice."""
        stored = self.values[rows]
        if self.table is not None:
            # "clip" skips a check: every uint8 is a place in the table.
            return np.take(self.table, stored, mode="clip")
        if self.dtype.kind == "b":
            return stored.view(np.bool_)
        return stored.astype(self.dtype, copy=False)


class TextColumn:
    """`(examples, ...)` texts, handed out as `str` if `text`, else `bytes`.

    `starts` and `lengths` say where in `pool`, bytes, each of them lies.
    """

    def __init__(self, starts: Any, lengths: Any, pool: Any, text: bool):
        self.starts = starts
        self.lengths = lengths
        self.pool = pool
        self.text = text

    def put(self, places: np.ndarray, rows: np.ndarray, create: Create) -> None:
        """Sets the examples at `places` to `rows`."""
        pieces = el.encoded(rows).ravel().tolist()
        lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
        used = len(self.pool)
        ends = np.cumsum(lengths) + used
        data = np.frombuffer(b"".join(pieces), np.uint8)
        self.pool.resize((used + len(data),))
        self.pool[used:] = data
        starts = (ends - lengths).reshape(rows.shape)
        lengths = lengths.reshape(rows.shape)
        for some, where in _runs(places):
            self.starts[where] = starts[some]
            self.lengths[where] = lengths[some]

    def __getitem__(self, rows: slice) -> np.ndarray:
        """The examples of a slice: an object array of `bytes` or `str`."""
        starts, lengths = self.starts[rows], self.lengths[rows]
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
            data = self.pool[low:high].tobytes()
            pieces = [data[a - low : b - low] for a, b in places]
        else:
            pieces = [self.pool[a:b].tobytes() for a, b in places]
        out.reshape(-1)[:] = (
            [piece.decode("utf-8") for piece in pieces] if self.text else pieces
        )
        return out


Column = NumberColumn | TextColumn


def _narrowest(low: int, high: int, dtype: np.dtype) -> np.dtype:
    for name in ("uint8", "int16", "int32", "int64"):
        if np.iinfo(name).min <= low and high <= np.iinfo(name).max:
            return np.dtype(name)
    return dtype  # only uint64 holds more than int64


def _column(chunk: np.ndarray, total: int, create: Create) -> Column:
    """A column for examples like these, of which there is one or more."""
    dtype, shape = chunk.dtype.newbyteorder("="), (total, *chunk.shape[1:])
    if dtype.kind == "O":
        return TextColumn(
            create(shape, np.int64),
            create(shape, np.int32),
            create((0,), np.uint8),
            any(isinstance(t, str) for t in chunk.flat[:1]),
        )
    if dtype.kind not in "biufc":
        raise ValueError(f"dtype {chunk.dtype} is neither numbers nor text")
    if dtype.kind == "f" and dtype.itemsize in (4, 8):
        return NumberColumn(create(shape, np.uint8), dtype, _grey(dtype))
    stored = np.uint8 if dtype.kind in "biu" else dtype
    return NumberColumn(create(shape, stored), dtype)


def _texts_as_objects(array: np.ndarray) -> np.ndarray:
    # "S3" and "S5" are different dtypes, but clients may well differ so.
    return array.astype(object) if array.dtype.kind in "SU" else array


def fill_columns(chunks: Iterable[Chunk], create: Create, total: int) -> Any:
    """A structure of columns with all `total` examples, given in any order.

    A place counts the examples of all clients, client after client.
    """
    columns, spec = None, None
    found = 0
    for places, rows in chunks:
        if not len(places):
            continue
        rows = el.map_arrays(_texts_as_objects, rows)
        if columns is None:
            columns = el.map_arrays(lambda a: _column(a, total, create), rows)
            spec = el.spec_of(rows)
        what = f"the examples from place {int(places[0]):,}"
        mine = el.spec_of(rows)
        el.common_spec(mine, what, spec, "the first examples", same=True)
        el.map_arrays(
            lambda c, a, at=places: c.put(at, a, create), columns, rows
        )
        found += len(places)
    if columns is None:
        raise ValueError("There are no examples. Expected one at least.")
    if found != total:
        raise ValueError(f"There are {found:,} of {total:,} examples.")
    return columns
