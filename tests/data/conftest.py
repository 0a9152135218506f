import os
import pathlib
import sqlite3
import struct

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="session")
def shared_file():
    """A function from a name to the path of a file of real data."""
    folder = pathlib.Path(
        os.environ.get("FEDLEARN_TEST_DATA", ROOT / ".." / "shared" / "data")
    )

    def find(name):
        path = folder / name
        if not path.exists():
            pytest.skip(f"{name} is not in {folder} (FEDLEARN_TEST_DATA)")
        return path

    return find


def varint(value):
    value &= (1 << 64) - 1
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def delimited(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def encode(features, packed=True):
    """A serialized tf.train.Example; written from the format's definition."""
    entries = b""
    for name, (kind, values) in features.items():
        if kind == "bytes":
            number, body = 1, b"".join(delimited(1, v) for v in values)
        elif kind == "float":
            number = 2
            parts = [struct.pack("<f", v) for v in values]
            body = (
                delimited(1, b"".join(parts))
                if packed
                else b"".join(varint(1 << 3 | 5) + p for p in parts)
            )
        else:
            number = 3
            parts = [varint(v) for v in values]
            body = (
                delimited(1, b"".join(parts))
                if packed
                else b"".join(varint(1 << 3) + p for p in parts)
            )
        feature = delimited(number, body)
        entry = delimited(1, name.encode()) + delimited(2, feature)
        entries += delimited(1, entry)
    return delimited(1, entries)


@pytest.fixture(scope="session")
def encode_example():
    return encode


@pytest.fixture
def write_sqlite(tmp_path):
    """Writes (split, client, blob) rows as TFF does; gives the path."""

    def write(rows, metadata=None, name="data.sqlite"):
        path = tmp_path / name
        connection = sqlite3.connect(path)
        connection.execute(
            "CREATE TABLE examples (split_name TEXT NOT NULL, client_id TEXT "
            "NOT NULL, serialized_example_proto BLOB NOT NULL)"
        )
        connection.execute(
            "CREATE TABLE client_metadata (client_id TEXT NOT NULL, "
            "split_name TEXT NOT NULL, num_examples INTEGER NOT NULL)"
        )
        connection.executemany("INSERT INTO examples VALUES (?, ?, ?)", rows)
        if metadata is None:
            pairs = [(client, split) for split, client, _ in rows]
            metadata = [(*p, pairs.count(p)) for p in dict.fromkeys(pairs)]
        connection.executemany(
            "INSERT INTO client_metadata VALUES (?, ?, ?)", metadata
        )
        connection.commit()
        connection.close()
        return path

    return write
