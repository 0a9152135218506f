import gc
import os
import shutil
from concurrent import futures

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn.runs import client_states, state_file
from fedlearn.runs.client_states import ClientStates
from tests import zoo


def state_of(number, size=100):
    """800 bytes, and a structure that a file doesn't know."""
    return {"b": [np.full(size, number, "float32")], "a": (number * WIDE,)}


WIDE = np.ones(50)


def files(folder):
    return {
        name: os.stat(os.path.join(folder, name)).st_mtime_ns
        for name in os.listdir(folder)
    }


def test_states_never_change():
    one = ClientStates({"a": state_of(1)})
    two = one.updated({"a": state_of(2), "b": state_of(3)})
    assert list(one) == ["a"]
    assert list(two) == ["a", "b"]
    zoo.assert_equal(one["a"], state_of(1))
    zoo.assert_equal(two["a"], state_of(2))
    assert two.updated({})["b"] is two["b"]
    assert "c" not in two
    assert two.get("c", "nothing") == "nothing"
    with pytest.raises(TypeError):
        two["a"] = state_of(1)


def test_beyond_the_memory_those_updated_longest_ago_are_in_files(tmp_path):
    states = ClientStates(folder=tmp_path / "s", memory=1600)
    for number in range(4):
        states = states.updated({str(number): state_of(number)})
    assert len(files(tmp_path / "s")) == 2
    assert states["3"] is states["3"]  # in memory
    assert states["0"] is not states["0"]
    for number in range(4):
        zoo.assert_equal(states[str(number)], state_of(number))
    written = files(tmp_path / "s")
    states = states.updated({"1": state_of(7)})
    # Those of 0 and 1 aren't written again, and the old state needs them.
    assert written.items() < files(tmp_path / "s").items()


@pytest.mark.backend_free
def test_old_states_stay_valid_and_a_temporary_folder_goes_away():
    first = ClientStates({"a": state_of(1)}, memory=0)
    folder = first._folder.path
    last = first
    for number in range(5):
        last = last.updated({"a": state_of(number)})
    # First, last, and the one that was there while the last was made.
    assert len(files(folder)) == 3
    zoo.assert_equal(first["a"], state_of(1))
    zoo.assert_equal(last["a"], state_of(4))
    del first, last
    gc.collect()
    assert not os.path.exists(folder)


@pytest.mark.backend_free
def test_threads_share_states(tmp_path):
    def update(number):
        mine = shared
        for i in range(20):
            mine = mine.updated({str(i): state_of(number + i % 3)})
            zoo.assert_equal(mine[str(i)], state_of(number + i % 3))
            zoo.assert_equal(mine["first"], state_of(0))

    shared = ClientStates({"first": state_of(0)}, tmp_path, memory=1600)
    with futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(update, [1, 2, 1, 2, 1, 2, 1, 2]))


def test_to_keras_it_is_a_pytree():
    states = ClientStates({"b": state_of(2), "a": state_of(1)}, memory=0)
    doubled = keras.tree.map_structure(lambda a: 2 * a, states)
    assert isinstance(doubled, ClientStates)
    zoo.assert_equal(doubled["b"], state_of(4))


# In the files of a run.


def server_state(states, round_num=1):
    return (
        zoo.regression_process()
        .initialize()
        ._replace(
            client_states=states, round_num=np.asarray(round_num, np.int64)
        )
    )


def load(path):
    like = zoo.regression_process().initialize()
    return state_file.load(path, like, state_of(0))[0].client_states


@pytest.mark.parametrize("memory", [0, 10**9])
def test_only_what_changed_is_written(tmp_path, memory):
    path = tmp_path / "checkpoint"
    folder = client_states.folder_of(path)
    states = ClientStates(
        {str(i): state_of(i) for i in range(20)}, folder, memory
    )
    state_file.save(path, server_state(states))
    before = files(folder)
    assert len(before) == 20
    states = states.updated({"3": state_of(30), "4": state_of(40)})
    state_file.save(path, server_state(states))
    after = files(folder)
    # Of 18 the very files; the old states of two are needed no more (in the
    # process either).
    assert len(before.items() & after.items()) == 18
    assert len(after) == 20
    loaded = load(path)
    assert list(loaded) == list(states)
    for client_id in states:
        zoo.assert_equal(loaded[client_id], states[client_id])
    # Nor does a run that goes on write them again.
    state_file.save(path, server_state(loaded.updated({"5": state_of(50)})))
    assert len(files(folder).items() - after.items()) == 1


@pytest.mark.backend_free
def test_an_old_state_outlives_a_checkpoint(tmp_path):
    path = tmp_path / "checkpoint"
    folder = client_states.folder_of(path)
    old = ClientStates({"a": state_of(1)}, folder, memory=0)
    state_file.save(path, server_state(old))
    state_file.save(path, server_state(old.updated({"a": state_of(2)})))
    zoo.assert_equal(old["a"], state_of(1))
    del old
    gc.collect()
    state_file.save(path, server_state(load(path)))
    assert len(files(folder)) == 1


