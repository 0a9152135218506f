import keras
import numpy as np
import pytest

import fedlearn as fl
from tests import zoo
from tests.extensions.fedbuff import FedBuff

CLIENTS = zoo.clients((8, 5, 3, 9), make=zoo.line)
DATA = fl.FederatedDataset.from_clients(CLIENTS)
CLIENT = fl.LocalTraining(batch_size=4, epochs=2)


def test_clients_that_take_equally_long_make_rounds():
    one = fl.FederatedAveraging(
        zoo.regression(),
        CLIENT,
        aggregator=fl.aggregators.Mean(weighting="uniform"),
    )
    two = FedBuff(
        zoo.regression(),
        CLIENT,
        buffer_size=4,
        concurrency=4,
        durations=dict.fromkeys(CLIENTS, 1.0),
    )
    one.fit(DATA, rounds=3, verbose=0)
    history = two.fit(DATA, rounds=3, verbose=0)
    assert history.history["staleness"] == [0.0] * 3
    zoo.assert_close(two.state.trainable, one.state.trainable, 1e-6, 1e-7)


def test_a_late_client_counts_less_and_moves_from_where_it_began():
    # Of w alone: a client's step goes half the way to its own optimum.
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(inputs))
    model.compile(keras.optimizers.SGD(0.25), "mse")
    optimum = {"fast": 1.0, "slow": -3.0}
    one = np.ones((1, 1), "float32")
    data = {i: (one, one * w) for i, w in optimum.items()}
    model.set_weights([0 * one])
    process = FedBuff(
        model,
        buffer_size=1,
        concurrency=2,
        durations={"fast": 1.0, "slow": 2.5},
    )
    history = process.fit(
        fl.FederatedDataset.from_clients(data), rounds=3, verbose=0
    )
    w = began = 0.0  # both begin at 0
    w += 0.5 * (optimum["fast"] - w)  # at time 1
    w += 0.5 * (optimum["fast"] - w)  # at time 2
    w += 0.5 * (optimum["slow"] - began) / np.sqrt(3)  # at time 2.5
    np.testing.assert_allclose(process.state.trainable[0], [[w]], rtol=1e-6)
    assert history.history["staleness"] == [0.0, 0.0, 2.0]


@pytest.mark.parametrize("rounds", [1, 3])
def test_a_resumed_run_equals_an_unbroken_one(tmp_path, rounds):
    def process():
        durations = dict(zip(CLIENTS, (1.0, 1.7, 0.4, 3.1), strict=True))
        return FedBuff(
            zoo.regression(),
            CLIENT,
            buffer_size=2,
            concurrency=3,
            durations=durations,
        )

    whole, first, second = process(), process(), process()
    whole.fit(DATA, rounds=6, verbose=0, checkpoint_dir=tmp_path / "whole")
    first.fit(DATA, rounds=rounds, verbose=0, checkpoint_dir=tmp_path / "run")
    second.fit(DATA, rounds=6, verbose=0, checkpoint_dir=tmp_path / "run")
    for a, b in zip(whole.state.trainable, second.state.trainable, strict=True):
        np.testing.assert_array_equal(a, b)
