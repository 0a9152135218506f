"""Columns: an array of all clients' examples, kept in as few bytes as hold it.

What comes out has the dtype and the bits of what went in:

- integers are kept in the narrowest dtype that holds them;
- floats of at most 256 different values (an image's bytes, divided by 255)
  are kept as one byte each and a table;
- text is kept end to end, with the place of each piece.

So all chunks are seen twice: once to tell what a column has to hold, and once
to fill it. Its arrays may lie in memory or in an HDF5 file.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from fedlearn.data import element as el

# Places of examples (increasing integers), and one row for each.
Chunk = tuple[np.ndarray, el.Element]

# From a shape and a dtype to an array, or an HDF5 data set.
Create = Callable[[tuple[int, ...], Any], Any]

_TABLE_SIZE = 256


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


def _as_bytes(rows: np.ndarray, table: np.ndarray) -> np.ndarray | None:
    """Places in the table; None if it hasn't all of these floats."""
    if np.array_equal(table, _grey(table.dtype)):  # ten times quicker
        with np.errstate(invalid="ignore", over="ignore"):
            places = np.rint(rows * 255).astype(np.uint8)
    else:
        places = np.searchsorted(_bits(table), _bits(rows))
        places = np.minimum(places, len(table) - 1).astype(np.uint8)
    return places if np.array_equal(_bits(table[places]), _bits(rows)) else None


def _pieces(texts: np.ndarray) -> list[bytes]:
    return [t.encode("utf-8") if isinstance(t, str) else t for t in texts.flat]


class NumberColumn:
    """Numbers of one shape an example.

    Args:
        values: `(examples, ...)`, as they are stored.
        dtype: What is handed out: a boolean, integer, float or complex type.
        table: `(256,)` floats, ordered by their bits, in which `values` are
            places; None if `values` are the numbers.
    """

    def __init__(
        self, values: Any, dtype: np.dtype, table: np.ndarray | None = None
    ) -> None:
        self.values = values
        self.dtype = dtype
        self.table = table

    def put(self, places: np.ndarray, rows: np.ndarray) -> None:
        """Sets the examples at `places` to `rows`."""
        rows = rows.astype(self.dtype, copy=False)  # of this byte order
        stored: np.ndarray | None
        if self.table is not None:
            stored = _as_bytes(rows, self.table)
        else:
            stored = rows.astype(self.values.dtype, copy=False)
            if self.dtype.kind in "iu" and not np.array_equal(stored, rows):
                stored = None
        if stored is None:
            raise ValueError(
                "The examples are others than when they were read before. "
                "Expected the same each time; give what is drawn at random "
                "in a function for map a seed."
            )
        for some, where in _runs(places):
            self.values[where] = stored[some]

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
    """Byte strings or text, of one shape an example.

    Args:
        starts: `(examples, ...)` integers: where in `pool` each text begins.
        lengths: The same shape: how many bytes it has.
        pool: The bytes of all, as `uint8`.
        text: Whether `str` is handed out, or else `bytes`.
    """

    def __init__(self, starts: Any, lengths: Any, pool: Any, text: bool):
        self.starts = starts
        self.lengths = lengths
        self.pool = pool
        self.text = text
        self._used = 0

    def put(self, places: np.ndarray, rows: np.ndarray) -> None:
        """Sets the examples at `places` to `rows`."""
        pieces = _pieces(rows)
        lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
        ends = np.cumsum(lengths) + self._used
        data = np.frombuffer(b"".join(pieces), np.uint8)
        self.pool[self._used : self._used + len(data)] = data
        self._used += len(data)
        starts = (ends - lengths).reshape(rows.shape)
        lengths = lengths.reshape(rows.shape)
        for some, where in _runs(places):
            self.starts[where] = starts[some]
            self.lengths[where] = lengths[some]

    def __getitem__(self, rows: slice) -> np.ndarray:
        """The examples of a slice: an object array of `bytes` or `str`.

        Raises:
            ValueError: If a place lies outside the text.
        """
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


