import numpy as np
import pytest

from fedlearn import FederatedDataset
from fedlearn.data.fingerprint import fingerprint
from fedlearn.data.formats.compact_file import CompactFile
from tests import zoo

pytestmark = pytest.mark.backend_free

CLIENTS = {f"c{i:02d}": zoo.line(3 + i, seed=i) for i in range(40)}


def changed(client, fn):
    x, y = CLIENTS[client]
    return FederatedDataset.from_clients({**CLIENTS, client: (fn(x), y)})


def differing(a, b):
    a, b = fingerprint(a), fingerprint(b)
    return {name for name in a if a[name] != b[name]}


DATA = FederatedDataset.from_clients(CLIENTS)


def test_equal_data_are_equal():
    copies = {i: (x.copy(), y.copy()) for i, (x, y) in CLIENTS.items()}
    assert not differing(DATA, FederatedDataset.from_clients(copies))


@pytest.mark.parametrize("client", ["c00", "c17", "c39"])
def test_one_number_of_a_client_in_memory(client):
    def one(x):
        x = x.copy()
        x[-1, -1] += 1e-6
        return x

    assert differing(DATA, changed(client, one)) == {"examples"}


def test_dtypes_and_sizes_and_ids():
    wide = {i: (x.astype("float64"), y) for i, (x, y) in CLIENTS.items()}
    wide = FederatedDataset.from_clients(wide)
    assert differing(DATA, wide) == {"examples"}
    longer = FederatedDataset.from_clients({**CLIENTS, "c05": zoo.line(9)})
    assert differing(DATA, longer) == {"examples", "sizes"}
    assert "clients" in differing(DATA, DATA.select(reversed(DATA.client_ids)))
    # -0.0 and 0.0 are other bits; NaN is itself.
    nan = changed("c00", lambda x: x * np.nan)
    assert not differing(nan, changed("c00", lambda x: x * np.nan))


@pytest.fixture
def loads(monkeypatch):
    """Which clients are read of compact files."""
    read = []
    load = CompactFile.load
    monkeypatch.setattr(
        CompactFile, "load", lambda self, i: read.append(i) or load(self, i)
    )
    return read


def test_a_compact_file_tells_all_clients_unread(tmp_path, loads):
    DATA.save(tmp_path / "a.h5")
    stored = FederatedDataset.load(tmp_path / "a.h5")
    # The same as the data in memory.
    assert not differing(stored, DATA)
    assert loads == ["c00"]
    changed("c23", lambda x: x + 1).save(tmp_path / "b.h5")
    other = FederatedDataset.load(tmp_path / "b.h5")
    assert differing(stored, other) == {"examples"}


def test_of_another_file_some_clients_are_read(tmp_path, loads, monkeypatch):
    monkeypatch.setattr(CompactFile, "checksum_of", None)  # as version 1
    DATA.save(tmp_path / "a.h5")
    stored = FederatedDataset.load(tmp_path / "a.h5")
    fingerprint(stored)
    assert len(set(loads)) == 16
    assert {"c00", "c39"} <= set(loads)
    changed("c39", lambda x: x + 1).save(tmp_path / "b.h5")
    other = FederatedDataset.load(tmp_path / "b.h5")
    assert differing(stored, other) == {"examples"}


def test_what_a_map_gives_counts():
    def scaled(by):
        return DATA.map(lambda client: (client[0] * by, client[1]))

    assert not differing(scaled(2), scaled(2))
    assert differing(scaled(2), scaled(3)) == {"examples"}


def test_a_map_that_draws_anew_is_left_out():
    rng = np.random.default_rng(0)

    def noisy(client):
        return client[0] + rng.normal(size=client[0].shape), client[1]

    assert not differing(DATA.map(noisy), DATA.map(noisy))
    # What it is made of counts all the same.
    other = changed("c05", lambda x: x + 1)
    assert differing(DATA.map(noisy), other.map(noisy)) == {"examples"}


def test_sides_of_a_split_are_told_apart():
    first, second = DATA.split_examples(0.5, seed=0)
    again, _ = DATA.split_examples(0.5, seed=0)
    reseeded, _ = DATA.split_examples(0.5, seed=1)
    assert not differing(first, again)
    assert differing(first, second) == {"examples"}
    assert differing(first, reseeded) == {"examples"}


def test_texts_and_several_arrays():
    def data(word):
        element = ({"text": np.array(["a", word]), "n": np.arange(2)}, [0, 1])
        return FederatedDataset.from_clients({"a": element})

    assert not differing(data("bc"), data("bc"))
    assert differing(data("bc"), data("bd")) == {"examples"}
