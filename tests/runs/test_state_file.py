import os
import pathlib
import re
import tracemalloc

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn.runs import atomic_file, state_file
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


def test_shapes_that_encoders_once_kept_are_left_out(state, tmp_path):
    """States of versions that told shapes by arrays without rows."""
    shapes = [np.zeros((0, *w.shape), "float32") for w in state.trainable]
    old = state._replace(aggregator=({"like": shapes}, np.float32(0.5)))
    state_file.save(tmp_path / "old", old)
    like = state._replace(aggregator=((), np.float32(0)))
    loaded, _ = state_file.load(tmp_path / "old", like)
    assert loaded.aggregator == ((), np.float32(0.5))


def with_feedback():
    encoder = fl.encoders.ErrorFeedback([fl.encoders.TopK(0.5)])
    return fl.FederatedAveraging(
        zoo.regression(), aggregator=fl.aggregators.Mean([encoder])
    )


def test_states_of_clients_come_back(tmp_path):
    process = with_feedback()
    state, _ = process.next(process.initialize(), [zoo.line(8), zoo.line(4)])
    assert set(state.client_states) == {"0", "1"}
    process.save_state(state, tmp_path / "s")
    loaded = process.load_state(tmp_path / "s")
    assert set(loaded.client_states) == {"0", "1"}
    zoo.assert_equal(loaded.client_states, state.client_states)


def test_states_of_clients_are_checked(tmp_path):
    process = with_feedback()
    state, _ = process.next(process.initialize(), [zoo.line(8)])
    path = tmp_path / "s"
    # The weights fit; what clients keep doesn't.
    process.save_state(state._replace(aggregator=()), path)
    with pytest.raises(ValueError, match="clients of this process keep noth"):
        zoo.regression_process().load_state(path)
    kept = state.client_states["0"]
    first = np.asarray(keras.tree.flatten(kept)[0])
    for wrong in (first[:-1], first.astype("float64"), [first, first]):
        odd = state.client_states.updated({"0": [wrong, kept]})
        process.save_state(state._replace(client_states=odd), path)
        with pytest.raises(ValueError, match="what client '0' keeps is"):
            process.load_state(path)


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"round_num": np.asarray(-1)}, "its 'round_num' is -1"),
        ({"round_num": np.asarray(1.5)}, "'round_num' isn't a whole number"),
        ({"round_num": np.zeros(1, int)}, "'round_num' isn't a whole number"),
        ({"seed": np.asarray(-7)}, "its 'seed' is -7"),
        ({"seed": np.asarray(2**63, "uint64")}, f"its 'seed' is {2**63}"),
    ],
)
def test_numbers_that_no_state_has(process, state, tmp_path, change, match):
    process.save_state(state._replace(**change), tmp_path / "s")
    with pytest.raises(ValueError, match=match):
        process.load_state(tmp_path / "s")


def test_other_dtypes_are_another_state(process, state, tmp_path):
    wide = [np.asarray(w, "float64") for w in zoo.numpy(state.trainable)]
    process.save_state(state._replace(trainable=wide), tmp_path / "s")
    with pytest.raises(ValueError, match="'trainable' has an array of float64"):
        process.load_state(tmp_path / "s")


@pytest.mark.backend_free
def test_what_a_kill_left_is_overwritten(process, state, tmp_path):
    (tmp_path / "state.partial").write_bytes(b"half")
    process.save_state(state, tmp_path / "state")
    assert os.listdir(tmp_path) == ["state"]


@pytest.mark.backend_free
def test_files_have_the_rights_of_others(tmp_path):
    before = os.umask(0o027)
    try:
        atomic_file.write(tmp_path / "a", b"1")
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


@pytest.mark.backend_free
def test_folders_are_flushed(tmp_path, monkeypatch):
    flushed = []
    real = os.fsync

    def fsync(handle):
        flushed.append(os.readlink(f"/proc/self/fd/{handle}"))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    atomic_file.write(tmp_path / "new" / "a", b"1")
    assert flushed[0] == str(tmp_path)  # which holds the new folder
    assert flushed[-1] == str(tmp_path / "new")  # and that the new name
    (tmp_path / "half").touch()
    atomic_file.replace(tmp_path / "half", tmp_path / "whole")
    assert flushed[-2:] == [str(tmp_path / "half"), str(tmp_path)]


@pytest.mark.backend_free
def test_what_replaces_a_file_is_flushed():
    """Nothing in the package renames a file but what flushes its folder."""
    package = pathlib.Path(fl.__file__).parent
    renaming = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"os\.(replace|rename)\b|\.rename\(", path.read_text())
    ]
    assert renaming == ["runs/atomic_file.py"]


