import contextlib
import os
from typing import Any


def write(path: Any, data: Any, durable: bool = True) -> None:
    """Writes a file under another name beside it, and renames it.

    A kill leaves at most the half `path.partial`, which the next write
    overwrites.

    Args:
        path: Where to; folders that aren't there are made.
        data: Bytes, or an iterable of them, of which one at a time is made.
        durable: Whether it survives a loss of power, too.
    """
    path = os.path.abspath(os.fspath(path))
    folder = os.path.dirname(path)
    _make_folder(folder)
    half = f"{path}.partial"
    try:
        with open(half, "wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
        (replace if durable else os.replace)(half, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(half)
        raise


def replace(partial: Any, path: Any) -> None:
    """Gives a whole file its name, which both survive a loss of power."""
    flush(partial)
    os.replace(partial, path)
    flush(os.path.dirname(os.path.abspath(path)))


def flush(path: Any) -> None:
    """Makes a file, or the names in a folder, survive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not os.path.isdir(path):  # of folders not every file system can
            raise
    finally:
        os.close(handle)


def _make_folder(folder: str) -> None:
    if os.path.isdir(folder):
        return
    parent = os.path.dirname(folder)
    _make_folder(parent)
    os.makedirs(folder, exist_ok=True)
    flush(parent)