@pytest.mark.backend_free
def test_a_state_saved_elsewhere_is_whole(tmp_path):
    """And doesn't make the run depend on where that is."""
    states = ClientStates(
        {"a": state_of(1), "b": state_of(2)}, tmp_path / "run", memory=800
    )
    state_file.save(tmp_path / "copy", server_state(states))
    shutil.move(tmp_path / "copy", tmp_path / "moved")
    shutil.move(tmp_path / "copy.clients", tmp_path / "moved.clients")
    zoo.assert_equal(states["a"], state_of(1))
    zoo.assert_equal(load(tmp_path / "moved")["a"], state_of(1))


@pytest.mark.backend_free
def test_a_folder_that_was_deleted_is_written_again(tmp_path):
    path = tmp_path / "checkpoint"
    states = ClientStates({"a": state_of(1)}, client_states.folder_of(path))
    state_file.save(path, server_state(states))
    shutil.rmtree(client_states.folder_of(path))
    same = ClientStates({"b": state_of(1)}, client_states.folder_of(path))
    for again, client_id in ((states, "a"), (same, "b")):
        state_file.save(path, server_state(again))
        zoo.assert_equal(load(path)[client_id], state_of(1))


@pytest.mark.backend_free
def test_a_kill_leaves_the_old_state(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint"
    folder = client_states.folder_of(path)
    states = ClientStates({"a": state_of(1), "b": state_of(2)}, folder)
    state_file.save(path, server_state(states))

    class Killed(BaseException):
        pass

    real = os.replace

    def replace(source, target):
        # Before the first entry, the second, and the file itself.
        if not left:
            raise Killed
        left.pop()
        real(source, target)

    for number in range(3):
        left = [None] * number
        newer = states.updated({"a": state_of(3), "b": state_of(4)})
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace)
            with pytest.raises(Killed):
                state_file.save(path, server_state(newer))
        zoo.assert_equal(load(path)["a"], state_of(1))
        zoo.assert_equal(load(path)["b"], state_of(2))
    # The orphans go with the next state that is written.
    with open(os.path.join(folder, "0" * 64 + ".partial"), "wb") as half:
        half.write(b"half")
    with open(os.path.join(folder, "notes.txt"), "w") as mine:
        mine.write("mine")
    del newer
    gc.collect()
    state_file.save(path, server_state(states))
    assert len(files(folder)) == 3
    assert "notes.txt" in files(folder)


@pytest.mark.backend_free
@pytest.mark.parametrize("memory", [0, 10**9])
def test_damaged_and_missing_files(tmp_path, memory, monkeypatch):
    monkeypatch.setattr(client_states, "MEMORY", memory)
    path = tmp_path / "checkpoint"
    state_file.save(path, server_state(ClientStates({"a": state_of(1)})))
    (name,) = os.listdir(tmp_path / "checkpoint.clients")
    file = tmp_path / "checkpoint.clients" / name
    data = file.read_bytes()
    for damaged in (data[:-1], data[:-1] + bytes([data[-1] ^ 1]), b""):
        file.write_bytes(damaged)
        with pytest.raises(
            ValueError, match=r"client 'a' keeps can't be read: .*damaged"
        ):
            load(path)["a"]
    # A loss of power may have left it; a run that writes it mends it.
    state_file.save(path, server_state(ClientStates({"a": state_of(1)})))
    zoo.assert_equal(load(path)["a"], state_of(1))
    file.unlink()
    with pytest.raises(ValueError, match=r"No such file.*the folder beside it"):
        load(path)


@pytest.mark.backend_free
@pytest.mark.parametrize(
    "index",
    [
        [],
        {"clients": {"a": ["../../x", 0]}, "layouts": [[]]},
        {"clients": {"a": ["0" * 64, 3]}, "layouts": [[]]},
        {"clients": {"a": 3}, "layouts": [[]]},
    ],
)
def test_an_index_that_nobody_wrote(index):
    with pytest.raises((LookupError, TypeError, ValueError, AttributeError)):
        ClientStates.read(index, None)


def test_equal_states_make_equal_runs_wherever_they_are(tmp_path, monkeypatch):
    def process():
        encoder = fl.encoders.ErrorFeedback([fl.encoders.TopK(0.5)])
        return fl.FederatedAveraging(
            zoo.regression(),
            fl.LocalTraining(batch_size=4),
            aggregator=fl.aggregators.Mean([encoder]),
        )

    data = zoo.clients(make=zoo.line)
    one = process()
    one.fit(data, 4, clients_per_round=3, verbose=0)
    monkeypatch.setattr(client_states, "MEMORY", 0)
    for rounds in (1, 3, 4):
        other = process()
        other.fit(
            data,
            rounds,
            clients_per_round=3,
            verbose=0,
            checkpoint_dir=tmp_path,
        )
    zoo.assert_equal(other.state, one.state)
    path = tmp_path / "checkpoint.fedlearn"
    zoo.assert_equal(process().load_state(path), one.state)
    assert sorted(os.listdir(tmp_path)) == [path.name, path.name + ".clients"]
