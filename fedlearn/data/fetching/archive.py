"""Unpacking what was fetched: LZMA files, and single members of tars.

What is unpacked is renamed to its place when it is whole.
"""

import lzma
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from fedlearn.data.class_names import listed
from fedlearn.data.formats.format_error import FormatError
from fedlearn.runs import atomic_file

# What damage raises.
_ERRORS = (EOFError, lzma.LZMAError, tarfile.TarError, zlib.error)


def unpack_lzma(
    source: str | os.PathLike[str], target: str | os.PathLike[str]
) -> Path:
    """Unpacks an `.xz` or an older `.lzma` file; gives `target`."""
    target = Path(target)
    partial = target.with_name(f"{target.name}.partial")
    try:
        with lzma.open(source) as packed, open(partial, "wb") as plain:
            shutil.copyfileobj(packed, plain, 1 << 20)
        atomic_file.replace(partial, target)
    except _ERRORS as error:
        raise FormatError(
            f"{source} is cut short, damaged, or no LZMA file ({error}). "
            "Expected .xz or .lzma, or a file that isn't packed; fetch it "
            "again."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return target


def unpack_tar(
    source: str | os.PathLike[str],
    names: Iterable[str],
    folder: str | os.PathLike[str],
) -> dict[str, Path]:
    """Takes single files out of a tar, plain or packed; their paths by name.

    Only regular files of these names are written, in whatever folder of the
    archive they are; all of them, or none. If all are there, they are used.
    """
    folder = Path(folder)
    paths = {name: folder / name for name in names}
    if all(path.is_file() for path in paths.values()):
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        seen = []
        try:
            with tarfile.open(source, "r|*", bufsize=1 << 20) as archive:
                for entry in archive:
                    name = entry.name.rsplit("/", 1)[-1]
                    seen.append(name)
                    if name in paths and (file := archive.extractfile(entry)):
                        with open(Path(scratch, name), "wb") as plain:
                            shutil.copyfileobj(file, plain, 1 << 20)
        except _ERRORS as error:
            raise FormatError(
                f"{source} is cut short or damaged, or no tar archive "
                f"({error}). Expected .tar, .tar.gz, .tar.bz2 or .tar.xz; "
                "fetch it again."
            ) from error
        unpacked = os.listdir(scratch)
        if missing := [name for name in paths if name not in unpacked]:
            raise FormatError(
                f"{source} has no file {', '.join(map(repr, missing))}, but "
                f"{listed(seen)}. It may be cut short; fetch it again."
            )
        for name, path in paths.items():
            atomic_file.replace(Path(scratch, name), path)
    return paths
