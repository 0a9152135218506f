import json

import keras
import numpy as np
import pytest
from keras import layers

import fedlearn as fl
from fedlearn.clients.class_weight import weighted
from tests import zoo

WEIGHTS = {0: 0.3, 2: 7.0}  # class 1 counts once
KINDS = {
    "integers": ("softmax", 3, "sparse_categorical_crossentropy"),
    "a column": ("softmax", 3, "sparse_categorical_crossentropy"),
    "one_hot": ("softmax", 3, "categorical_crossentropy"),
    "binary": ("sigmoid", 1, "binary_crossentropy"),
}


def data_of(kind):
    x, y = zoo.points(12)
    if kind == "a column":
        return x, y[:, None]
    if kind == "one_hot":
        return x, np.eye(3, dtype="float32")[y]
    if kind == "binary":
        return x, (y > 0).astype("float32")
    return x, y


def model_of(kind):
    activation, units, loss = KINDS[kind]
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(units, activation)]
    )
    model.compile(
        keras.optimizers.SGD(0.1),
        loss,
        metrics=["accuracy"],
        weighted_metrics=["accuracy"],
    )
    return zoo.set_weights(model)


@pytest.mark.parametrize("executor", ["sequential", "vectorized"])
@pytest.mark.parametrize("kind", KINDS)
def test_one_client_equals_fit_with_class_weight(kind, executor):
    data, model = data_of(kind), model_of(kind)
    process = fl.FederatedAveraging(
        model,
        client=fl.LocalTraining(
            batch_size=4, shuffle=False, class_weight=WEIGHTS
        ),
        executor=executor,
    )
    state, metrics = process.next(process.initialize(), [data])
    expected = zoo.fit(
        model, data, batch_size=4, shuffle=False, class_weight=WEIGHTS
    )
    zoo.assert_close(
        zoo.weights_in(process, state),
        zoo.weights_of(model),
        rtol=2e-6,
        atol=2e-7,
    )
    zoo.assert_same_metrics(metrics, expected)


def test_private_training_weighs_each_example():
    # No noise, and a bound that no gradient reaches: as without privacy.
    data = data_of("integers")
    states = []
    for dp in (None, fl.clients.ExampleDP(1e6, 0.0, batches="shuffled")):
        process = fl.FederatedAveraging(
            model_of("integers"),
            client=fl.LocalTraining(
                "sgd", 4, shuffle=False, dp=dp, class_weight=WEIGHTS
            ),
            executor="sequential",
        )
        states.append(process.next(process.initialize(), [data])[0])
    one, other = (zoo.numpy(s.trainable) for s in states)
    zoo.assert_close(other, one)


def test_config_round_trip_through_json():
    client = fl.LocalTraining(class_weight={np.int64(1): 2})
    config = json.loads(json.dumps(client.get_config()))
    copy = fl.LocalTraining.from_config(config)
    assert copy.class_weight == client.class_weight == {1: 2.0}
    assert fl.LocalTraining().get_config()["class_weight"] is None


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({0: -1.0}, ValueError),
        ({0.5: 1.0}, ValueError),
        ({"cat": 1.0}, ValueError),
        ({0: float("nan")}, ValueError),
        ({0: "1"}, ValueError),
        ([1.0, 2.0], TypeError),
        ("balanced", TypeError),
    ],
)
def test_what_is_no_class_weight(value, error):
    with pytest.raises(error, match="`class_weight` must"):
        fl.LocalTraining(class_weight=value)


def test_what_keras_refuses_too():
    x, y = (keras.ops.ones((4, 2)) for _ in range(2))
    with pytest.raises(ValueError, match="have sample weights"):
        weighted((x, y, x[:, 0]), WEIGHTS)
    with pytest.raises(ValueError, match="a single output"):
        weighted((x, {"a": y}), WEIGHTS)
    with pytest.raises(ValueError, match="a single output"):
        weighted((x,), WEIGHTS)
    with pytest.raises(ValueError, match=r"takes labels of shape \(n,\)"):
        weighted((x, keras.ops.ones((4, 2, 3))), WEIGHTS)
