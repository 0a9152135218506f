import os

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn import state_file
from tests import zoo


@pytest.fixture(scope="module")
def process():
    return zoo.classifier_process()


@pytest.fixture(scope="module")
def state(process):
    state = process.initialize(seed=2**40)
    return state._replace(
        round_num=np.asarray(2**33, np.int64),
        trainable=[w + 0.1 for w in state.trainable],
    )


@pytest.fixture(scope="module")
def written(process, state, tmp_path_factory):
    path = tmp_path_factory.mktemp("state") / "deep" / "state.fedlearn"
    process.save_state(state, path)
    return path


def test_round_trip(process, state, written):
    loaded = process.load_state(written)
    assert type(loaded) is type(state)
    zoo.assert_equal(loaded, state)
    for a, b in zip(
        keras.tree.flatten(loaded), keras.tree.flatten(state), strict=True
    ):
        assert a.dtype == b.dtype
        assert type(a) is type(b)
    # And the process takes it.
    process.evaluate(loaded, [zoo.points(8)])


def test_facts_come_back(process, state, tmp_path):
    path = tmp_path / "s"
    facts = {"é": [1, 2.5, None, {"deep": True}]}
    state_file.save(path, state, facts)
    assert state_file.load(path, like=state)[1] == facts


def test_states_of_clients_come_back(process, state, tmp_path):
    kept = {"a": {"error": np.ones(3, "float32")}, "b": {}}
    state = state._replace(client_states=kept)
    process.save_state(state, tmp_path / "s")
    loaded = process.load_state(tmp_path / "s")
    assert set(loaded.client_states) == {"a", "b"}
    zoo.assert_equal(loaded.client_states["a"], kept["a"])


def test_no_other_file_is_left(written):
    assert os.listdir(written.parent) == [written.name]


def test_every_cut_is_an_error(process, state, written, tmp_path):
    data = written.read_bytes()
    path = tmp_path / "cut"
    for length in [*range(60), *range(60, len(data), 37), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"cut short|isn't a state"):
            state_file.load(path, like=state)


def test_every_damaged_byte_is_an_error(process, state, written, tmp_path):
    data = written.read_bytes()
    path = tmp_path / "damaged"
    for position in [*range(60), *range(60, len(data), 41)]:
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=r"damaged|isn't a state"):
            state_file.load(path, like=state)


def test_more_bytes_than_were_written(process, written, tmp_path):
    path = tmp_path / "longer"
    path.write_bytes(written.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="damaged"):
        process.load_state(path)


@pytest.mark.parametrize("data", [b"", b"\x89HDF\r\n", b"PK\x03\x04 a model"])
def test_a_foreign_file(process, tmp_path, data):
    path = tmp_path / "foreign"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"isn't a state.*load_model"):
        process.load_state(path)


def test_no_file(process, tmp_path):
    with pytest.raises(FileNotFoundError):
        process.load_state(tmp_path / "nowhere")


def test_the_state_of_another_model(written):
    with pytest.raises(
        ValueError, match=r"state of another process: its 'trainable'"
    ):
        zoo.regression_process().load_state(written)


def test_the_state_of_another_server_optimizer(written):
    process = fl.FederatedAveraging(
        zoo.classifier(), server_optimizer=keras.optimizers.Adam()
    )
    with pytest.raises(ValueError, match="its 'optimizer' has 2 arrays"):
        process.load_state(written)


def test_a_state_of_an_unknown_version(process, state, tmp_path):
    """Sound bytes that aren't what this version writes."""
    import hashlib

    from fedlearn import wire

    facts = np.frombuffer(b"null", np.uint8)
    for tree in (
        {"else": np.zeros(3)},
        [np.zeros(3)],
        np.zeros(3),
        {"state": (), "clients": {}, "facts": facts},
        {"state": np.zeros(7), "clients": np.zeros(3), "facts": facts},
    ):
        message = wire.to_bytes(tree)
        path = tmp_path / "odd"
        path.write_bytes(
            b"fedlearn state 1\n" + hashlib.sha256(message).digest() + message
        )
        with pytest.raises(ValueError, match="no state that this version"):
            process.load_state(path)


def test_a_failed_write_leaves_the_old_file(
    process, state, tmp_path, monkeypatch
):
    path = tmp_path / "state"
    process.save_state(state, path)
    before = path.read_bytes()

    def fail(*args):
        raise OSError("disk full")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(OSError, match="disk full"):
                process.save_state(process.initialize(), path)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["state"]


def test_a_relative_path(process, state, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    process.save_state(state, "here")
    zoo.assert_equal(process.load_state("here"), state)
