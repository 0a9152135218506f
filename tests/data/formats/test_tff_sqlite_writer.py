import sqlite3

import numpy as np
import pytest

from fedlearn.data import FederatedDataset, FormatError
from fedlearn.data.formats.tff_sqlite import write_tff_sqlite

pytestmark = pytest.mark.backend_free

read = FederatedDataset.from_tff_sqlite


def client(count, seed):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (count, 12)),
        "label": rng.integers(-3, 3, count),
        "pixels": rng.random((count, 3), "float32"),
        "text": np.array([b"\0%d" % k for k in range(count)], object),
    }


IDS = ["b", "10", "'\";--", "é\0/🙂", "9"]
DATA = FederatedDataset.from_clients(
    {i: client(k, k) for k, i in enumerate(IDS)}
)


def same(first, second):
    assert set(first) == set(second)
    for client_id in first:
        ours, theirs = first[client_id], second[client_id]
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])
            assert ours[name].dtype == theirs[name].dtype


def test_round_trip(tmp_path):
    path = tmp_path / "data.sqlite"
    write_tff_sqlite(DATA, path)
    same(read(path, "train"), DATA)
    assert [p.name for p in tmp_path.iterdir()] == ["data.sqlite"]


def test_tables_and_indices(tmp_path):
    path = tmp_path / "data.sqlite"
    write_tff_sqlite(DATA.select(["10", "9"]), path, "dev")
    connection = sqlite3.connect(path)
    assert connection.execute(
        "SELECT name, tbl_name FROM sqlite_master ORDER BY name"
    ).fetchall() == [
        ("client_metadata", "client_metadata"),
        ("examples", "examples"),
        ("idx_examples_client_id", "examples"),
        ("idx_examples_client_id_split", "examples"),
        ("idx_metadata_client_id", "client_metadata"),
    ]
    assert connection.execute("SELECT * FROM client_metadata").fetchall() == [
        ("10", "dev", 1),
        ("9", "dev", 4),
    ]
    rows = connection.execute(
        "SELECT split_name, client_id, typeof(serialized_example_proto) "
        "FROM examples ORDER BY rowid"
    ).fetchall()
    assert rows == [("dev", "10", "blob")] + [("dev", "9", "blob")] * 4
    connection.close()


def test_second_split(tmp_path):
    path = tmp_path / "data.sqlite"
    train, test = DATA.select(["9", "10"]), DATA.select(["9", "é\0/🙂"])
    write_tff_sqlite(train, path, "train")
    write_tff_sqlite(test, str(path), split="test")
    same(read(path, "train"), train)
    same(read(path, "test"), test)
    assert read(path).num_examples("9") == 8
    before = path.read_bytes()
    with pytest.raises(ValueError, match="has a split 'test' already"):
        write_tff_sqlite(test, path, "test")
    assert path.read_bytes() == before


def test_tuples_and_other_dtypes(tmp_path):
    path = tmp_path / "data.sqlite"
    x = np.linspace(0, 1, 12).reshape(3, 2, 2)
    y = np.array([True, False, True])
    weight = np.array([1, 2, 3], "float16")
    data = FederatedDataset.from_clients({"a": (x, y, weight)})
    write_tff_sqlite(data, path)
    got = read(path)["a"]
    assert list(got) == ["sample_weight", "x", "y"]
    np.testing.assert_array_equal(got["x"], x.reshape(3, 4).astype("float32"))
    assert got["y"].tolist() == [1, 0, 1]
    assert got["sample_weight"].tolist() == [1, 2, 3]


def test_tensorflow_reads_the_rows(tmp_path):
    tf = pytest.importorskip("tensorflow")
    path = tmp_path / "data.sqlite"
    write_tff_sqlite(DATA.select(["9"]), path)
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT serialized_example_proto FROM examples"
    ).fetchall()
    connection.close()
    for k, (blob,) in enumerate(rows):
        features = tf.train.Example.FromString(blob).features.feature
        expected = DATA["9"]
        assert (
            list(features["image"].int64_list.value)
            == expected["image"][k].tolist()
        )
        assert features["label"].int64_list.value[0] == expected["label"][k]
        np.testing.assert_array_equal(
            features["pixels"].float_list.value, expected["pixels"][k]
        )
        assert features["text"].bytes_list.value[0] == expected["text"][k]
    assert len(rows) == 4


def good(value):
    return {"a": ([[1.0]], [1]), "z": value}


@pytest.mark.parametrize(
    ("clients", "match"),
    [
        (
            good(({"p": np.ones(1)}, np.ones(1))),
            "Client 'z': .*'x'.* hold dicts",
        ),
        (good({"x": np.ones((1, 1)), "t": np.ones(1)}), "same structure"),
        (good((np.ones((1, 2)), np.array([1]))), "Client 'z': x has dtype"),
        (good((np.array([[1e99]]), np.array([1]))), "Client 'z': feature 'x'"),
        ({"a": (np.zeros((0, 2)), np.zeros(0))}, "has no examples"),
        ({}, "has no examples"),
    ],
)
@pytest.mark.parametrize("exists", [False, True])
def test_nothing_is_left_of_what_fails(tmp_path, clients, match, exists):
    path = tmp_path / "data.sqlite"
    if exists:
        write_tff_sqlite(DATA, path, "other")
    before = path.read_bytes() if exists else None
    clients = {
        i: tuple(map(np.asarray, v)) if i == "a" else v
        for i, v in clients.items()
    }
    with pytest.raises(ValueError, match=match):
        write_tff_sqlite(clients, path)
    if exists:
        assert path.read_bytes() == before
        same(read(path, "other"), DATA)
    assert [p.name for p in tmp_path.iterdir()] == ["data.sqlite"] * exists


def test_files_that_are_something_else(tmp_path):
    path = tmp_path / "data.sqlite"
    path.write_bytes(b"This is somebody's letter, and it stays." * 100)
    before = path.read_bytes()
    with pytest.raises(FormatError, match="cannot be added"):
        write_tff_sqlite(DATA, path)
    assert path.read_bytes() == before
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE other (a)")
    connection.close()
    with pytest.raises(FormatError, match="no table 'examples'"):
        write_tff_sqlite(DATA, path)
    with pytest.raises(FormatError, match="cannot be added"):
        write_tff_sqlite(DATA, tmp_path)
    with pytest.raises(FileNotFoundError):
        write_tff_sqlite(DATA, tmp_path / "no folder" / "data.sqlite")
