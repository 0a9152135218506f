import io
import os
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from fedlearn.data import FederatedDataset, FormatError
from fedlearn.data.formats.client_files import read_client_files, read_npz

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


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_reads_what_numpy_saves(tmp_path, save, order):
    path = tmp_path / "a.npz"
    x = np.asarray(np.arange(12.0).reshape(3, 4), order=order)
    arrays = {"x": x, "t": np.array(["a", "bé"]), "z": np.zeros((0, 3), bool)}
    save(path, **arrays)
    got = read_npz(path)
    assert list(got) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(got[name], array)
        assert got[name].dtype == array.dtype


def test_parts_of_an_element(tmp_path):
    path = tmp_path / "a.npz"
    parts = {"sample_weight": [2.0], "y": [1], "x": [[0.0]]}
    np.savez(path, **parts)
    assert [part.tolist() for part in read_npz(path)] == [[[0.0]], [1], [2.0]]
    np.savez(path, y=[1], x=[[0.0]])
    assert [part.tolist() for part in read_npz(path)] == [[[0.0]], [1]]
    np.savez(path, y=[1])
    assert list(read_npz(path)) == ["y"]


def test_no_pickles(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.array([{}], object))
    with pytest.raises(FormatError, match="Object arrays"):
        read_npz(path)


def test_damaged(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(1000))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match="not a zip file"):
        read_npz(path)
    place = whole.index(np.arange(500, 501).tobytes())
    path.write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
    with pytest.raises(FormatError, match="CRC"):
        read_npz(path)


def test_other_archives(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w"):
        pass
    with pytest.raises(FormatError, match="holds no arrays"):
        read_npz(path)
    with pytest.raises(FileNotFoundError):
        read_npz(tmp_path / "nothing.npz")


def test_memory_is_that_of_the_arrays(tmp_path):
    path = tmp_path / "a.npz"
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, 1 << 24).astype("uint8")
    np.savez_compressed(path, x=x)
    tracemalloc.start()
    try:
        got = read_npz(path)["x"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(got, x)
    assert peak < 1.5 * x.nbytes


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_is_an_error_or_changes_nothing(tmp_path, save):
    path = tmp_path / "a.npz"
    rng = np.random.default_rng(0)
    save(path, x=rng.normal(size=(5, 3)), y=np.arange(5))
    x, y = read_npz(path)
    whole = path.read_bytes()
    directory = whole.index(b"PK\1\2")
    places = rng.integers(0, len(whole), 300).tolist()
    for place in [*places, *range(directory, len(whole))]:
        flipped = whole[place] ^ int(rng.integers(1, 256))
        path.write_bytes(whole[:place] + bytes([flipped]) + whole[place + 1 :])
        try:
            got = read_npz(path)
        except FormatError:
            continue
        np.testing.assert_array_equal(got[0], x)
        np.testing.assert_array_equal(got[1], y)


def test_entries_that_the_directory_forgot(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(5), y=np.arange(5))
    whole = bytearray(path.read_bytes())
    # The length of the first entry's comment: as long as the second entry.
    whole[whole.index(b"PK\1\2") + 32] = 46 + len("y.npy")
    path.write_bytes(bytes(whole))
    assert zipfile.ZipFile(path).namelist() == ["x.npy"]
    with pytest.raises(FormatError, match="doesn't list all"):
        read_npz(path)


def test_written_to_a_stream(tmp_path):
    class Pipe(io.RawIOBase):
        def __init__(self):
            self.data = b""

        def writable(self):
            return True

        def write(self, piece):
            self.data += bytes(piece)
            return len(piece)

    pipe = Pipe()
    np.savez_compressed(pipe, x=np.arange(5), y=np.arange(5))
    path = tmp_path / "a.npz"
    path.write_bytes(pipe.data)
    assert read_npz(path)[0].tolist() == [0, 1, 2, 3, 4]
