"""Unpacking what was fetched: LZMA files, and single members of tars.

Both leave whole files or none: what is unpacked is renamed to its place when
the archive was read, and checked, to its end. Both may be called by several
processes at once; one unpacks, the others wait for it.
"""

import bz2
import gzip
import io
import lzma
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from fedlearn.data.fetching.file_lock import file_lock
from fedlearn.data.formats.format_error import FormatError

_CHUNK_BYTES = 1 << 20

# How a tar is packed, by the first bytes.
_OPENERS: tuple[tuple[bytes, Callable[[Path], Any]], ...] = (
    (b"BZh", bz2.BZ2File),
    (b"\x1f\x8b", gzip.GzipFile),
    (b"\xfd7zXZ\0", lzma.LZMAFile),
    (b"", io.FileIO),
)

# tarfile holds a header of long names in memory; real ones have some hundred
# bytes.
_HEADER_BYTES = 1 << 20
_EXTENDED_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


def _lzma_chunks(packed: IO[bytes]) -> Iterator[bytes]:
    """The plain bytes of one stream or more; EOFError if the last has no end.

    `lzma.open` would take a damaged second stream for the end of the file.
    """
    data = packed.read(_CHUNK_BYTES)
    if not data:
        raise EOFError
    while data:
        decoder = lzma.LZMADecompressor()
        while not decoder.eof:
            if decoder.needs_input and not data:
                data = packed.read(_CHUNK_BYTES)
                if not data:
                    raise EOFError
            yield decoder.decompress(data, _CHUNK_BYTES)
            data = b""
        # Zeros after a stream are padding.
        data = decoder.unused_data.lstrip(b"\0")
        while not data and (more := packed.read(_CHUNK_BYTES)):
            data = more.lstrip(b"\0")


def _too_large(source: Path, max_bytes: int) -> FormatError:
    return FormatError(
        f"{source} unpacks to more than {max_bytes:,} bytes. Expected no "
        "more; it is not the file it should be, or damaged. Fetch it again."
    )


def _flush_to_disk(file: IO[bytes]) -> None:
    # Renaming before the bytes are on the disk could, after a power cut,
    # leave an empty file that looks finished.
    file.flush()
    os.fsync(file.fileno())


def _write_lzma(source: Path, partial: Path, max_bytes: int) -> None:
    size = 0
    with open(source, "rb") as packed, open(partial, "wb") as plain:
        try:
            for chunk in _lzma_chunks(packed):
                size += len(chunk)
                if size > max_bytes:
                    raise _too_large(source, max_bytes)
                plain.write(chunk)
        except EOFError as error:
            raise FormatError(
                f"{source} is cut short: its LZMA stream has no end. Fetch "
                "the file again."
            ) from error
        except lzma.LZMAError as error:
            raise FormatError(
                f"{source} is damaged, or no LZMA file ({error}). Expected "
                ".xz or .lzma; fetch it again."
            ) from error
        _flush_to_disk(plain)


def unpack_lzma(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    max_bytes: int,
) -> Path:
    """Unpacks an `.xz` or an older `.lzma` file, chunk by chunk.

    Args:
        source: The packed file, of one stream or several.
        target: The plain file. One that is there is used as it is.
        max_bytes: More plain bytes than these are an error.

    Returns:
        `target`.

    Raises:
        FormatError: If `source` is cut short, damaged, no LZMA, or unpacks to
            more than `max_bytes`. There is no `target` then.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     packed = Path(folder, "text.lzma")
    ...     _ = packed.write_bytes(lzma.compress(b"as you like it"))
    ...     unpack_lzma(packed, Path(folder, "text"), 1000).read_bytes()
    b'as you like it'
    """
    source, target = Path(source), Path(target)
    if target.is_file():
        return target
    partial = target.with_name(f"{target.name}.partial")
    with file_lock(target.with_name(f"{target.name}.lock")):
        # Another process may have been quicker.
        if not target.is_file():
            try:
                _write_lzma(source, partial, max_bytes)
                os.replace(partial, target)
            finally:
                partial.unlink(missing_ok=True)
    return target


class _TarStream:
    """The plain bytes of a tar, whatever it is packed with, and no more."""

    def __init__(self, source: Path, max_bytes: int) -> None:
        with open(source, "rb") as file:
            head = file.read(6)
        opener = next(o for magic, o in _OPENERS if head.startswith(magic))
        self._file = opener(source)
        self._source = source
        self._left = max_bytes
        self._max_bytes = max_bytes

    def __enter__(self) -> "_TarStream":
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        try:
            data = self._file.read(size)
        except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
            # bz2 and gzip raise OSError for damage, but without a number.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise FormatError(
                f"{self._source} is cut short or damaged ({error}). Fetch it "
                "again."
            ) from error
        self.check_room(len(data))
        self._left -= len(data)
        return data

    def check_room(self, size: int) -> None:
        if size > self._left:
            raise _too_large(self._source, self._max_bytes)

    def read_to_end(self) -> None:
        """Packed files have their checksums last."""
        while self.read(_CHUNK_BYTES):
            pass


