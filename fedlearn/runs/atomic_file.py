import contextlib
import os
from typing import Any


def write(path: Any, data: bytes, durable: bool = True) -> None:
    """Writes a file under another name beside it, and renames it.

    A kill leaves at most the half `path.partial`, which the next write
    overwrites. `durable`: it survives a loss of power, too.
    """
    path = os.path.abspath(os.fspath(path))
    folder = os.path.dirname(path)
    _make_folder(folder)
    half = f"{path}.partial"
    try:
        with open(half, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(half, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(half)
        raise
    if durable:
        flush(folder)


def flush(path: Any) -> None:
    """Makes a file, or the names in a folder, survive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not every file system can
            os.fsync(handle)
    finally:
        os.close(handle)


def _make_folder(folder: str) -> None:
    if os.path.isdir(folder):
        return
    parent = os.path.dirname(folder)
    _make_folder(parent)
    os.makedirs(folder, exist_ok=True)
    flush(parent)
