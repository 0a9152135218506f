"""Damaged and malicious files: a good read or a `FormatError`, no more."""

import contextlib
import json
import sqlite3

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedlearn.data import FederatedDataset, FormatError
from fedlearn.data import element as el
from fedlearn.data.formats.client_files import read_client_files
from fedlearn.data.formats.example_message import encode
from fedlearn.data.formats.leaf import read_leaf
from fedlearn.data.formats.tff_hdf5 import read_tff_hdf5
from fedlearn.data.formats.tff_sqlite import read_tff_sqlite, write_tff_sqlite

pytestmark = pytest.mark.backend_free

COUNTS = {"a": 3, "b": 2}

few = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def client(count):
    return {
        "x": np.full((count, 2), 0.5, "float32"),
        "y": np.arange(count),
        "t": np.array([b"text"] * count, object),
    }


def write_tff(path):
    clients = {i: client(count) for i, count in COUNTS.items()}
    write_tff_sqlite(FederatedDataset.from_clients(clients), path)


def write_hdf5(path):
    with h5py.File(path, "w") as file:
        for client_id, count in COUNTS.items():
            group = file.create_group(f"examples/{client_id}")
            for name, array in client(count).items():
                text = h5py.string_dtype() if name == "t" else array.dtype
                group.create_dataset(name, data=array, dtype=text)


def write_leaf(path):
    users = {
        i: {"x": client(count)["x"].tolist(), "y": list(range(count))}
        for i, count in COUNTS.items()
    }
    whole = {
        "users": list(users),
        "num_samples": list(COUNTS.values()),
        "user_data": users,
    }
    path.write_text(json.dumps(whole))


def write_npz(path):
    arrays = client(3)
    arrays["t"] = arrays["t"].astype("S")
    np.savez_compressed(path, **arrays)


FORMATS = {
    "tff.sqlite": (write_tff, lambda path: read_tff_sqlite(path, None)),
    "tff.h5": (write_hdf5, read_tff_hdf5),
    "leaf.json": (write_leaf, read_leaf),
    "a.npz": (write_npz, lambda path: read_client_files(path.parent)),
}


@pytest.fixture(scope="module", params=FORMATS)
def sample(request, tmp_path_factory):
    """A good file's bytes, a place for changed ones, and their reader."""
    path = tmp_path_factory.mktemp("files") / request.param
    write, read = FORMATS[request.param]
    write(path)
    return path.read_bytes(), path, read


def read_all(source):
    """Loads every client, and checks that they are whole."""
    for client_id in source.client_ids:
        element = source.load(client_id)
        lengths = {len(array) for array in el.arrays(element)}
        assert lengths == {source.num_examples(client_id)}
        for array in el.arrays(element):
            assert array.nbytes < 1 << 22


@st.composite
def changed(draw, content):
    """`content` with a few bytes flipped, cut, repeated or put in."""
    out = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        # Structure lies at both ends and in a few places between.
        at = draw(st.integers(0, max(0, len(out) - 1)))
        kind = draw(st.sampled_from(["set", "flip", "cut", "repeat", "insert"]))
        if kind == "set":
            edge = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
            out[at : at + draw(st.sampled_from([1, 2, 4, 8]))] = bytes([edge])
        elif kind == "flip" and out:
            out[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del out[at:]
        elif kind == "repeat":
            some = bytes(out[at : at + draw(st.integers(1, 64))])
            out[at:at] = some
        else:
            out[at:at] = draw(st.binary(min_size=1, max_size=8))
    return bytes(out)


def test_unchanged_file_is_good(sample):
    content, path, read = sample
    path.write_bytes(content)
    source = read(path)
    read_all(source)
    assert source.num_examples("a") == 3


@few
@given(data=st.data())
def test_changed_file(sample, data):
    content, path, read = sample
    path.write_bytes(data.draw(changed(content)))
    with contextlib.suppress(FormatError):
        read_all(read(path))


@pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 0.99])
def test_file_cut_short(sample, part):
    content, path, read = sample
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(FormatError):
        read_all(read(path))


