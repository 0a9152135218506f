import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from fedlearn.data import FederatedDataset, FormatError
from fedlearn.data.formats.tff_hdf5 import read_tff_hdf5

pytestmark = pytest.mark.backend_free


def add_client(file, client_id, count, seed=0):
    rng = np.random.default_rng(seed)
    group = file.create_group(f"examples/{client_id}")
    group["label"] = rng.integers(0, 9, count).astype("int32")
    group["pixels"] = rng.random((count, 2, 3)).astype("float32")
    text = [b"n%d" % k for k in range(count)]
    group.create_dataset("text", data=text, dtype=h5py.string_dtype())


@pytest.fixture
def write(tmp_path):
    """Writes two good clients, and what `change` makes of the file."""

    def write(change=lambda file: None):
        path = tmp_path / "data.h5"
        with h5py.File(path, "w") as file:
            add_client(file, "9", 3, seed=9)
            add_client(file, "10", 40, seed=10)
            change(file)
        return path

    return write


def replace(name, **options):
    """A change that gives client 10's feature another data set."""

    def change(file):
        del file[f"examples/10/{name}"]
        file["examples/10"].create_dataset(name, **options)

    return change


def test_reads_what_was_written(write):
    ds = FederatedDataset(read_tff_hdf5(write()))
    assert ds.client_ids == ("10", "9")
    assert [ds.num_examples(i) for i in ds] == [40, 3]
    got = ds["10"]
    rng = np.random.default_rng(10)
    assert list(got) == ["label", "pixels", "text"]
    np.testing.assert_array_equal(got["label"], rng.integers(0, 9, 40))
    assert got["label"].dtype == np.int32
    np.testing.assert_array_equal(
        got["pixels"], rng.random((40, 2, 3)).astype("float32")
    )
    assert got["text"].tolist() == [b"n%d" % k for k in range(40)]
    assert not any(array.flags.writeable for array in got.values())
    assert "11" not in ds
    assert ds.pooled()["pixels"].shape == (43, 2, 3)


def test_other_dtypes_and_storage(write):
    def change(file):
        for client_id, count in (("9", 3), ("10", 40)):
            group = file[f"examples/{client_id}"]
            group["big"] = np.arange(count).astype(">f4")
            group["flag"] = np.arange(count) % 2 == 0
            group["fixed"] = np.array([b"ab", b"c"] * count)[:count]
            group.create_dataset(
                "packed",
                data=np.zeros((count, 1000), "uint8"),
                chunks=(2, 300),
                compression="gzip",
                compression_opts=9,
            )

    got = read_tff_hdf5(write(change)).load("10")
    assert got["big"].dtype == np.dtype("float32")
    assert got["big"].dtype.isnative
    assert got["big"].tolist() == list(range(40))
    assert got["flag"].dtype == bool
    assert got["flag"].tolist() == [True, False] * 20
    assert got["fixed"].tolist() == [b"ab", b"c"] * 20
    assert got["packed"].shape == (40, 1000)


@pytest.mark.parametrize(
    "client_id", ["ä'\"; DROP", "a b\n", "..", "🙂", "a.b", "%s"]
)
def test_odd_ids(write, client_id):
    source = read_tff_hdf5(write(lambda f: add_client(f, client_id, 2)))
    assert client_id in source.client_ids
    assert source.num_examples(client_id) == 2
    assert source.load(client_id)["text"].tolist() == [b"n0", b"n1"]


def test_client_without_examples_has_the_others_shapes(write):
    def change(file):
        for name in ("label", "pixels", "text"):
            file[f"examples/0/{name}"] = np.zeros(0)

    source = read_tff_hdf5(write(change))
    assert source.num_examples("0") == 0
    assert source.load("0")["pixels"].shape == (0, 2, 3)
    assert source.load("0")["text"].dtype == object


def test_pickled_and_read_from_threads(write):
    source = read_tff_hdf5(write())
    expected = source.load("10")
    other = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(other.load("10")["label"], expected["label"])
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(source.load, ["10", "9"] * 10):
            assert len(got["label"]) in (40, 3)


