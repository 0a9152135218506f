"""Damaged and malicious files: a good read or a `FormatError`, no more."""

import contextlib
import json
import sqlite3
import zlib

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedlearn.data import FederatedDataset, FormatError
from fedlearn.data import element as el
from fedlearn.data.client_files import read_client_files
from fedlearn.data.fedjax_sqlite import read_fedjax_sqlite
from fedlearn.data.leaf import read_leaf
from fedlearn.data.packed_arrays import unpack_arrays
from fedlearn.data.tff_hdf5 import read_tff_hdf5
from fedlearn.data.tff_sqlite import read_tff_sqlite
from fedlearn.data.tff_sqlite_writer import write_tff_sqlite

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


# {"x": float32 of (3,), "t": bytes of (3,)}, from the specification.
PACKED = (
    b"\x82\xa1x\xc7\x19\x01\x93\x91\x03\xa7float32\xc4\x0c"
    + np.ones(3, "<f4").tobytes()
    + b"\xa1t\xc7\x0d\x04\x92\x91\x03\x93\xc4\x02ab\xc4\x01c\xc4\x00"
)


def write_fedjax(path):
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE TABLE federated_data (client_id BLOB NOT NULL PRIMARY KEY, "
        "data BLOB NOT NULL, num_examples INTEGER NOT NULL)"
    )
    for client_id in (b"a", b"b"):
        connection.execute(
            "INSERT INTO federated_data VALUES (?, ?, 3)",
            (client_id, zlib.compress(PACKED)),
        )
    connection.commit()
    connection.close()


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
    "fedjax.sqlite": (write_fedjax, read_fedjax_sqlite),
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


@few
@given(content=changed(PACKED))
def test_changed_arrays(content):
    try:
        arrays = unpack_arrays(content)
    except ValueError:
        return
    assert all(array.ndim >= 1 for array in arrays.values())
