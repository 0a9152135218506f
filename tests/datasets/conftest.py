import contextlib
import lzma
import shutil
import sqlite3

import pytest


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    """One cache for all tests, so that a file is converted once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def real_file(data_dir):
    """A function from a name to the path of a file of real data."""

    def find(name):
        path = data_dir / name
        if not path.exists():
            pytest.skip(f"{name} is not in {data_dir} (FEDLEARN_TEST_DATA)")
        return path

    return find


@pytest.fixture
def first_rows(real_file, tmp_path):
    """The first examples of a split of a TFF file, read by TensorFlow."""
    tf = pytest.importorskip("tensorflow")

    def read(name, split, num=3):
        plain = tmp_path / "plain.sqlite"
        if not plain.exists():
            with lzma.open(real_file(name)) as packed, open(plain, "wb") as f:
                shutil.copyfileobj(packed, f)
        with contextlib.closing(sqlite3.connect(plain)) as connection:
            rows = connection.execute(
                "SELECT client_id, serialized_example_proto FROM examples "
                "WHERE split_name = ? ORDER BY client_id, rowid LIMIT ?",
                (split, num),
            ).fetchall()
        found = []
        for client_id, blob in rows:
            features = tf.train.Example.FromString(blob).features.feature
            values = {}
            for key, feature in features.items():
                kind = feature.WhichOneof("kind")
                values[key] = list(getattr(feature, kind).value)
            found.append((client_id, values))
        return found

    return read