def test_a_state_is_written_an_array_at_a_time(process, tmp_path):
    """And read with one copy of it, before a process takes it."""
    arrays = [np.ones(2**19, "float32") for _ in range(8)]
    state = process.initialize()._replace(trainable=arrays)
    tracemalloc.start()
    state_file.save(tmp_path / "s", state)
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.reset_peak()
    written = state_file.read(tmp_path / "s")
    assert tracemalloc.get_traced_memory()[1] < 1.3 * 2**24
    tracemalloc.stop()
    zoo.assert_equal(written.values[0], arrays)


@pytest.mark.backend_free
def test_no_other_file_is_left(written):
    assert os.listdir(written.parent) == [written.name]


@pytest.mark.backend_free
def test_every_cut_is_an_error(process, state, written, tmp_path):
    data = written.read_bytes()
    path = tmp_path / "cut"
    for length in [*range(60), *range(60, len(data), 37), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"cut short|isn't a state"):
            state_file.load(path, like=state)


@pytest.mark.backend_free
def test_every_damaged_byte_is_an_error(process, state, written, tmp_path):
    data = written.read_bytes()
    path = tmp_path / "damaged"
    for position in [*range(60), *range(60, len(data), 41)]:
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=r"damaged|isn't a state"):
            state_file.load(path, like=state)


@pytest.mark.backend_free
def test_more_bytes_than_were_written(process, written, tmp_path):
    path = tmp_path / "longer"
    path.write_bytes(written.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="damaged"):
        process.load_state(path)


@pytest.mark.backend_free
def test_a_state_of_a_version_to_come(process, written, tmp_path):
    path = tmp_path / "newer"
    path.write_bytes(written.read_bytes().replace(b"state 2", b"state 3", 1))
    with pytest.raises(ValueError, match=r"of format 3.*Update fedlearn"):
        process.load_state(path)


@pytest.mark.backend_free
@pytest.mark.parametrize("data", [b"", b"\x89HDF\r\n", b"PK\x03\x04 a model"])
def test_a_foreign_file(process, tmp_path, data):
    path = tmp_path / "foreign"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"isn't a state.*load_model"):
        process.load_state(path)


@pytest.mark.backend_free
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

    from fedlearn.messages import wire

    facts = np.frombuffer(b"null", np.uint8)
    for tree in (
        {"else": np.zeros(3)},
        {"state": (), "clients": facts, "facts": facts},
        [np.zeros(3)],
        np.zeros(3),
        {"state": (), "clients": {}, "facts": facts},
        {"state": np.zeros(7), "clients": np.zeros(3), "facts": facts},
    ):
        message = wire.pack(tree)
        path = tmp_path / "odd"
        path.write_bytes(
            b"fedlearn state 2\n" + hashlib.sha256(message).digest() + message
        )
        with pytest.raises(ValueError, match="no state that this version"):
            process.load_state(path)


FOLDER = pathlib.Path(__file__).parent / "version_1"


@pytest.mark.parametrize(
    ("name", "links", "clients"),
    [
        ("feedback", [fl.encoders.ErrorFeedback([fl.encoders.TopK(0.5)])], 3),
        ("tree", [fl.encoders.Clip(1.0), fl.encoders.TreeNoise(1.0)], 0),
    ],
)
def test_files_that_the_version_before_wrote(name, links, clients):
    """On TensorFlow, after two rounds of seed 3."""
    arguments = ("uniform", 3) if name == "tree" else ()
    process = fl.FederatedAveraging(
        zoo.regression(),
        fl.LocalTraining(batch_size=4),
        aggregator=fl.aggregators.Mean(links, *arguments),
    )
    state = process.load_state(FOLDER / f"{name}.fedlearn")
    assert (int(state.round_num), int(state.seed)) == (2, 3)
    assert len(state.client_states) == clients
    _, metrics = process.next(state, zoo.clients((8, 4, 8), make=zoo.line))
    assert metrics["num_clients"] == 3


def test_a_state_of_the_version_before(tmp_path):
    """What clients keep was in the file itself."""
    import hashlib

    from fedlearn import backend
    from fedlearn.messages import wire

    process = with_feedback()
    state, _ = process.next(process.initialize(), [zoo.line(8), zoo.line(4)])
    message = wire.pack(
        {
            "state": tuple(backend.to_numpy(state._replace(client_states={})))[
                :-1
            ],
            "clients": dict(state.client_states),
            "facts": np.frombuffer(b"null", np.uint8),
        }
    )
    (tmp_path / "s").write_bytes(
        b"fedlearn state 1\n" + hashlib.sha256(message).digest() + message
    )
    loaded = process.load_state(tmp_path / "s")
    zoo.assert_equal(loaded, state)


@pytest.mark.backend_free
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


@pytest.mark.backend_free
def test_a_relative_path(process, state, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    process.save_state(state, "here")
    zoo.assert_equal(process.load_state("here"), state)