class _Header(tarfile.TarInfo):
    """An entry whose damage is an error.

    `tarfile` alone takes a damaged header, and the end of a file that was cut
    between two members, for the end of the archive.
    """

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error
        long = header.type in _EXTENDED_HEADERS
        if header.size < 0 or (long and header.size > _HEADER_BYTES):
            raise tarfile.ReadError(f"a header of {header.size:,} bytes")
        return header


def _check_entry(source: Path, entry: tarfile.TarInfo) -> None:
    """Raises for what could lead a write to another place, or hide one."""
    name = entry.name.replace("\\", "/")
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        wrong = "has an absolute path"
    elif ".." in name.split("/"):
        wrong = "leads out of the folder"
    elif entry.issym() or entry.islnk():
        wrong = f"is a link to {entry.linkname!r}"
    elif entry.issparse():
        wrong = "is a file with holes (sparse)"
    elif not entry.isreg() and not entry.isdir():
        wrong = "is a device, or of an unknown type"
    else:
        return
    raise FormatError(
        f"{source}: {entry.name!r} {wrong}. Expected regular files and "
        "folders below the archive's own. Nothing was unpacked; fetch it "
        "again, from its publisher."
    )


def _extract(
    source: Path, names: tuple[str, ...], folder: Path, max_bytes: int
) -> None:
    found: set[str] = set()
    others: list[str] = []
    with _TarStream(source, max_bytes) as stream:
        try:
            with tarfile.open(
                fileobj=stream,  # type: ignore[call-overload]
                mode="r|",
                bufsize=_CHUNK_BYTES,
                tarinfo=_Header,
            ) as archive:
                for entry in archive:
                    _check_entry(source, entry)
                    # Before tarfile skips, in small steps, what a header
                    # says and the file does not have.
                    stream.check_room(entry.size - _CHUNK_BYTES)
                    if entry.isdir():
                        continue
                    name = entry.name.replace("\\", "/").split("/")[-1]
                    if name not in names:
                        others.append(entry.name)
                        continue
                    if name in found:
                        raise FormatError(
                            f"{source} has two files named {name!r}. "
                            "Expected one; fetch the archive again."
                        )
                    found.add(name)
                    with open(folder / name, "xb") as file:
                        shutil.copyfileobj(
                            archive.extractfile(entry), file, _CHUNK_BYTES
                        )
                        _flush_to_disk(file)
            stream.read_to_end()
        except FormatError:
            raise
        # Beside its own errors, tarfile lets out those of numbers it cannot
        # read, and recurses from one long name to the next.
        except (tarfile.TarError, ValueError, RecursionError) as error:
            raise FormatError(
                f"{source} is cut short or damaged, or no tar archive "
                f"({error}). Expected .tar, .tar.gz, .tar.bz2 or .tar.xz; "
                "fetch it again."
            ) from error
    if missing := [name for name in names if name not in found]:
        has = ", ".join(map(repr, sorted([*found, *others[:5]])))
        more = f" and {len(others) - 5:,} more" if len(others) > 5 else ""
        raise FormatError(
            f"{source} has no file {', '.join(map(repr, missing))}. It has "
            f"{has or 'no files'}{more}."
        )


def unpack_tar(
    source: str | os.PathLike[str],
    names: Iterable[str],
    folder: str | os.PathLike[str],
    max_bytes: int,
) -> dict[str, Path]:
    """Takes single files out of a tar, in one pass.

    Args:
        source: A `.tar`, `.tar.gz`, `.tar.bz2` or `.tar.xz` file; which, is
            told by its first bytes.
        names: Of the files that are wanted, without folders: `a.h5` is also
            found as `./a.h5` and `data/a.h5`.
        folder: Where to; made if need be. If all wanted files are there, they
            are used as they are.
        max_bytes: More plain bytes than these, of the whole archive with its
            headers and padding, are an error.

    Returns:
        The path of each file, by name.

    Raises:
        FormatError: If the archive is cut short, damaged, too large, has no
            file of a wanted name or two, or has entries that no data set
            needs: links, devices, paths out of the folder. None of the files
            is unpacked then.
        ValueError: If a name has folders.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     source = Path(folder, "text.tar.gz")
    ...     _ = Path(folder, "a.txt").write_text("as you like it")
    ...     with tarfile.open(source, "w:gz") as archive:
    ...         archive.add(Path(folder, "a.txt"), "text/a.txt")
    ...     paths = unpack_tar(source, ["a.txt"], folder + "/out", 1 << 20)
    ...     paths["a.txt"].read_text()
    'as you like it'
    """
    source, folder, names = Path(source), Path(folder), tuple(names)
    for name in names:
        if name in ("", ".", "..") or re.search(r"[/\\:]", name):
            raise ValueError(
                f"Got {name!r}. Expected the name of a file, without folders."
            )
    paths = {name: folder / name for name in names}

    def are_there() -> bool:
        return all(path.is_file() for path in paths.values())

    if are_there():
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    # Not .partial: the archive may have been fetched into this same folder.
    scratch = folder / f"{source.name}.unpacked"
    with file_lock(folder / f"{scratch.name}.lock"):
        if not are_there():
            # What a process left that was killed.
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            try:
                _extract(source, names, scratch, max_bytes)
                for name, path in paths.items():
                    os.replace(scratch / name, path)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return paths