def test_nothing_but_the_asked_client_is_read(write):
    path = write()
    source = read_tff_hdf5(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        source.load("9")


def test_real_files(shared_file, tmp_path):
    with tarfile.open(shared_file("mnist_by_writer_small.tar.bz2")) as tar:
        tar.extractall(tmp_path, filter="data")
    source = read_tff_hdf5(tmp_path / "mnist_by_writer_small_test.h5")
    assert len(source.client_ids) == 60
    assert sum(map(source.num_examples, source.client_ids)) == 459
    got = source.load("f0000")
    assert got["pixels"].shape == (10, 28, 28)
    assert got["pixels"].dtype == np.float32
    assert got["label"].dtype == np.int32
    # Ink is 0.0 on a background of 1.0.
    assert got["pixels"][:, 0, 0].tolist() == [1.0] * 10


def set_link(link):
    def change(file):
        del file["examples/10/label"]
        file["examples/10/label"] = link

    return change


def virtual(file):
    layout = h5py.VirtualLayout((40,), "int32")
    layout[:] = h5py.VirtualSource("other.h5", "label", (40,))
    del file["examples/10/label"]
    file["examples/10"].create_virtual_dataset("label", layout)


def external(file):
    del file["examples/10/label"]
    file["examples/10"].create_dataset(
        "label", (40,), "int32", external=[("/etc/hostname", 0, 160)]
    )


def loop(file):
    file["examples/10/again"] = file["examples"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            set_link(h5py.SoftLink("/examples/9/label")),
            "'label' in /examples/10 is of type SoftLink",
        ),
        (set_link(h5py.ExternalLink("o.h5", "/a")), "ExternalLink"),
        (virtual, "10/label declares the shape"),
        (external, "10/label declares the shape"),
        (loop, "'again' .*Group. Expected a Dataset"),
        (lambda f: f.create_group("examples/10/g"), "'g' .*Group"),
        (replace("label", data=np.zeros(39, "int32")), "different numbers"),
        (replace("label", data=7), "Expected .examples"),
        (replace("label", data=h5py.Empty("f4")), "Expected .examples"),
        (replace("label", data=np.zeros(40)), "int32.*float64"),
        (replace("pixels", data=np.zeros((40, 3), "f4")), r"\(2, 3\).*\(3,\)"),
        (lambda f: f.move("examples/10/label", "examples/10/y"), "structure"),
        (
            replace("label", data=np.zeros(40, [("a", "i4"), ("b", "f4")])),
            "and the dtype",
        ),
        (replace("label", data=np.zeros(40, "V4")), "and the dtype"),
        (replace("label", data=np.zeros(40, "c8")), "and the dtype"),
        (
            replace("label", shape=40, dtype=h5py.ref_dtype),
            "and the dtype",
        ),
        (
            replace("label", shape=40, dtype=h5py.enum_dtype({"A": 1})),
            "declares the shape",
        ),
        (
            replace("label", shape=40, dtype=h5py.vlen_dtype("i4")),
            "and the dtype",
        ),
        (
            replace("label", shape=(10**12,), dtype="i4"),
            "holds only 0 bytes",
        ),
        (
            replace("pixels", shape=(10**12, 10**6), dtype="f4", chunks=(1, 9)),
            "declares the shape",
        ),
        (replace("label", shape=40, dtype="i4", chunks=(10,)), "declares"),
    ],
)
def test_hostile_client(write, change, match):
    source = read_tff_hdf5(write(change))
    with pytest.raises(FormatError, match=match) as caught:
        [source.load(i) for i in source.client_ids]
    assert "data.h5" in str(caught.value)


def test_one_chunk_of_many_is_missing(write):
    def change(file):
        replace("label", shape=40, dtype="i4", chunks=(10,))(file)
        file["examples/10/label"][:30] = 1

    with pytest.raises(FormatError, match="never written in full"):
        read_tff_hdf5(write(change)).load("10")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda f: f.move("examples", "e"),
            "'examples' in / is of type NoneType",
        ),
        (lambda f: f["examples"].clear(), "no clients"),
        (lambda f: f["examples"].create_group(b"\xff"), "no text"),
    ],
)
def test_hostile_file(write, change, match):
    with pytest.raises(FormatError, match=match):
        read_tff_hdf5(write(change))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "cannot be read as HDF5"),
        (b"SQLite format 3\0", "cannot be read as HDF5"),
        (b"BZh91AY&SY", "an archive: unpack it first"),
        (bytes(257) + b"ustar", "an archive"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "cut short or damaged"),
    ],
)
def test_other_files(tmp_path, content, match):
    path = tmp_path / "odd.h5"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=match):
        read_tff_hdf5(path)


def test_cut_short(write):
    path = write()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FormatError, match="cut short"):
        read_tff_hdf5(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_tff_hdf5(tmp_path / "nothing.h5")
    with pytest.raises(FormatError, match="is a folder"):
        read_tff_hdf5(tmp_path)