@pytest.fixture
def write_tables(tmp_path):
    """Writes rows into TFF's tables, whose columns take any type."""

    def write(examples=(), metadata=(), sql=()):
        path = tmp_path / "data.sqlite"
        connection = sqlite3.connect(path)
        connection.execute(
            "CREATE TABLE examples (split_name, client_id, "
            "serialized_example_proto)"
        )
        connection.execute(
            "CREATE TABLE client_metadata (client_id, split_name, num_examples)"
        )
        for row in examples:
            connection.execute("INSERT INTO examples VALUES (?, ?, ?)", row)
        for row in metadata:
            connection.execute(
                "INSERT INTO client_metadata VALUES (?, ?, ?)", row
            )
        for statement in sql:
            connection.execute(statement)
        connection.commit()
        connection.close()
        return path

    return write


(BLOB,) = encode({"x": np.arange(3)[None]})
ENDLESS = (
    "CREATE VIEW {0} AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT "
    "i + 1 FROM n) SELECT 's' AS split_name, 'a' AS client_id, x'00' AS "
    "serialized_example_proto, 1 AS num_examples FROM n"
)


@pytest.mark.parametrize("table", ["examples", "client_metadata"])
def test_views_are_not_run(write_tables, table):
    path = write_tables(sql=[f"DROP TABLE {table}", ENDLESS.format(table)])
    with pytest.raises(FormatError, match=f"has no table '{table}'"):
        read_tff_sqlite(path, None)


@pytest.mark.parametrize(
    ("client_id", "match"),
    [
        (None, "NoneType"),
        (b"a", "type bytes"),
        ("", "the empty string"),
    ],
)
def test_ids_that_are_no_text(write_tables, client_id, match):
    path = write_tables(
        [("s", client_id, BLOB), ("s", "a", BLOB)],
        [(client_id, "s", 1), ("a", "s", 1)],
    )
    with pytest.raises(FormatError, match=match):
        read_tff_sqlite(path, None)


def test_names_that_are_no_utf8(write_tables):
    path = write_tables(
        [("s", "a", BLOB)],
        [("a", "s", 1)],
        ["UPDATE client_metadata SET client_id = CAST(x'ff' AS TEXT)"],
    )
    with pytest.raises(FormatError, match="UTF-8"):
        read_tff_sqlite(path, None)
    path.write_bytes(path.read_bytes().replace(b"proto)", b"prot\xff)"))
    with pytest.raises(FormatError, match="cannot be read as SQLite"):
        read_tff_sqlite(path, None)


@pytest.mark.parametrize("count", ["many", 1.5, -5, float("inf"), 2**62])
def test_counts_that_are_wrong(write_tables, count):
    path = write_tables([("s", "a", BLOB)], [("a", "s", count)] * 4)
    with pytest.raises(FormatError, match=r"examples by|overflow"):
        read_tff_sqlite(path, None)


def test_odd_ids(write_tables):
    ids = ["'\"; DROP TABLE examples", "a\0b", "a\0c", "/../x", "🙂", " "]
    path = write_tables(
        [("s", i, BLOB) for i in ids], [(i, "s", 1) for i in ids]
    )
    assert read_tff_sqlite(path, "s").client_ids == tuple(sorted(ids))


@pytest.mark.parametrize("other", ["b", "x"])
def test_index_and_table_disagree(write_tables, other):
    """Clients are counted by an index, and read from the table."""
    path = write_tables(
        [("s", "aaa", BLOB), ("s", "aaa", BLOB), ("s", "bbb", BLOB)],
        [("aaa", "s", 2), ("bbb", "s", 1)],
        ["CREATE INDEX i ON examples (client_id)"],
    )
    content = path.read_bytes()
    # In the table, the blob follows the id; in the index, nothing does.
    assert content.count(b"saaa" + BLOB) == 2
    changed = content.replace(
        b"saaa" + BLOB, b"s" + other.encode() * 3 + BLOB, 1
    )
    path.write_bytes(changed)
    with pytest.raises(FormatError, match="index doesn't list"):
        read_tff_sqlite(path, None)
