import tempfile
from pathlib import Path

import pytest

from fedlearn.data.fetching.cache_folder import cache_folder

pytestmark = pytest.mark.backend_free


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    for name in ("FEDLEARN_CACHE", "KERAS_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    return tmp_path / "home"


def test_order_of_choice(monkeypatch, tmp_path, home):
    assert cache_folder() == home / ".keras" / "fedlearn"
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    assert cache_folder() == tmp_path / "keras" / "fedlearn"
    monkeypatch.setenv("FEDLEARN_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    assert cache_folder(tmp_path / "given") == tmp_path / "given"
    assert cache_folder(str(tmp_path / "given")) == tmp_path / "given"
    for name in ("given", "own", "keras/fedlearn"):
        assert (tmp_path / name).is_dir()
        assert not list((tmp_path / name).iterdir())


def test_variables_set_to_nothing_count_as_unset(monkeypatch, home):
    monkeypatch.setenv("KERAS_HOME", "")
    monkeypatch.setenv("FEDLEARN_CACHE", "")
    assert cache_folder() == home / ".keras" / "fedlearn"


def test_home_and_relative_paths_become_absolute(monkeypatch, tmp_path, home):
    monkeypatch.chdir(tmp_path)
    assert cache_folder("a/b") == tmp_path / "a" / "b"
    assert cache_folder("~/c") == home / "c"
    monkeypatch.setenv("FEDLEARN_CACHE", "~/d")
    assert cache_folder() == home / "d"


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="FEDLEARN_CACHE") as raised:
            cache_folder(path)
        assert f"cache folder {path} cannot" in str(raised.value)
        assert "cache_dir" in str(raised.value)


def test_folder_that_cannot_be_written(tmp_path, monkeypatch):
    # Rights do not bind the superuser, as whom tests may run.
    def refuse(dir):
        raise PermissionError(13, "Permission denied", str(Path(dir, "x")))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(OSError, match=r"Permission denied.*cache_dir"):
        cache_folder(tmp_path)
