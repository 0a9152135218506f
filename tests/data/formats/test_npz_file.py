import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from fedlearn.data import FormatError
from fedlearn.data.formats.npz_file import read_npz

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


def npy(header, data=b"", version=b"\x01\x00"):
    header = header.encode()
    return (
        b"\x93NUMPY"
        + version
        + len(header).to_bytes(2, "little")
        + (header + data)
    )


FOUR = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s,)}"


@pytest.mark.parametrize(
    ("member", "match"),
    [
        (npy(FOUR % 10**12), "declares the shape"),
        (npy(FOUR % 2, bytes(7)), "8 bytes, but has 7"),
        (npy(FOUR % 2, bytes(9)), "8 bytes, but has 9"),
        (npy(FOUR % -2), "declares the shape"),
        (npy(FOUR % "", bytes(8)), "cannot be read"),
        (npy(FOUR % 2, bytes(8), b"\3\0"), "version"),
        (npy("__import__('os')"), "cannot be read"),
        (npy("(" * 3000), "cannot be read"),
        (b"no array", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_bad_array(tmp_path, member, match):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", member)
    with pytest.raises(FormatError, match=match) as caught:
        read_npz(path)
    assert "a.npz" in str(caught.value)


def test_no_pickles(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.array([{}], object))
    with pytest.raises(FormatError, match="stored as a pickle"):
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
    stream = io.BytesIO()
    np.save(stream, np.arange(3))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", stream.getvalue())
        archive.writestr("x", stream.getvalue())
    with pytest.raises(FormatError, match="'x' twice"):
        read_npz(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", stream.getvalue())
    with pytest.raises(FormatError, match="unusual way"):
        read_npz(path)
    with pytest.raises(FileNotFoundError):
        read_npz(tmp_path / "nothing.npz")


def test_what_unpacks_to_too_much(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros(1 << 25, "float32"))
    assert path.stat().st_size < 1 << 18
    with pytest.raises(FormatError, match=r"unpacks to 134,217,856.*read="):
        read_npz(path)
    # Less than 64 MiB is never too much.
    np.savez_compressed(path, x=np.zeros(1 << 23, "float32"))
    assert read_npz(path)["x"].shape == (1 << 23,)


def test_entries_that_share_their_bytes(tmp_path):
    """Every entry is within the limits, and all together are not."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros(1 << 23, "float32"))
    with zipfile.ZipFile(path, "a") as archive:
        (info,) = archive.infolist()
        archive.filelist += [info] * 5
        archive._didModify = True
    with pytest.raises(FormatError, match="unpacks to 201,327,360"):
        read_npz(path)


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