class _Extent:
    """What a column has to hold, as its chunks tell.

    Args:
        chunk: One of them, with one row or more.
    """

    def __init__(self, chunk: np.ndarray) -> None:
        self._dtype = chunk.dtype.newbyteorder("=")
        self._shape = chunk.shape[1:]
        self._low = self._high = self._text_bytes = 0
        self._table: np.ndarray | None = None
        kind = self._dtype.kind
        if kind not in "biufcSUO":
            raise ValueError(f"dtype {chunk.dtype} is neither numbers nor text")
        self._is_text = kind in "SUO"
        self._is_str = self._is_text and any(
            isinstance(t, str) for t in chunk.flat[:1]
        )
        if kind == "f" and self._dtype.itemsize in (4, 8):
            self._table = _grey(self._dtype)
            self._seen = np.zeros(0, f"u{self._dtype.itemsize}")

    def add(self, chunk: np.ndarray) -> None:
        if self._is_text:
            self._text_bytes += sum(map(len, _pieces(chunk)))
        elif self._dtype.kind in "iu" and chunk.size:
            self._low = min(self._low, int(chunk.min()))
            self._high = max(self._high, int(chunk.max()))
        elif self._table is not None:
            self._table = self._table_with(
                chunk.astype(self._dtype, copy=False)
            )

    def _table_with(self, chunk: np.ndarray) -> np.ndarray | None:
        """A table of all floats seen; None if they are too many."""
        assert self._table is not None
        new = _bits(chunk)
        places = _as_bytes(chunk, self._table)
        if places is not None:
            is_used = np.bincount(places.ravel(), minlength=_TABLE_SIZE) > 0
            new = _bits(self._table)[is_used]
        self._seen = np.union1d(self._seen, new)
        grey = _grey(self._dtype)
        if np.isin(self._seen, _bits(grey)).all():
            return grey
        free = _TABLE_SIZE - len(self._seen)
        if free < 0:
            return None
        return np.pad(self._seen, (0, free), mode="edge").view(self._dtype)

    def column(self, create: Create, total: int) -> Column:
        shape = (total, *self._shape)
        if self._is_text:
            return TextColumn(
                create(shape, np.int64),
                create(shape, np.int32),
                create((self._text_bytes,), np.uint8),
                self._is_str,
            )
        if self._table is not None:
            values = create(shape, np.uint8)
            return NumberColumn(values, self._dtype, self._table)
        stored = self._dtype
        if stored.kind == "b":
            stored = np.dtype(np.uint8)
        elif stored.kind in "iu":
            # Only uint64 holds more than int64.
            stored = next(
                (
                    np.dtype(t)
                    for t in ("uint8", "int16", "int32", "int64")
                    if np.iinfo(t).min <= self._low
                    and self._high <= np.iinfo(t).max
                ),
                stored,
            )
        return NumberColumn(create(shape, stored), self._dtype)


def _texts_as_objects(array: np.ndarray) -> np.ndarray:
    # "S3" and "S5" are different dtypes, but clients may well differ so.
    return array.astype(object) if array.dtype.kind in "SU" else array


def fill_columns(
    chunks: Callable[[], Iterable[Chunk]], create: Create, total: int
) -> Any:
    """A structure of columns with all examples.

    Args:
        chunks: Called twice, for all examples in any order. A place counts
            the examples of all clients, client after client.
        create: Makes what a column is kept in.
        total: How many examples there are.

    Raises:
        ValueError: If chunks differ in structure, shape or dtype, there are
            other examples the second time, or none at all.
    """
    extents, spec = None, None
    found = 0
    for places, rows in chunks():
        if not len(places):
            continue
        rows = el.map_arrays(_texts_as_objects, rows)
        if extents is None:
            extents, spec = el.map_arrays(_Extent, rows), el.spec_of(rows)
        what = f"the examples from place {int(places[0]):,}"
        mine = el.spec_of(rows)
        el.common_spec(mine, what, spec, "the first examples", same=True)
        el.map_arrays(lambda extent, a: extent.add(a), extents, rows)
        found += len(places)
    if extents is None:
        raise ValueError("There are no examples. Expected one at least.")
    if found != total:
        raise ValueError(f"There are {found:,} of {total:,} examples.")
    columns = el.map_arrays(
        lambda extent: extent.column(create, total), extents
    )
    for places, rows in chunks():
        if len(places):
            el.map_arrays(lambda c, a, at=places: c.put(at, a), columns, rows)
    return columns
