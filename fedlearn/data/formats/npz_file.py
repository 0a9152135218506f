"""NumPy's `.npz` files, read without trust: no pickles, no bombs."""

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from fedlearn.data.element import PARTS
from fedlearn.data.formats.format_error import FormatError
from fedlearn.data.formats.unpacked import most_unpacked

_CHUNK_BYTES = 1 << 20

# What may follow an entry: its sizes and checksum once more, where it was
# written to a stream.
_DESCRIPTOR_BYTES = 24

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def _read_array(file: IO[bytes], size: int) -> np.ndarray:
    """An array in `.npy` form that takes `size` bytes."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"it is of the .npy version {version}")
    shape, fortran_order, dtype = _HEADERS[version](file)
    if dtype.hasobject:
        raise ValueError(
            "it holds Python objects, which are stored as a pickle: that may "
            "run any code, and is not read. Save numbers or strings "
            "(dtype 'U' or 'S') instead"
        )
    # Compared before memory is asked for: a header can claim any shape.
    declared = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or declared != size - file.tell():
        raise ValueError(
            f"it declares the shape {shape} of {dtype}, {declared:,} bytes, "
            f"but has {size - file.tell():,}"
        )
    flat = np.empty(math.prod(shape), dtype)
    # Piece by piece: reading all at once would hold it three times.
    view = memoryview(flat.view(np.uint8).data if declared else b"")
    done = 0
    while done < declared:
        piece = file.read(min(_CHUNK_BYTES, declared - done))
        if not piece:
            raise EOFError("it ends within its numbers")
        view[done : done + len(piece)] = piece
        done += len(piece)
    file.read(1)  # compares the checksum, at the end of the stream
    return flat.reshape(shape, order="F" if fortran_order else "C")


def _check_size(infos: Sequence[zipfile.ZipInfo], path: Path) -> None:
    # Of the whole file: several entries may point to the same bytes.
    packed = path.stat().st_size
    unpacked = sum(info.file_size for info in infos)
    if unpacked > most_unpacked(packed):
        raise ValueError(
            f"it has {packed:,} bytes and unpacks to {unpacked:,}, as files "
            "do that are made to fill the memory. If it is yours, write it "
            "with numpy.savez, which doesn't compress, or read it yourself: "
            "from_files(folder, read=...)"
        )


def _check_gaps(archive: zipfile.ZipFile, path: Path) -> None:
    """Raises if there is more in the file than its directory lists.

    The flip of a length in the directory can make one entry's comment of the
    next entry, which zipfile then doesn't see.
    """
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    end = 0
    with open(path, "rb") as file:
        for info in infos:
            if not 0 <= info.header_offset - end <= _DESCRIPTOR_BYTES:
                break
            file.seek(info.header_offset + 26)
            lengths = struct.unpack("<HH", file.read(4))
            end = info.header_offset + 30 + sum(lengths) + info.compress_size
        else:
            if 0 <= archive.start_dir - end <= _DESCRIPTOR_BYTES:
                return
    raise ValueError("its directory doesn't list all that is in it")


def read_npz(path: Path) -> tuple[np.ndarray, ...] | dict[str, np.ndarray]:
    """The arrays of a file that `numpy.savez` or `savez_compressed` wrote.

    Returns:
        `(x, y)` or `(x, y, sample_weight)` if the arrays are so named; or
        else a dict of them all.

    Raises:
        FormatError: If it is no such file, is damaged or cut short, holds
            Python objects, or unpacks to over 64 MiB and a hundred times its
            size.

    Example:

    >>> import os, tempfile
    >>> path = Path(tempfile.mkdtemp(), "ann.npz")
    >>> np.savez(path, x=[[1.0], [2.0]], y=[0, 1])
    >>> read_npz(path)[1]
    array([0, 1])
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(archive.infolist(), path)
            _check_gaps(archive, path)
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if name in arrays:
                    raise ValueError(f"it has the array {name!r} twice")
                if info.compress_type not in (
                    zipfile.ZIP_STORED,
                    zipfile.ZIP_DEFLATED,
                ):
                    raise ValueError("it is compressed in an unusual way")
                with archive.open(info) as file:
                    arrays[name] = _read_array(file, info.file_size)
    except FileNotFoundError:
        raise
    # Of NumPy's header, a Python literal, the tokenizer's errors come too.
    except (
        ValueError,
        OSError,
        EOFError,
        KeyError,
        RuntimeError,
        SyntaxError,
        tokenize.TokenError,
        OverflowError,
        MemoryError,
        struct.error,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise FormatError(
            f"{path} cannot be read as .npz: {error}. Expected a whole file "
            "as numpy.savez writes it."
        ) from error
    if not arrays:
        raise FormatError(f"{path} holds no arrays.")
    for count in (2, 3):
        if arrays.keys() == set(PARTS[:count]):
            return tuple(arrays[part] for part in PARTS[:count])
    return arrays
