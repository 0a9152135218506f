"""Another schedule than synchronous rounds, with `fit` as it is."""

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn.runs.schedule import Schedule, Turn
from tests import zoo

DATA = zoo.clients((8, 4, 12, 8, 4), make=zoo.line)


class Buffered(Schedule):
    """FedBuff (Nguyen et al. 2022): a turn ends when enough have come back.

    Always `concurrency` clients are on their way, each with the weights of
    the turn in which it was sent; those come first that were sent first.
    """

    def __init__(self, buffer_size, concurrency):
        self.buffer_size, self.concurrency = buffer_size, concurrency

    def initialize(self):
        return {"sent": 0, "away": [], "weights": {}}

    def next(self, process, state, kept, data):
        now = int(state.round_num)
        weights = {**kept["weights"], str(now): state.trainable}
        sent, away = int(kept["sent"]), list(kept["away"])
        total, names = 0, []
        while len(names) < self.buffer_size:
            while len(away) < self.concurrency:
                away.append(np.array([sent % len(data), now]))
                sent += 1
            number, then = map(int, away.pop(0))
            names.append(data.client_ids[number])
            before = state._replace(
                trainable=weights[str(then)],
                round_num=np.asarray(then, np.int64),
            )
            update = process.client_update(
                process.broadcast(before),
                data[names[-1]],
                process.client_seed(before, names[-1]),
            )
            total = total + update.scaled((1 + now - then) ** -0.5)
        kept = {
            "sent": sent,
            "away": away,
            "weights": {str(t): weights[str(t)] for _, t in map(tuple, away)},
        }
        state, metrics = process.server_update(
            state, process.broadcast(state), total
        )
        return Turn(state, kept, metrics, data.select(names))


class FedBuff(fl.FederatedAveraging):
    buffer_size, concurrency = 2, 4

    def schedule(self, sampler):
        return Buffered(self.buffer_size, self.concurrency)


def made():
    return FedBuff(
        zoo.regression(keras.optimizers.SGD(0.05)),
        client=fl.LocalTraining(batch_size=4),
        executor="sequential",
    )


def fit(process, rounds, **arguments):
    return process.fit(DATA, rounds, verbose=0, **arguments).history


@pytest.fixture(scope="module")
def unbroken():
    process = made()
    return fit(process, 6, validation_data=DATA), process.state


def test_it_trains_with_all_that_fit_has(unbroken):
    history, _ = unbroken
    assert history["val_loss"][-1] < 0.7 * history["val_loss"][0]
    assert history["num_clients"] == [2] * 6


def test_late_updates_are_those_of_the_weights_that_were_sent(unbroken):
    """The first turn has the first two clients; the next the other two."""
    process = made()
    start = process.initialize()
    first = process.broadcast(start)

    def update(number, weight=1.0):
        name = DATA.client_ids[number]
        seed = process.client_seed(start, name)
        return process.client_update(first, DATA[name], seed).scaled(weight)

    state, _ = process.server_update(start, first, update(0) + update(1))
    late = [update(number, 2**-0.5) for number in (2, 3)]
    state, _ = process.server_update(
        state, process.broadcast(state), late[0] + late[1]
    )
    run = made()
    fit(run, 2)
    zoo.assert_equal(run.state.trainable, state.trainable)


def test_it_goes_on_exactly(unbroken, tmp_path):
    history, state = unbroken
    for rounds in (2, 3, 6):
        process = made()
        resumed = fit(
            process, rounds, validation_data=DATA, checkpoint_dir=tmp_path
        )
    assert resumed == history
    zoo.assert_equal(process.state, state)
    process = made()
    fit(process, 2)
    fit(process, 4)
    zoo.assert_equal(process.state, state)


def test_after_ctrl_c_it_goes_on(unbroken):
    """What it remembers is that of the state, also inside of a turn."""
    _, state = unbroken

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.params["epochs"] == 6 and int(process.state.round_num) == 3:
                raise KeyboardInterrupt

    process = made()
    with pytest.raises(KeyboardInterrupt):
        fit(process, 6, callbacks=[Stop()])
    assert int(process.state.round_num) == 3
    fit(process, 3, callbacks=[keras.callbacks.Callback()])
    zoo.assert_equal(process.state, state)


def test_one_at_a_time_is_rounds_of_one():
    class One(FedBuff):
        buffer_size, concurrency = 1, 1

    def process(kind):
        return kind(
            zoo.regression(),
            fl.LocalTraining(batch_size=4),
            executor="sequential",
        )

    buffered, rounds = process(One), process(fl.FederatedAveraging)
    fit(buffered, 7)
    turns = fl.samplers.RoundRobin(DATA, 1, seed=None)
    fit(rounds, 7, sampler=turns)
    zoo.assert_equal(buffered.state, rounds.state)
