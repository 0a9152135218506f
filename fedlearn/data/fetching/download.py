"""Fetching a file from a public address into the cache.

A file is written under the name `<target>.partial`, checked, and renamed, so
that a file of the final name is whole. What a broken attempt left is
continued by the next one, in this process or another (RFC 9110, section 14).
There is no lock: several processes that fetch one file write the same bytes
to the same places.
"""

import hashlib
import http.client
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, BinaryIO

from fedlearn.runs import atomic_file

_CHUNK_BYTES = 1 << 20
_SECONDS_BETWEEN_UPDATES = 0.5

_NETWORK_ERRORS = (
    urllib.error.URLError,
    ConnectionError,
    TimeoutError,
    http.client.HTTPException,
)

_sleep = time.sleep


class DownloadError(OSError):
    """A file could not be fetched.

    The message names the file, its address and what went wrong, and says
    where to put the file by hand.

    Example:

    >>> issubclass(DownloadError, OSError)
    True
    """


def _version(headers: Any) -> str:
    """What changes when the file does, and fits an If-Range header."""
    tag = headers.get("ETag") or "W/"
    return (headers.get("Last-Modified") or "") if tag[:2] == "W/" else tag


def _request(url: str, partial: Path, file: BinaryIO, timeout: float) -> None:
    """Fetches what `file` lacks, if the server still has that version."""
    notes = partial.with_name(f"{partial.name}.version")
    request = urllib.request.Request(url, headers={"User-Agent": "fedlearn"})
    known = notes.read_text("utf-8") if notes.exists() else ""
    start = os.fstat(file.fileno()).st_size if known else 0
    if start:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", known)
    with urllib.request.urlopen(request, timeout=timeout) as response:
        headers = response.headers
        part, _, whole = headers.get("Content-Range", "").partition("/")
        if part and (
            _version(headers) != known or not part.startswith(f"bytes {start}-")
        ):
            notes.unlink(missing_ok=True)
            raise ConnectionError("the server sent another part")
        if not part:
            start = 0
            file.truncate(0)
            notes.write_text(_version(headers), "utf-8")
        length = whole or headers.get("Content-Length") or ""
        total = int(length) if length.isdecimal() else 0
        _write(response, partial.stem, file, start, total)
    notes.unlink(missing_ok=True)


def _write(
    response: Any, name: str, file: BinaryIO, start: int, total: int
) -> None:
    """Writes a response from `start` on; `total` is 0 if it isn't known."""
    done, last = start, time.monotonic()
    live = sys.stderr is not None and sys.stderr.isatty()
    file.seek(start)
    # read1: whatever has come, so that a stall loses none of it.
    read = getattr(response, "read1", response.read)
    while chunk := read(_CHUNK_BYTES):
        file.write(chunk)
        done += len(chunk)
        waited = time.monotonic() - last > _SECONDS_BETWEEN_UPDATES
        if live and (waited or done == total):
            last = time.monotonic()
            shown = f"\r{name}: {done / 1e6:,.1f} of {total / 1e6:,.1f} MB"
            end = "\n" if done == total else ""
            print(shown, end=end, file=sys.stderr, flush=True)
    if done < total:
        raise ConnectionError(f"it ended after {done:,} of {total:,} bytes")


def _receive(url: str, partial: Path, timeout: float, attempts: int) -> None:
    why = ""
    for attempt in range(attempts):
        if attempt:
            _sleep(min(2.0 ** (attempt - 1), 60.0))
        try:
            # Opened first, and not emptied: another process may fetch it
            # too, and be ready, with another file of this name, in between.
            partial.touch()
            with open(partial, "r+b") as file:
                return _request(url, partial, file, timeout)
        except urllib.error.HTTPError as error:
            error.close()
            why = f"the server answered {error.code} ({error.reason})"
            if error.code == 416:  # the partial file is longer than the file
                partial.unlink(missing_ok=True)
            elif error.code < 500 and error.code not in (408, 429):
                partial.unlink(missing_ok=True)
                raise OSError(why) from error
        except _NETWORK_ERRORS as error:
            reason = getattr(error, "reason", error)
            if url.startswith("file:"):
                partial.unlink()
                raise
            why = f"the connection failed ({reason or type(error).__name__})"
    raise OSError(f"{why} (attempt {attempts} of {attempts})")


def _what_is_wrong(
    path: Path, sha256: str | None, size: int | None
) -> str | None:
    found = path.stat().st_size
    if size not in (None, found):
        return f"has {found:,} bytes. Expected {size:,}"
    if sha256 is not None:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != sha256.lower():
            return f"has the SHA-256 {digest}. Expected {sha256}"
    return None


def download(
    url: str,
    target: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    size: int | None = None,
    timeout: float = 30.0,
    attempts: int = 5,
) -> Path:
    """Fetches a file, unless it is there; gives `target`, as an absolute path.

    A file that is there is used, once it is checked, which takes a second or
    two for each gigabyte. One that is not as it should be is an error and
    stays: somebody must have put it there. Stalls (of `timeout` seconds),
    broken connections and the answers 408, 429 and 5xx are tried again, after
    1, 2, 4, ... seconds, from where it broke off if the server can. A terminal
    shows what has arrived.

    Raises:
        DownloadError: If the file could not be fetched or written, or is not
            the one that is meant.
    """
    target = Path(target).absolute()
    partial = target.with_name(f"{target.name}.partial")
    if target.exists():
        wrong = _what_is_wrong(target, sha256, size)
        if wrong:
            raise DownloadError(
                f"{target} {wrong}: it is damaged, incomplete or another "
                f"version. Delete it to have it fetched from {url}, or put "
                "the right file there."
            )
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _receive(url, partial, timeout, attempts)
        if target.exists():  # another process was quicker
            return target
        wrong = _what_is_wrong(partial, sha256, size)
        if wrong:
            partial.unlink()
            raise OSError(f"what arrived {wrong}, so it is another version")
        atomic_file.replace(partial, target)
    except OSError as error:
        raise DownloadError(
            f"{target.name} could not be fetched from {url}: {error}. Expected "
            f"the file at {target}: put it there by hand, or pass source= "
            "with the path of the file, or of the folder that holds it."
        ) from error
    return target
