import json
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from fedlearn import FederatedDataset
from fedlearn.data import element as el
from fedlearn.data.checksum import checksum
from fedlearn.data.formats import compact_file
from fedlearn.data.formats.compact_file import (
    CompactFile,
    write_compact_file,
)
from fedlearn.data.formats.format_error import FormatError

pytestmark = pytest.mark.backend_free

IDS = ["ann", "b/o'b\"", "nul\0", "ünï\U0001f600", "\ud800", "empty", ".."]


@pytest.fixture
def dataset():
    rng = np.random.default_rng(0)

    def client(k):
        n = 0 if IDS[k] == "empty" else k + 2
        x = {
            "image": (rng.integers(0, 256, (n, 4, 3)) / 255).astype("float32"),
            "text": np.array([b"t" * j for j in range(n + 1)], object)[:n],
        }
        y = [rng.integers(-5, 300 + k * 40_000, n), rng.random(n) < 0.5]
        return x, y, rng.normal(size=n)

    return FederatedDataset.from_clients(
        {name: client(k) for k, name in enumerate(IDS)}
    )


@pytest.fixture
def path(dataset, tmp_path):
    dataset.save(tmp_path / "clients.h5")
    return tmp_path / "clients.h5"


def assert_same(one, other):
    assert one.client_ids == other.client_ids
    for client_id in one:
        mine, theirs = one[client_id], other[client_id]
        assert el.spec_of(mine) == el.spec_of(theirs)
        for a, b in zip(el.arrays(mine), el.arrays(theirs), strict=True):
            assert a.tolist() == b.tolist()
        assert one.num_examples(client_id) == other.num_examples(client_id)


def test_load_gives_what_was_saved(dataset, path):
    loaded = FederatedDataset.load(path)
    assert_same(loaded, dataset)
    for array in el.arrays(loaded["ann"]):
        assert not array.flags.writeable


def test_pooled_agrees(dataset, path):
    loaded = FederatedDataset.load(path)
    for a, b in zip(
        el.arrays(loaded.pooled()), el.arrays(dataset.pooled()), strict=True
    ):
        assert a.tolist() == b.tolist()


def test_nothing_but_the_file_is_left(path):
    assert [p.name for p in path.parent.iterdir()] == ["clients.h5"]


def test_saving_what_was_loaded_from_the_same_file(dataset, path):
    FederatedDataset.load(path).select(["ann", ".."]).save(path)
    assert_same(FederatedDataset.load(path), dataset.select(["ann", ".."]))


def test_a_failed_save_leaves_the_old_file(dataset, path):
    def fail(element):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        dataset.map(fail).save(path)
    assert [p.name for p in path.parent.iterdir()] == ["clients.h5"]
    assert_same(FederatedDataset.load(path), dataset)


def test_an_interrupted_writer_leaves_nothing(tmp_path):
    def chunks():
        yield np.array([0]), {"x": np.array([1.0])}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_compact_file(tmp_path / "new.h5", {"a": 2}, chunks())
    assert list(tmp_path.iterdir()) == []


def test_an_example_that_never_came(tmp_path):
    chunks = [(np.array([0]), {"x": np.array([1.0])})]
    with pytest.raises(ValueError, match="1 of 2 examples"):
        write_compact_file(tmp_path / "new.h5", {"a": 2}, chunks)
    assert list(tmp_path.iterdir()) == []


def test_examples_in_any_order(tmp_path):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(100, 3))
    text = np.array([f"{k}" * (k % 7) for k in range(100)], object)
    places = [
        np.sort(part) for part in np.split(rng.permutation(100), [1, 20, 60])
    ]
    chunks = [(p, {"x": x[p], "text": text[p]}) for p in places]
    counts = {"a": 30, "b": 70}
    write_compact_file(tmp_path / "f.h5", counts, chunks)
    source = CompactFile(tmp_path / "f.h5")
    assert (source.load("b")["x"] == x[30:]).all()
    assert source.load("a")["text"].tolist() == text[:30].tolist()


