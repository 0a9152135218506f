import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from fedlearn.data import FormatError
from fedlearn.data.formats.client_files import read_npz

pytestmark = pytest.mark.backend_free


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
    for place in rng.integers(0, len(whole), 500).tolist():
        flipped = whole[place] ^ int(rng.integers(1, 256))
        path.write_bytes(whole[:place] + bytes([flipped]) + whole[place + 1 :])
        try:
            got = read_npz(path)
        except FormatError:
            continue
        # One of them may be hidden, by damage of the list of what is there.
        if isinstance(got, dict):
            assert got.keys() <= {"x", "y"}
            got = got.get("x", x), got.get("y", y)
        np.testing.assert_array_equal(got[0], x)
        np.testing.assert_array_equal(got[1], y)


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
