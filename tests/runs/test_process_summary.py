import keras
import pytest

import fedlearn as fl
from tests import zoo

pytestmark = pytest.mark.backend_free

DATA = zoo.clients((8, 4, 12), make=zoo.line)


def summary(process, *args, **kwargs):
    lines = []
    process.summary(*args, **kwargs, print_fn=lines.append)
    title, *rest = lines
    assert title == "FederatedAveraging"
    return {line[2:19].strip(): line[19:] for line in rest}


def bytes_shown(number):
    from fedlearn.advice.units import in_bytes

    return f"{in_bytes(number)} a round"


def test_a_process_is_told():
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, trainable=False),
            keras.layers.Dense(1),
        ],
        name="small",
    )
    model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
    process = fl.FederatedAveraging(
        model,
        client=fl.LocalTraining(batch_size=4),
        aggregator=fl.aggregators.Mean(["float16"]),
        executor="sequential",
    )
    told = summary(process)
    assert told["model"] == (
        "Sequential 'small', 21 parameters, 5 of them trained"
    )
    assert told["client"] == "LocalTraining(batch_size=4)"
    assert told["its optimizer"] == "SGD(learning_rate=0.1)"
    assert told["server optimizer"] == "SGD(learning_rate=1.0)"
    assert told["aggregator"] == "Mean(encoders=(Cast(),))"
    assert told["clients are run"] == "Sequential()"
    assert told["a client sends"].endswith(" a round, and its metrics")
    assert "take part" not in told
    # What it measures doesn't stand in the way of what rounds measure: of
    # those the metrics are a part, once there has been a batch.
    told = summary(process, DATA, clients_per_round=2)
    assert told["take part"] == "2 of 3 clients in a round (Uniform)"
    history = process.fit(DATA, 1, clients_per_round=2, verbose=0).history
    assert told["a client sends"] == bytes_shown(history["bytes_up"][0] / 2)
    assert told["a client gets"] == bytes_shown(history["bytes_down"][0] / 2)
    assert summary(process)["a client sends"] == told["a client sends"]
    assert summary(process)["trained"] == "1 round"


def test_messages_of_any_length():
    process = fl.FederatedAveraging(zoo.regression(), aggregator="mean")
    assert "B a round" in summary(process)["a client sends"]
    process = fl.FederatedAveraging(
        zoo.regression(), aggregator=fl.aggregators.Mean("uniform:4+huffman")
    )
    assert "see `bytes_up`" in summary(process)["a client sends"]


def test_a_private_process_tells_epsilon():
    pytest.importorskip("dp_accounting")
    process = fl.FederatedAveraging(
        zoo.regression(),
        aggregator=fl.aggregators.PrivateMean(
            1.0, noise_multiplier=2.0, clients_per_round=2
        ),
        privacy=fl.privacy.Privacy(delta=1e-3),
    )
    assert "give `data`" in summary(process)["privacy"]
    sampler = fl.samplers.Poisson(DATA, 2)
    guarantee = fl.privacy.Guarantee(
        process.aggregator.dp_event(), sampler, delta=1e-3
    )
    for rounds, words in ((None, "1 round"), (20, "20 rounds")):
        told = summary(process, DATA, rounds, sampler=sampler)["privacy"]
        epsilon = guarantee.epsilon(rounds or 1)
        assert told == (
            f"epsilon {epsilon:.4g} after {words}, at delta 0.001, for one "
            "client"
        )


def test_nothing_is_changed():
    process = zoo.regression_process()
    state, weights = process.state, zoo.weights_of(process.model)
    summary(process, DATA)
    assert process.state is state
    zoo.assert_equal(zoo.weights_of(process.model), weights)