def test_another_number_of_examples_than_was_counted(tmp_path):
    ds = FederatedDataset.from_clients({"a": (np.zeros(99), [1] * 99)})
    numbers = iter([5, 6])

    def draw(client):
        count = next(numbers)
        return client[0][:count], client[1][:count]

    with pytest.raises(ValueError, match="'a': the examples are others than"):
        ds.map(draw).save(tmp_path / "f.h5")
    assert list(tmp_path.iterdir()) == []


def test_clients_that_differ(tmp_path):
    ds = FederatedDataset.from_clients({"a": ([1.0], [2]), "b": ([3.0], [2])})
    odd = ds.map(lambda c: (c[0], c[1] if c[0] == 1 else c[1] * 1.0))
    with pytest.raises(ValueError, match="y has dtype float64"):
        odd.save(tmp_path / "f.h5")
    assert list(tmp_path.iterdir()) == []


def test_no_examples(tmp_path):
    ds = FederatedDataset.from_clients({"a": (np.zeros((0, 2)), np.zeros(0))})
    with pytest.raises(ValueError, match="no examples"):
        ds.save(tmp_path / "f.h5")


def _read_in_another_process(source, client_id, results):
    results.put(source.load(client_id)[2].tolist())


def test_another_process_reads_it(dataset, path):
    source = pickle.loads(pickle.dumps(CompactFile(path)))
    assert source.load("ann")[2].tolist() == dataset["ann"][2].tolist()
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(
        target=_read_in_another_process, args=(source, "ann", results)
    )
    process.start()
    assert results.get(timeout=60) == dataset["ann"][2].tolist()
    process.join(60)


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.h5"):
        FederatedDataset.load(tmp_path / "nothing.h5")


def test_not_hdf5(tmp_path):
    (tmp_path / "f.h5").write_bytes(b"no" * 1000)
    with pytest.raises(FormatError, match=r"f\.h5 cannot be opened as HDF5"):
        FederatedDataset.load(tmp_path / "f.h5")


def test_another_hdf5_file(tmp_path):
    h5py.File(tmp_path / "f.h5", "w").close()
    with pytest.raises(FormatError, match="no complete compact file"):
        FederatedDataset.load(tmp_path / "f.h5")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_a_file_cut_short(path, part):
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(FormatError, match=r"clients\.h5"):
        FederatedDataset.load(path)


def _replace(file, name, data):
    del file[name]
    file[name] = data


def _about(file, text=None, **changes):
    """Says something else, and vouches for it, as a hostile author would."""
    about = json.loads(file["about"][:].tobytes()) | changes
    data = (text or json.dumps(about)).encode()
    _replace(file, "about", np.frombuffer(data, np.uint8))
    file.attrs["checksum"] = compact_file._rest_checksum(
        tuple(IDS), file["about"][:], file["ends"][:], file["checksums"][:]
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda f: f.attrs.__delitem__("format"),
        lambda f: f.attrs.__setitem__("format", "fedlearn clients"),
        lambda f: f.attrs.__setitem__("version", "2"),
        lambda f: f.attrs.__delitem__("version"),
        lambda f: f.attrs.__delitem__("checksum"),
        lambda f: _replace(f, "checksums", f["checksums"][:-1]),
        lambda f: _about(f, dtypes=[]),
        lambda f: f.attrs.__setitem__("version", 99),
        lambda f: _about(f, "{"),
        lambda f: _about(f, "[" * 100_000),
        lambda f: _about(f, structure={"tuple": [0, 99]}),
        lambda f: _replace(f, "arrays/4/values", np.zeros(3)),
        lambda f: _replace(f, "ends", f["ends"][:][::-1]),
        lambda f: _replace(f, "ends", f["ends"][:-1]),
        lambda f: _replace(f, "client_ids/ends", np.array([3, 4])),
        lambda f: _replace(f, "client_ids/bytes", f["client_ids/bytes"][1:]),
        lambda f: f["client_ids/bytes"].__setitem__(0, 255),
        lambda f: f.__delitem__("arrays"),
        lambda f: _replace(f, "arrays", np.zeros(3)),
    ],
)
def test_damage(path, spoil):
    with h5py.File(path, "r+") as file:
        spoil(file)
    with pytest.raises(FormatError, match=r"clients\.h5"):
        FederatedDataset.load(path)


