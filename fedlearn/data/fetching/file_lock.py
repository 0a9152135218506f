"""One at a time, among the processes and threads of a machine."""

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_POLL_SECONDS = 0.1

if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _unlock(handle: int, path: Path) -> None:
        # The file stays: Windows removes none that another process has open.
        os.lseek(handle, 0, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(handle: int) -> bool:
        try:
            # Not lockf, whose locks hold between processes only.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(handle: int, path: Path) -> None:
        # A lock file that cannot be removed does no harm; removing that of
        # another holder would.
        with contextlib.suppress(OSError):
            if _is_still_there(handle, path):
                path.unlink()
        # Closing is not enough: a process forked meanwhile has the handle too.
        fcntl.flock(handle, fcntl.LOCK_UN)


def _is_still_there(handle: int, path: Path) -> bool:
    """False if the file was removed, as a holder does in the end."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _try_acquire(path: Path) -> int | None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if _try_lock(handle) and _is_still_there(handle, path):
            return handle
    except OSError as error:
        os.close(handle)
        if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise OSError(
                error.errno,
                f"{path} cannot be locked ({error.strerror}): its file "
                "system has no locks. Expected one that has; choose a folder "
                "on another disk.",
            ) from error
        raise
    os.close(handle)
    return None


@contextlib.contextmanager
def file_lock(
    path: str | os.PathLike[str], timeout: float | None = None
) -> Iterator[None]:
    """Holds a lock for as long as the block runs.

    No two processes, and no two threads of a process, hold the same lock at
    once. A thread must not take one that it holds already: it would wait for
    itself. The operating system frees the locks of a process that dies, so a
    lock file that was left behind locks nothing.

    Args:
        path: The lock file, beside what it guards; made here, and removed in
            the end. Never the guarded file itself.
        timeout: Seconds to wait for another holder; None waits for as long
            as it takes. Waiting is told once, on stderr.

    Raises:
        TimeoutError: If the lock was not free in time.
        OSError: If the file cannot be made, or its file system has no locks.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "data.lock")
    ...     with file_lock(path):
    ...         with file_lock(path, timeout=0):
    ...             pass
    Traceback (most recent call last):
    TimeoutError: ...data.lock is still held after 0 seconds by another ...
    """
    path = Path(path)
    end = None if timeout is None else time.monotonic() + timeout
    told = False
    while (handle := _try_acquire(path)) is None:
        if end is not None and time.monotonic() >= end:
            raise TimeoutError(
                f"{path} is still held after {timeout:g} seconds by another "
                "process or thread. Wait until it has finished, or end it."
            )
        if not told:
            print(
                f"Waiting for another process or thread that holds {path}",
                file=sys.stderr,
                flush=True,
            )
            told = True
        time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        try:
            _unlock(handle, path)
        finally:
            os.close(handle)
