"""Fetching a file from a public address into the cache.

A file is written under the name `<target>.partial`, checked, and renamed, so
that a file of the final name is whole. What a broken attempt left is
continued by the next one, in this process or another.
"""

import contextlib
import email.utils
import hashlib
import http.client
import json
import math
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from fedlearn.data.fetching.file_lock import file_lock

_CHUNK_BYTES = 1 << 18
_LONGEST_WAIT = 60.0
_SECONDS_BETWEEN_UPDATES = 0.1

_sleep = time.sleep


class DownloadError(OSError):
    """A file could not be fetched.

    The message names the file, its address and what went wrong, and says
    where to put the file by hand.

    Example:

    >>> issubclass(DownloadError, OSError)
    True
    """


class _FailedError(Exception):
    """Why an attempt failed, and whether another may do better.

    Args:
        why: A clause.
        retry: If another attempt may do better.
        wait: Seconds before it, where the server says.
    """

    def __init__(
        self, why: str, retry: bool = False, wait: float | None = None
    ) -> None:
        super().__init__(why)
        self.retry = retry
        self.wait = wait


class _Wanted(NamedTuple):
    """What to fetch, and what is known of it."""

    url: str
    target: Path
    sha256: str | None
    size: int | None

    def beside(self, ending: str) -> Path:
        return self.target.with_name(f"{self.target.name}.{ending}")

    @property
    def partial(self) -> Path:
        return self.beside("partial")

    @property
    def origin(self) -> Path:
        """Remembers where the partial file is from, and which version."""
        return self.beside("partial.json")

    @property
    def checked(self) -> Path:
        """Says which checksum the file was found to have, and when."""
        return self.beside("checked.json")

    def discard(self) -> None:
        self.partial.unlink(missing_ok=True)
        self.origin.unlink(missing_ok=True)
        self.checked.unlink(missing_ok=True)

    def is_finished(self) -> bool:
        if self.target.is_dir():
            raise DownloadError(
                f"{self.target} is a folder. Expected the path of a file."
            )
        if not self.target.is_file():
            return False
        found = self.target.stat().st_size
        # Not replaced without asking: somebody must have put it there.
        if self.size not in (None, found):
            raise DownloadError(
                f"{self.target} has {found:,} bytes. Expected {self.size:,}: "
                "it is incomplete or another version. Delete it to have it "
                f"fetched from {self.url}, or put the right file there."
            )
        if self.sha256 is not None and not self._is_checked():
            with open(self.target, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != self.sha256:
                raise DownloadError(
                    f"{self.target} has the SHA-256 {digest}. Expected "
                    f"{self.sha256}: it is damaged or another version. Delete "
                    f"it to have it fetched from {self.url}, or put the right "
                    "file there."
                )
            self.remember_checked()
        return True

    def _is_checked(self) -> bool:
        try:
            return json.loads(self.checked.read_text("utf-8")) == self._stamp()
        except (OSError, ValueError):
            return False

    def _stamp(self) -> list[Any]:
        """What changes when the file does, without reading it."""
        stat = self.target.stat()
        return [self.sha256, stat.st_size, stat.st_mtime_ns]

    def remember_checked(self) -> None:
        """So that the next process need not read all of the file."""
        if self.sha256 is not None:
            # In a folder without write access it is checked every time.
            with contextlib.suppress(OSError):
                self.checked.write_text(json.dumps(self._stamp()), "utf-8")


def _readable(num_bytes: float) -> str:
    if num_bytes < 1000:
        return f"{num_bytes:.0f} bytes"
    power = min(int(math.log10(num_bytes)) // 3, 3)
    return f"{num_bytes / 1000**power:.1f} {('kB', 'MB', 'GB')[power - 1]}"


class _ProgressLine:
    """What has arrived, on stderr.

    Args:
        name: Of the file.
        shown: True for at least one line in the end, False for none, None for
            a terminal only.
    """

    def __init__(self, name: str, shown: bool | None) -> None:
        terminal = sys.stderr is not None and sys.stderr.isatty()
        self._live = terminal and shown is not False
        self._shown = self._live or shown is True
        self._name = name
        self._start = self._last = time.monotonic()
        self._first = self._done = 0
        self._total: int | None = None

    def begin(self, done: int, total: int | None) -> None:
        """A request was answered; what was there before is not its merit."""
        self._start = time.monotonic()
        self._first = self._done = done
        self._total = total

    def update(self, done: int) -> None:
        self._done = done
        now = time.monotonic()
        if self._live and now - self._last >= _SECONDS_BETWEEN_UPDATES:
            self._last = now
            print(f"\r{self._text():<79}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._shown and self._done:
            begin = "\r" if self._live else ""
            print(f"{begin}{self._text():<79}".rstrip(" "), file=sys.stderr)

    def _text(self) -> str:
        text = f"{self._name}: {_readable(self._done)}"
        if self._total:
            share = 100 * self._done // self._total
            text += f" of {_readable(self._total)} ({share}%)"
        seconds = max(time.monotonic() - self._start, 1e-3)
        speed = (self._done - self._first) / seconds
        return f"{text}, {_readable(speed)}/s"


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but to no less safe kind of address."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        schemes = ("https",) if req.type == "https" else ("https", "http")
        if urlsplit(newurl).scheme not in schemes:
            fp.close()
            raise _FailedError(
                f"{req.full_url} redirects to {newurl}, which is not safe"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _retry_after(headers: Any) -> float | None:
    """Seconds; given as such or as a date."""
    text = (headers.get("Retry-After") or "").strip()
    if text.isdecimal():
        seconds = float(text)
    else:
        try:
            date = email.utils.parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        seconds = date.timestamp() - time.time()
    return min(max(seconds, 0.0), _LONGEST_WAIT)


def _failure(error: urllib.error.HTTPError) -> _FailedError:
    if 300 <= error.code < 400:
        return _FailedError(
            "the server's redirects go in a circle, or to an address that is "
            f"not allowed ({error.code}, last {error.url})"
        )
    return _FailedError(
        f"the server answered {error.code} ({error.reason})",
        retry=error.code in (408, 429) or error.code >= 500,
        wait=_retry_after(error.headers),
    )


def _validator(headers: Any) -> str | None:
    """What changes when the file does, and fits an If-Range header."""
    tag = headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return str(tag)
    return headers.get("Last-Modified")


def _remembered(wanted: _Wanted) -> str | None:
    """The validator of the partial file, if it is from this address."""
    try:
        origin = json.loads(wanted.origin.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(origin, Mapping) or origin.get("url") != wanted.url:
        return None
    return origin.get("validator")


def _ask(
    wanted: _Wanted, start: int, validator: str | None, timeout: float
) -> Any:
    """A response: the bytes from `start` on, or whatever the server gives."""
    request = urllib.request.Request(
        wanted.url, headers={"User-Agent": "fedlearn"}
    )
    if start:
        request.add_header("Range", f"bytes={start}-")
        if validator:
            request.add_header("If-Range", validator)
    opener = urllib.request.build_opener(_Redirects)
    try:
        return opener.open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:
            return error
        with error:
            raise _failure(error) from error
    except (OSError, http.client.HTTPException) as error:
        reason = str(getattr(error, "reason", error)) or type(error).__name__
        raise _FailedError(
            f"no answer from the server ({reason})", retry=True
        ) from error


class _Body(NamedTuple):
    """Which part of the file a response holds; None is unknown."""

    start: int
    length: int | None
    total: int | None


def _body(
    response: Any, wanted: _Wanted, start: int, validator: str | None
) -> _Body | None:
    """The part that `response` holds; None if it is of no use."""
    headers = response.headers
    text = (headers.get("Content-Length") or "").strip()
    length = int(text) if text.isdecimal() else None
    if response.status == 200:
        return _Body(0, length, length)
    if not start:
        return None
    given = headers.get("Content-Range") or ""
    if response.status == 416:
        # Nothing is left to send: the partial file is whole.
        complete = given.replace(" ", "") == f"bytes*/{start}"
        return _Body(start, 0, start) if complete else None
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", given.strip())
    new = _validator(headers)
    # Some servers do not know If-Range.
    other = None not in (validator, new) and validator != new
    if response.status != 206 or not match or other:
        return None
    first, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    if first != start or last < first:
        return None
    if length not in (None, last + 1 - first):
        return None
    if total is not None and (
        last >= total or wanted.size not in (None, total)
    ):
        return None
    return _Body(start, last + 1 - first, total)


def _write(
    response: Any, wanted: _Wanted, body: _Body, line: _ProgressLine
) -> None:
    done, left = body.start, body.length
    total = body.total if body.total is not None else wanted.size
    line.begin(done, total)
    with open(wanted.partial, "ab" if done else "wb") as file:
        while left != 0:
            try:
                # Whatever has come, so that a stall loses none of it; never
                # more than was announced, for which some servers would wait.
                chunk = response.read1(
                    _CHUNK_BYTES if left is None else min(_CHUNK_BYTES, left)
                )
            except (OSError, http.client.HTTPException) as error:
                raise _FailedError(
                    f"the connection broke after {done:,} bytes "
                    f"({str(error) or type(error).__name__})",
                    retry=True,
                ) from error
            if not chunk:
                break
            done += len(chunk)
            left = None if left is None else left - len(chunk)
            if wanted.size is not None and done > wanted.size:
                break
            file.write(chunk)
            line.update(done)
    if wanted.size is not None and done > wanted.size:
        wanted.discard()
        raise _FailedError(
            f"the server sends more than the {wanted.size:,} bytes that the "
            "file should have"
        )
    if left or (total is not None and done < total):
        of_total = "" if total is None else f" of {total:,}"
        raise _FailedError(
            f"the connection ended after {done:,}{of_total} bytes", retry=True
        )


def _request(wanted: _Wanted, timeout: float, line: _ProgressLine) -> bool:
    """One request; says if its bytes went after those of an earlier one."""
    try:
        start = wanted.partial.stat().st_size
    except FileNotFoundError:
        start = 0
    validator = _remembered(wanted)
    # Without either, bytes of two versions could become one file.
    if not validator and not wanted.sha256:
        start = 0
    if start and wanted.size is not None and start >= wanted.size:
        if start == wanted.size:
            return True
        start = 0
    with _ask(wanted, start, validator, timeout) as response:
        body = _body(response, wanted, start, validator)
        if body is not None:
            if wanted.size is not None and body.total not in (
                None,
                wanted.size,
            ):
                raise _FailedError(
                    f"the server's file has {body.total:,} bytes instead of "
                    f"{wanted.size:,}"
                )
            if not body.start:
                wanted.discard()
                origin = {
                    "url": wanted.url,
                    "validator": _validator(response.headers),
                }
                wanted.origin.write_text(json.dumps(origin), "utf-8")
            _write(response, wanted, body, line)
            return body.start > 0
        status = response.status
    if not start:
        raise _FailedError(f"the server answered {status} instead of 200")
    wanted.discard()
    return _request(wanted, timeout, line)


def _receive(
    wanted: _Wanted, timeout: float, attempts: int, line: _ProgressLine
) -> bool:
    """Fills the partial file; says if it is made of several pieces."""
    if urlsplit(wanted.url).scheme == "file":
        path = urllib.request.url2pathname(urlsplit(wanted.url).path)
        with open(path, "rb") as given:
            line.begin(0, os.fstat(given.fileno()).st_size)
            with open(wanted.partial, "wb") as file:
                while chunk := given.read(_CHUNK_BYTES):
                    file.write(chunk)
                    line.update(file.tell())
        return False
    for attempt in range(attempts):
        try:
            return _request(wanted, timeout, line)
        except _FailedError as failed:
            if not failed.retry:
                raise
            if attempt + 1 == attempts:
                raise _FailedError(
                    f"{failed} (attempt {attempts} of {attempts})"
                ) from failed
            wait = min(2.0**attempt, _LONGEST_WAIT)
            _sleep(wait if failed.wait is None else failed.wait)
    raise AssertionError("attempts is at least 1")


def _what_is_wrong(wanted: _Wanted) -> str | None:
    with open(wanted.partial, "r+b") as file:
        size = os.fstat(file.fileno()).st_size
        if wanted.size not in (None, size):
            return f"what arrived has {size:,} bytes instead of {wanted.size:,}"
        if wanted.sha256 is not None:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != wanted.sha256:
                return (
                    f"its SHA-256 is {found} instead of {wanted.sha256}, so "
                    "that it is damaged or another version"
                )
        # Renaming before the bytes are on the disk could, after a power cut,
        # leave an empty file that looks finished.
        os.fsync(file.fileno())
    return None


def _fetch(
    wanted: _Wanted, timeout: float, attempts: int, line: _ProgressLine
) -> None:
    pieced = _receive(wanted, timeout, attempts, line)
    wrong = _what_is_wrong(wanted)
    if wrong and pieced:
        # The first piece may be of another version, or from a broken disk.
        wanted.discard()
        _receive(wanted, timeout, attempts, line)
        wrong = _what_is_wrong(wanted)
    if wrong:
        wanted.discard()
        raise _FailedError(wrong)
    os.replace(wanted.partial, wanted.target)
    wanted.remember_checked()
    wanted.origin.unlink(missing_ok=True)


def _check_arguments(wanted: _Wanted, attempts: int) -> None:
    scheme, host = urlsplit(wanted.url)[:2]
    if scheme not in ("https", "http", "file"):
        raise ValueError(
            f"Got the address {wanted.url!r}. Expected one that begins with "
            "https://, http:// or file://."
        )
    if scheme == "file" and host not in ("", "localhost"):
        raise ValueError(
            f"Got the address {wanted.url!r}, on the host {host!r}. Expected "
            "three slashes and a path, as Path(...).as_uri() gives."
        )
    if wanted.sha256 and not re.fullmatch("[0-9a-f]{64}", wanted.sha256):
        raise ValueError(
            f"sha256 is {wanted.sha256!r}. Expected 64 hexadecimal digits."
        )
    if attempts < 1:
        raise ValueError(f"attempts is {attempts}. Expected 1 or more.")


def download(
    url: str,
    target: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    size: int | None = None,
    progress: bool | None = None,
    timeout: float = 30.0,
    attempts: int = 5,
) -> Path:
    """Fetches a file, unless it is there.

    A file that is there is used. Its size is compared, where `size` is given,
    and once its checksum, where `sha256` is: `<target>.checked.json` remembers
    that, until the file changes. Checking takes a second or two for each
    gigabyte. A file of another size or checksum, which somebody must have put
    there, is an error and stays.

    Several processes may ask for one file at once: one fetches it, the others
    wait and find it. An attempt that broke off is continued where the server
    can (RFC 9110, section 14), by a later call too. Stalls, broken
    connections and the answers 408, 429 and 5xx are tried again, after what
    the server's Retry-After says (a minute at most), else after 1, 2, 4, ...
    seconds.

    Args:
        url: An `https`, `http` or `file` address. Redirects are followed, but
            from https to https only.
        target: The path of the file; its folder is made if need be.
        sha256: The checksum that it must have, in hexadecimal digits.
        size: The number of bytes that it must have.
        progress: A line about it on stderr: None for a terminal only, True
            always (one in the end at least), False never.
        timeout: Seconds without a byte after which a connection has stalled.
        attempts: How often to try, 1 or more.

    Returns:
        `target`, as an absolute path.

    Raises:
        DownloadError: If the file could not be fetched or written, or is not
            the one that is meant.
        ValueError: If an argument is not what it should be.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     given = Path(folder, "given.txt")
    ...     _ = given.write_text("as you like it")
    ...     url = given.as_uri()
    ...     download(url, Path(folder, "data", "a.txt"), size=14).read_text()
    'as you like it'
    """
    target = Path(target).absolute()
    wanted = _Wanted(url, target, sha256 and sha256.lower(), size)
    _check_arguments(wanted, attempts)
    line = _ProgressLine(target.name, progress)
    try:
        # Before the lock, which a folder without write access could not hold.
        if wanted.is_finished():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(wanted.beside("lock")):
            # Another process may have been quicker.
            if not wanted.is_finished():
                try:
                    _fetch(wanted, timeout, attempts, line)
                finally:
                    line.end()
    except DownloadError:
        raise
    except (_FailedError, OSError) as error:
        raise DownloadError(
            f"{target.name} could not be fetched from {url}: {error}. Expected "
            f"the file at {target}: put it there by hand, or pass source= "
            "with the path of the file, or of the folder that holds it."
        ) from error
    return target
