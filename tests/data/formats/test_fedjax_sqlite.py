import contextlib
import pickle
import sqlite3
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fedlearn.data import FederatedDataset, FormatError
from fedlearn.data.formats import fedjax_sqlite
from fedlearn.data.formats.fedjax_sqlite import read_fedjax_sqlite

pytestmark = pytest.mark.backend_free

CREATE = (
    "CREATE TABLE federated_data (client_id BLOB NOT NULL PRIMARY KEY, "
    "data BLOB NOT NULL, num_examples INTEGER NOT NULL)"
)


def extension(code, payload):
    return b"\xc9" + len(payload).to_bytes(4, "big") + bytes([code]) + payload


def blob(value):
    return b"\xc6" + len(value).to_bytes(4, "big") + value


def pack(arrays):
    """FedJAX's bytes, always with the widest lengths."""
    out = b"\xdf" + len(arrays).to_bytes(4, "big")
    for name, array in arrays.items():
        out += b"\xdb" + len(name).to_bytes(4, "big") + name.encode()
        shape = bytes([0x90 | array.ndim]) + b"".join(
            b"\xcd" + n.to_bytes(2, "big") for n in array.shape
        )
        if array.dtype == object:
            items = b"\xdd" + array.size.to_bytes(4, "big")
            items += b"".join(map(blob, array.flat))
            out += extension(4, b"\x92" + shape + items)
        else:
            dtype = array.dtype.name.encode()
            dtype = bytes([0xA0 | len(dtype)]) + dtype
            out += extension(1, b"\x93" + shape + dtype + blob(array.tobytes()))
    return out


def client(count, seed=0):
    rng = np.random.default_rng(seed)
    words = np.empty(count, object)
    words[:] = [b"w%d" % k for k in range(count)]
    return {
        "x": rng.random((count, 2, 2)).astype("float32"),
        "y": rng.integers(0, 9, count).astype("int32"),
        "words": words,
    }


def row(client_id, arrays):
    data = zlib.compress(pack(arrays))
    return client_id, data, len(next(iter(arrays.values())))


@pytest.fixture
def write(tmp_path):
    def write(rows, create=CREATE):
        path = tmp_path / "data.sqlite"
        connection = sqlite3.connect(path)
        connection.executescript(create)
        for values in rows:
            connection.execute(
                "INSERT INTO federated_data VALUES (?, ?, ?)", values
            )
        connection.commit()
        connection.close()
        return path

    return write


GOOD = [row(b"b", client(3, 1)), row("ä'\0/".encode(), client(5, 2))]


def test_reads_what_was_written(write):
    ds = FederatedDataset(read_fedjax_sqlite(write(GOOD)))
    assert ds.client_ids == ("b", "ä'\0/")
    assert [ds.num_examples(i) for i in ds] == [3, 5]
    for client_id, count, seed in (("b", 3, 1), ("ä'\0/", 5, 2)):
        expected = client(count, seed)
        got = ds[client_id]
        assert list(got) == ["x", "y", "words"]
        for name in got:
            np.testing.assert_array_equal(got[name], expected[name])
            assert got[name].dtype == expected[name].dtype
            assert not got[name].flags.writeable


def test_pickled_and_read_from_threads(write):
    source = pickle.loads(pickle.dumps(read_fedjax_sqlite(write(GOOD))))
    with ThreadPoolExecutor(4) as pool:
        counts = [len(e["y"]) for e in pool.map(source.load, ["b"] * 20)]
    assert counts == [3] * 20


def test_clients_are_looked_up_by_primary_key(write):
    with sqlite3.connect(write(GOOD)) as connection:
        for columns in ("num_examples", "num_examples, data"):
            plan = connection.execute(
                f"EXPLAIN QUERY PLAN SELECT {columns} FROM federated_data "
                "WHERE client_id = ?",
                (b"b",),
            ).fetchone()
            assert plan[3].startswith("SEARCH")
        # The list of ids comes from the index, past the data.
        (plan,) = connection.execute(
            "EXPLAIN QUERY PLAN SELECT client_id FROM federated_data"
        ).fetchall()
        assert "COVERING INDEX" in plan[3]
    connection.close()


def test_only_the_asked_client_is_read(write):
    rows = [*GOOD, (b"broken", b"no zlib", 3)]
    source = read_fedjax_sqlite(write(rows))
    assert source.num_examples("b") == 3
    assert len(source.load("b")["y"]) == 3
    with pytest.raises(FormatError, match=r"'broken'.*no zlib stream"):
        source.load("broken")


