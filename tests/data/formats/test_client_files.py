import os
import pickle

import numpy as np
import pytest

from fedlearn.data import FederatedDataset, FormatError
from fedlearn.data.formats.client_files import read_client_files

pytestmark = pytest.mark.backend_free


def save(path, count):
    np.savez(path, x=np.full((count, 2), count, "float32"), y=range(count))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "clients"
    folder.mkdir()
    for name, count in (("9", 1), ("10", 2), ("user.é'", 3)):
        save(folder / f"{name}.npz", count)
    (folder / "README.txt").write_text("not a client")
    (folder / ".hidden.npz").write_text("not a client")
    return folder


def test_npz_by_default(folder):
    source = read_client_files(str(folder))
    ds = FederatedDataset(source)
    assert ds.client_ids == ("10", "9", "user.é'")
    assert [ds.num_examples(i) for i in ds] == [2, 1, 3]
    x, y = ds["10"]
    assert x.tolist() == [[2, 2], [2, 2]]
    assert y.tolist() == [0, 1]
    assert not x.flags.writeable
    again = pickle.loads(pickle.dumps(source))
    assert again.load("9")[1].tolist() == [0]


def test_own_reader(folder):
    for name in ("b", "a"):
        (folder / f"{name}.txt").write_text(name * 3)

    def read(path):
        text = path.read_text()
        return {"letter": [ord(c) for c in text]}

    ds = FederatedDataset(read_client_files(folder, read, "?.txt"))
    assert ds.client_ids == ("a", "b")
    assert ds["b"]["letter"].tolist() == [98] * 3


def test_a_folder_for_each_client(tmp_path):
    for name, count in (("site.1", 2), ("site.2", 1)):
        (tmp_path / name).mkdir()
        for k in range(count):
            (tmp_path / name / f"{k}.txt").write_text("7")

    def read(path):
        rows = [[float(f.read_text())] for f in sorted(path.iterdir())]
        return rows, [0] * len(rows)

    ds = FederatedDataset(read_client_files(tmp_path, read))
    assert ds.client_ids == ("site.1", "site.2")
    assert ds.num_examples("site.1") == 2


def test_files_are_read_when_asked_for(folder):
    (folder / "broken.npz").write_bytes(b"PK")
    source = read_client_files(folder)
    assert source.num_examples("9") == 1
    with pytest.raises(FormatError, match=r"broken\.npz"):
        source.load("broken")


def test_pattern_does_not_leave_the_folder(folder, tmp_path):
    save(tmp_path / "outside.npz", 1)
    for pattern in ("../*.npz", "*/../*.npz"):
        with pytest.raises(FormatError, match="nothing that matches"):
            read_client_files(folder, pattern=pattern)


def test_two_files_of_one_client(folder):
    (folder / "9.csv").write_text("")
    with pytest.raises(FormatError, match=r"'9\.csv' and '9\.npz'"):
        read_client_files(folder, lambda path: None)


def test_errors_name_the_file(folder):
    def read(path):
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone") as caught:
        read_client_files(folder, read, "*.npz").load("9")
    assert "9.npz" in caught.value.__notes__[0]
    with pytest.raises(ValueError, match=r"9\.npz\).*different numbers"):
        read_client_files(folder, lambda path: ([[1.0]], [1, 2]), "*.npz").load(
            "9"
        )


def test_clients_unlike_each_other(folder):
    np.savez(folder / "z.npz", x=np.zeros((2, 3), "float32"), y=[0, 1])
    with pytest.raises(FormatError, match=r"Client 'z': x has .*\(3,\)"):
        read_client_files(folder).load("z")


def test_name_that_is_no_utf8(folder):
    try:
        with open(os.fsencode(folder) + b"/\xff.npz", "wb"):
            pass
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(FormatError, match="not UTF-8"):
        read_client_files(folder)


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_client_files(tmp_path / "nothing")
    with pytest.raises(FormatError, match="nothing that matches"):
        read_client_files(tmp_path)
