import contextlib
import errno
import os
import subprocess
import sys
import threading
import time

import pytest

from fedlearn.data.fetching import file_lock as lock
from fedlearn.data.fetching.file_lock import file_lock

pytestmark = pytest.mark.backend_free

# Holds the lock until its stdin ends, or it is killed.
HOLDER = """
import sys
from fedlearn.data.fetching.file_lock import file_lock
with file_lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def holder(path):
    """Another process that holds the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


@pytest.mark.integration
def test_between_processes(tmp_path, capsys):
    path = tmp_path / "a.lock"
    with holder(path) as process:
        with (
            pytest.raises(TimeoutError, match=r"a\.lock is still held after 0"),
            file_lock(path, timeout=0),
        ):
            pass
        assert capsys.readouterr().err == ""
        with (
            pytest.raises(TimeoutError, match=r"after 0\.3 seconds"),
            file_lock(path, timeout=0.3),
        ):
            pass
        told = capsys.readouterr().err.splitlines()
        assert len(told) == 1
        assert str(path) in told[0]
        process.stdin.close()
        with file_lock(path, timeout=30):
            assert path.exists()
    assert not path.exists()


@pytest.mark.integration
def test_process_that_was_killed_holds_nothing(tmp_path):
    path = tmp_path / "a.lock"
    with holder(path) as process:
        process.kill()
        process.wait()
        assert path.exists()
        with file_lock(path, timeout=0):
            pass


def test_file_left_behind_locks_nothing(tmp_path):
    path = tmp_path / "a.lock"
    path.write_text("left")
    with file_lock(str(path), timeout=0):
        pass


def test_one_thread_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_POLL_SECONDS", 0.001)
    path = tmp_path / "a.lock"
    inside, most, done = [], [], []

    def work():
        for _ in range(5):
            with file_lock(path, timeout=30):
                inside.append(1)
                time.sleep(0.002)  # lets the others in, if they could
                most.append(len(inside))
                inside.pop()
        done.append(1)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 3
    assert most == [1] * 15


def test_freed_by_an_error(tmp_path):
    path = tmp_path / "a.lock"
    with pytest.raises(KeyError), file_lock(path):
        raise KeyError
    with file_lock(path, timeout=0):
        pass


def test_two_locks_at_once(tmp_path):
    with file_lock(tmp_path / "a"), file_lock(tmp_path / "b", timeout=0):
        assert sorted(os.listdir(tmp_path)) == ["a", "b"]


posix = pytest.mark.skipif(sys.platform == "win32", reason="removes no file")


@posix
def test_holder_that_leaves_while_another_opens_the_file(tmp_path, monkeypatch):
    """A lock on the removed file would not keep out who makes a new one."""
    path = tmp_path / "a.lock"
    tried = []

    def try_lock(handle):
        if not tried:
            path.unlink()
        tried.append(handle)
        return original(handle)

    original = lock._try_lock
    monkeypatch.setattr(lock, "_try_lock", try_lock)
    monkeypatch.setattr(lock, "_POLL_SECONDS", 0.001)
    with (
        file_lock(path),
        pytest.raises(TimeoutError, match="still held"),
        file_lock(path, timeout=0),
    ):
        pass
    assert len(tried) == 3


@posix
def test_file_of_another_holder_is_not_removed(tmp_path):
    path = tmp_path / "a.lock"
    first = file_lock(path)
    with first:
        path.unlink()
        second = file_lock(path, timeout=0)
        second.__enter__()
    try:
        assert path.exists()
    finally:
        second.__exit__(None, None, None)
    assert not path.exists()


@posix
def test_file_system_without_locks(tmp_path, monkeypatch):
    import fcntl

    def refuse(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(OSError, match="another disk"),
        file_lock(tmp_path / "a.lock"),
    ):
        pass


def test_folder_that_is_missing(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match="none"),
        file_lock(tmp_path / "none" / "a.lock"),
    ):
        pass