def test_texts_that_point_elsewhere(path):
    with h5py.File(path, "r+") as file:
        file["arrays/1/lengths"][:] = 10**6
    loaded = FederatedDataset.load(path)
    with pytest.raises(FormatError, match="client 'ann' cannot be read"):
        loaded["ann"]


def test_the_structure_is_plain_json(path):
    with h5py.File(path) as file:
        about = json.loads(file["about"][:].tobytes())
    structure = about["structure"]
    assert structure == {
        "tuple": [
            {"dict": [["image", 0], ["text", 1]]},
            {"list": [2, 3]},
            4,
        ]
    }
    assert compact_file._from_json(structure) == (
        {"image": 0, "text": 1},
        [2, 3],
        4,
    )


@pytest.fixture
def named(tmp_path):
    """A data set with names of classes, and its file."""
    ds = FederatedDataset.from_clients(
        {
            "ann": (["to be", "or"], ["b", "a"], [0.5, 1.5]),
            "bob": (["not"], ["c"], [2.5]),
        }
    )
    ds.save(tmp_path / "named.h5")
    return ds, tmp_path / "named.h5"


def test_names_of_classes(named):
    ds, path = named
    assert FederatedDataset.load(path).class_names == ("a", "b", "c")
    ds.map(lambda c: c[:2]).save(path)
    assert FederatedDataset.load(path).class_names == ("a", "b", "c")


def test_a_file_of_an_older_release(path):
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = "fedlearn clients"
        file.attrs["version"] = 1
    with pytest.raises(FormatError, match=r"version 1.*make the file again"):
        FederatedDataset.load(path)


@pytest.mark.parametrize(
    ("name", "value"), [("arrays/4/values", 7.5), ("arrays/0/table", 0.125)]
)
def test_another_number(path, name, value):
    with h5py.File(path, "r+") as file:
        file[name][:] = value
    loaded = FederatedDataset.load(path)
    with pytest.raises(FormatError, match="'ann' cannot be read: its checksum"):
        loaded["ann"]
    with pytest.raises(FormatError, match="checksum"):
        loaded.pooled()
    assert loaded.num_examples("ann") == 2


def test_two_threads_may_write_one_file(dataset, path):
    """Each writes all of it; the last one's stays."""
    ds = FederatedDataset.from_clients(
        {str(k): (np.full((50, 20), k), [k] * 50) for k in range(20)}
    )
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ds.save(path), range(8)))
    assert_same(FederatedDataset.load(path), ds)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_each_client_is_compared_once(path, monkeypatch):
    loaded = FederatedDataset.load(path)
    compared = []

    def count(element):
        compared.append(element)
        return checksum(element)

    monkeypatch.setattr(compact_file, "checksum", count)
    for _ in range(2):
        loaded["ann"]
    assert len(compared) == 1
    loaded.pooled()
    assert len(compared) == len(loaded)
    FederatedDataset.load(path)["ann"]
    assert len(compared) == len(loaded) + 1


def test_other_ids_dtypes_or_names(named):
    _, path = named
    whole = path.read_bytes()
    for spoil in (
        lambda f: f["client_ids/bytes"].__setitem__(0, ord("A")),
        lambda f: f["ends"].__setitem__(0, 1),
        lambda f: f["about"].__setitem__(-3, ord("d")),
        lambda f: f["checksums"].__setitem__(0, 1),
    ):
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            spoil(file)
        with pytest.raises(FormatError, match="its checksum doesn't match"):
            FederatedDataset.load(path)


def test_a_flipped_byte_is_an_error_or_changes_nothing(named):
    ds, path = named
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    errors = 0
    for place in rng.integers(0, len(whole), 600).tolist():
        flipped = whole[place] ^ int(rng.integers(1, 256))
        # A file of its own: HDF5 takes the same one for that it has open.
        changed = path.with_name(f"{place}.h5")
        changed.write_bytes(
            whole[:place] + bytes([flipped]) + whole[place + 1 :]
        )
        try:
            loaded = FederatedDataset.load(changed)
            assert loaded.class_names == ds.class_names
            assert_same(loaded, ds)
        except FormatError:
            errors += 1
    assert errors > 30