def test_client_without_examples(write):
    empty = {"x": np.zeros(0), "y": np.zeros(0)}
    source = read_fedjax_sqlite(write([row(b"a", empty), *GOOD]))
    assert source.num_examples("a") == 0
    assert source.load("a")["x"].shape == (0, 2, 2)
    assert source.load("a")["words"].dtype == object


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ((b"c", b"", 3), "no whole zlib stream"),
        ((b"c", GOOD[0][1][:-1], 3), "no whole zlib stream"),
        ((b"c", GOOD[0][1] + b"!", 3), "no whole zlib stream"),
        ((b"c", "text", 3), "of type str"),
        ((b"c", GOOD[0][1], 4), "has 3 examples, but 'num_examples' is 4"),
        ((b"c", GOOD[0][1], -1), "-1 as 'num_examples'"),
        ((b"c", GOOD[0][1], "many"), "'many' as 'num_examples'"),
        ((b"c", zlib.compress(b"\x80"), 0), "no features"),
        ((b"c", zlib.compress(b"\x80\x80"), 0), "1 bytes too many"),
        (row(b"c", {"x": client(3)["x"]}), "same structure"),
        (row(b"c", client(3) | {"y": np.zeros(3)}), "float64.*int32"),
    ],
)
def test_bad_client(write, bad, match):
    source = read_fedjax_sqlite(write([*GOOD, bad]))
    with pytest.raises(FormatError, match=match) as caught:
        source.load("c")
    assert "data.sqlite" in str(caught.value)
    assert "'c'" in str(caught.value)


def test_unpacks_to_too_much(write, monkeypatch):
    source = read_fedjax_sqlite(write(GOOD))
    monkeypatch.setattr(fedjax_sqlite, "most_unpacked", lambda packed: 100)
    with pytest.raises(FormatError, match="unpack to more than 100"):
        source.load("b")


@pytest.mark.parametrize(
    ("key", "match"),
    [("text", "of type str"), (7, "of type int"), (b"\xff", "decode")],
)
def test_bad_id(write, key, match):
    with pytest.raises(FormatError, match=match):
        read_fedjax_sqlite(write([(key, GOOD[0][1], 3)]))


LOOP = (
    "CREATE VIEW federated_data AS WITH RECURSIVE n(i) AS (SELECT 1 UNION "
    "ALL SELECT i + 1 FROM n) SELECT i AS client_id, i AS data, i AS "
    "num_examples FROM n"
)


@pytest.mark.parametrize(
    ("create", "match"),
    [
        ("CREATE TABLE other (a)", "no table 'federated_data'"),
        ("CREATE TABLE federated_data (client_id)", "'data', 'num_examples'"),
        (LOOP, "is a view or a virtual table"),
        (
            "CREATE VIRTUAL TABLE federated_data USING fts5(client_id, data, "
            "num_examples)",
            "is a view or a virtual table",
        ),
        (
            "CREATE TABLE federated_data (client_id BLOB, num_examples, data "
            "AS (zeroblob(900000000)))",
            "no column 'data'",
        ),
        (CREATE, "no clients"),
    ],
)
def test_other_tables(write, create, match):
    if "fts5" in create and not _has_fts5():
        pytest.skip("this SQLite was built without FTS5")
    with pytest.raises(FormatError, match=match):
        read_fedjax_sqlite(write([], create))


def _has_fts5():
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        modules = connection.execute("PRAGMA module_list").fetchall()
    return ("fts5",) in modules


def test_id_twice(write):
    create = "CREATE TABLE federated_data (client_id, data, num_examples)"
    with pytest.raises(FormatError, match="'b' twice"):
        read_fedjax_sqlite(write([GOOD[0]] * 2, create))


def test_other_files(tmp_path):
    path = tmp_path / "odd.sqlite"
    with pytest.raises(FileNotFoundError):
        read_fedjax_sqlite(path)
    with pytest.raises(FormatError, match="folder"):
        read_fedjax_sqlite(tmp_path)
    for content, match in (
        (b"", "is empty"),
        (b"\x89HDF", "begins with"),
        (b"SQLite format 3\0" + bytes(99), "cannot be read as SQLite"),
    ):
        path.write_bytes(content)
        with pytest.raises(FormatError, match=match):
            read_fedjax_sqlite(path)
