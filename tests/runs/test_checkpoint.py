import os

import keras
import numpy as np
import pytest

from fedlearn.runs import checkpoint, state_file
from fedlearn.runs.checkpoint import Checkpoint
from tests import zoo


@pytest.fixture(scope="module")
def state():
    return zoo.regression_process().initialize()


def at(state, round_num):
    return state._replace(round_num=np.asarray(round_num, np.int64))


def load(checkpoint, like):
    written = Checkpoint.read(os.path.dirname(checkpoint.path))
    return checkpoint.restored(written, like)


def test_what_is_saved_is_loaded(state, tmp_path):
    folder = tmp_path / "deep" / "run"
    one = Checkpoint(folder, {"seed": 1})
    assert Checkpoint.read(folder) is None
    history = {"loss": [1.0, float("nan"), float("inf")]}
    per_client = {"anna": {"loss": [1.0, 0.5]}}
    one.save_if_due(
        at(state, 3),
        history=history,
        callbacks=[],
        stopped=True,
        per_client=per_client,
    )
    restored = load(Checkpoint(folder, {"seed": 1}), state)
    assert restored.stopped
    zoo.assert_equal(restored.state, at(state, 3))
    assert str(restored.history) == str(history)
    assert restored.per_client == per_client


def test_a_checkpoint_of_another_run_says_what_differs(state, tmp_path):
    one = Checkpoint(tmp_path, {"seed": 1, "client": {"epochs": 1}})
    one.save_if_due(state, history={}, callbacks=[])
    other = Checkpoint(tmp_path, {"seed": 1, "client": {"epochs": 2}})
    with pytest.raises(
        ValueError,
        match=r"of another run: client\.epochs was 1 and is now 2\. Go on "
        r"with the same arguments",
    ):
        load(other, state)


def test_a_state_without_a_run_is_no_checkpoint(state, tmp_path):
    state_file.save(tmp_path / Checkpoint.FILE, state)
    with pytest.raises(ValueError, match="of another run"):
        load(Checkpoint(tmp_path, {"seed": 1}), state)


def test_a_damaged_checkpoint_is_not_a_fresh_start(state, tmp_path):
    one = Checkpoint(tmp_path, {})
    one.save_if_due(state, history={}, callbacks=[])
    path = tmp_path / Checkpoint.FILE
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut short"):
        load(one, state)


def test_writing_takes_a_tenth_of_the_time(state, tmp_path, monkeypatch):
    clock, written = [0.0], []
    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: clock[0])

    def save(path, state, facts):
        written.append(int(state.round_num))
        clock[0] += 2.0

    monkeypatch.setattr(state_file, "save", save)
    one = Checkpoint(tmp_path, {})
    for round_num in range(1, 46):
        clock[0] += 1.0
        one.save_if_due(at(state, round_num), history={}, callbacks=[])
    # The first at once; then each when ten times its cost has passed.
    assert written == [1, 21, 41]
    one.save_latest()
    one.save_latest()
    assert written == [1, 21, 41, 45]


def test_the_history_is_that_of_the_state(state, tmp_path):
    """A round that was broken off leaves no trace in what is written."""
    one = Checkpoint(tmp_path, {})
    history = {"loss": [1.0]}
    one.save_if_due(at(state, 1), history=history, callbacks=[])
    history["loss"].append(2.0)
    one._written = float("inf")  # not yet due
    one.save_if_due(at(state, 2), history=history, callbacks=[])
    history["loss"].append(3.0)
    one.save_latest()
    restored = load(one, state)
    assert int(restored.state.round_num) == 2
    assert restored.history == {"loss": [1.0, 2.0]}


class Custom(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.count = 3
        self.best = np.float32(0.1)
        self.flag = True
        self.kept = [np.arange(6.0).reshape(2, 3), np.ones(2, "int8")]
        self.name = "not kept"
        self.function = len


def test_callbacks_get_back_their_numbers_and_arrays():
    one, other = Custom(), Custom()
    states = checkpoint.callback_state([one])
    other.count, other.best, other.flag, other.kept = 0, 0.0, False, None
    other.name = "mine"
    checkpoint.restore_callbacks([other], states)
    assert (other.count, other.flag) == (3, True)
    assert other.best == float(np.float32(0.1))
    assert other.name == "mine"
    zoo.assert_equal(other.kept, one.kept)
    assert [a.dtype for a in other.kept] == [a.dtype for a in one.kept]
    other.kept[0][0, 0] = 7  # it can be written to


def test_what_the_user_gives_stays_the_users():
    def make(patience):
        callback = keras.callbacks.EarlyStopping(patience=patience)
        callback.on_train_begin()
        return callback

    one, other = make(5), make(8)
    one.wait, one.best = 4, 0.25
    checkpoint.restore_callbacks([other], checkpoint.callback_state([one]))
    assert (other.wait, other.best) == (4, 0.25)
    assert other.patience == 8


def test_other_callbacks_keep_what_they_begin_with():
    states = checkpoint.callback_state([Custom(), Custom()])
    stopping = keras.callbacks.EarlyStopping(patience=5)
    checkpoint.restore_callbacks([stopping], states)
    assert not hasattr(stopping, "count")
    assert stopping.patience == 5


def test_a_file_puts_nothing_in_the_place_of_a_method():
    one = Custom()
    states = checkpoint.callback_state([one])
    for name in ("on_epoch_end", "set_params", "model", "_model"):
        states[0]["attributes"][name] = {"number": 3}
    checkpoint.restore_callbacks([one], states)
    assert callable(one.on_epoch_end)
    assert callable(one.set_params)
    assert one.model is None
