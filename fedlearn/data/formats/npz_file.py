"""NumPy's `.npz` files, read without trust: no pickles, no bombs."""

import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from fedlearn.data.element import PARTS
from fedlearn.data.formats.format_error import FormatError

# No DEFLATE stream unpacks to more than this many times its length.
_MAX_RATIO = 1032

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
    array = np.frombuffer(file.read(declared), dtype)
    file.read(1)  # compares the checksum, at the end of the stream
    return array.reshape(shape, order="F" if fortran_order else "C")


def read_npz(path: Path) -> tuple[np.ndarray, ...] | dict[str, np.ndarray]:
    """The arrays of a file that `numpy.savez` or `savez_compressed` wrote.

    Returns:
        `(x, y)` or `(x, y, sample_weight)` if the arrays are so named; or
        else a dict of them all.

    Raises:
        FormatError: If it is no such file, is damaged or cut short, or holds
            Python objects.

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
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if name in arrays:
                    raise ValueError(f"it has the array {name!r} twice")
                if info.compress_type not in (
                    zipfile.ZIP_STORED,
                    zipfile.ZIP_DEFLATED,
                ):
                    raise ValueError("it is compressed in an unusual way")
                if info.file_size > _MAX_RATIO * info.compress_size:
                    raise ValueError(f"its array {name!r} is too large")
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
