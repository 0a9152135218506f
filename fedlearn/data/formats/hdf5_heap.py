"""The global heap of an HDF5 file, where texts of no fixed length lie.

HDF5's library walks through a collection of such texts by their sizes, and
where damage has made one of them 0 it never comes to the end. So their sizes
are added up here before it does. Layout: HDF5 file format specification
3.0, section III.E.
"""

import mmap
import os
import struct

_COLLECTION = struct.Struct("<4sB3xQ")
_OBJECT = struct.Struct("<HH4xQ")


def check_heaps(path: str | os.PathLike[str]) -> None:
    """Raises for texts on which HDF5 would search for ever.

    Reads the whole file, at some GB/s.

    Args:
        path: An HDF5 file whose lengths have 8 bytes, as all but exotic ones.

    Raises:
        ValueError: If the sizes in a collection don't add up.
    """
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        # With its version: these letters alone may stand in a client's text.
        start = data.find(b"GCOL\x01")
        while start >= 0:
            _check_collection(data, start)
            start = data.find(b"GCOL\x01", start + 1)


def _check_collection(data: mmap.mmap, start: int) -> None:
    place = start + _COLLECTION.size
    size = 0
    if place <= len(data):
        _, _, size = _COLLECTION.unpack_from(data, start)
    end = start + size
    if not place <= end <= len(data):
        raise ValueError("its texts are not all there")
    while end - place >= _OBJECT.size:
        index, _, size = _OBJECT.unpack_from(data, place)
        # What is free has the number 0, and its head counts as free too.
        step = size if index == 0 else _OBJECT.size + -(-size // 8) * 8
        if not _OBJECT.size <= step <= end - place:
            raise ValueError("its texts have impossible sizes")
        place += step
