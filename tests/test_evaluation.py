import functools

import keras
import numpy as np
import pytest
from keras import layers

import fedlearn as fl
from tests import zoo


def model_with_metrics():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1, "sigmoid")])
    model.compile(
        "sgd",
        loss="binary_crossentropy",
        metrics=["accuracy", keras.metrics.AUC(20, name="auc")],
        weighted_metrics=[keras.metrics.MeanSquaredError(name="weighted")],
    )
    return zoo.set_weights(model)


def binary(num_examples, seed=0):
    x, y = zoo.points(num_examples, seed)
    rng = np.random.default_rng(seed)
    weight = rng.uniform(0, 2, size=num_examples).astype("float32")
    return x, (y > 0).astype("int32")[:, None], weight


SIZES = (4, 16, 0, 1, 16)  # few lengths: each is a program on JAX


@pytest.fixture(scope="module")
def model():
    return model_with_metrics()


@pytest.fixture(scope="module")
def cohort():
    return zoo.clients(SIZES, make=binary)


@pytest.fixture(scope="module")
def evaluate(model):
    """Keeps what it compiles from test to test, as `fl.evaluate` doesn't."""
    process = fl.FederatedAveraging(model)
    return functools.partial(process.evaluate, process.initialize())


@pytest.fixture(scope="module")
def result(evaluate, cohort):
    return evaluate(cohort, per_client=True, batch_size=16)


def keras_evaluate(model, data):
    x, y, weight = data
    model.run_eagerly = keras.backend.backend() == "tensorflow"
    return model.evaluate(
        x,
        y,
        sample_weight=weight,
        batch_size=len(x),
        verbose=0,
        return_dict=True,
    )


def test_the_merged_metrics_are_those_of_the_pooled_data(model, cohort, result):
    expected = keras_evaluate(model, cohort.pooled())
    assert set(expected) == {"accuracy", "auc", "weighted", "loss"}
    for name in expected:
        assert result[name] == pytest.approx(expected[name], rel=1e-5), name
    assert result["num_clients"] == len(SIZES)
    assert result["num_examples"] == sum(SIZES)


def test_clients_together_equal_clients_apart(evaluate, cohort, result):
    apart = {
        k: v for k, v in result.items() if k not in ("per_client", "statistics")
    }
    together = evaluate(cohort, batch_size=16)
    assert all(type(v) is float for v in together.values())
    assert together == pytest.approx(apart, rel=1e-5)
    smaller = evaluate(cohort, batch_size=4)
    assert smaller == pytest.approx(apart, rel=1e-5)


def test_each_clients_metrics_are_those_of_evaluate(model, cohort, result):
    assert list(result["per_client"]) == list(cohort.client_ids)
    for i, size in zip(cohort.client_ids, SIZES, strict=True):
        found = dict(result["per_client"][i])
        assert found.pop("num_examples") == size
        if size == 4:  # each other length costs a compilation
            expected = keras_evaluate(model, cohort[i])
            assert found == pytest.approx(expected, rel=1e-4)


def test_statistics_over_clients(cohort, result):
    values = [
        metrics["accuracy"]
        for metrics in result["per_client"].values()
        if metrics["num_examples"]
    ]
    assert len(values) == 4
    found = result["statistics"]["accuracy"]
    assert found["mean"] == pytest.approx(np.mean(values))
    assert found["std"] == pytest.approx(np.std(values))
    assert found["min"] == min(values)
    assert found["max"] == max(values)
    assert found["decile_5"] == pytest.approx(np.median(values))
    assert found["decile_1"] == pytest.approx(np.quantile(values, 0.1))
    assert len(found) == 6 + 9
    assert "num_examples" not in result["statistics"]


@pytest.fixture(scope="module")
def line():
    return zoo.clients((8, 4, 8), make=zoo.line)


def by_hand(weights, data):
    kernel, bias = weights
    x, y = data.pooled()
    loss = np.mean((x @ kernel + bias - y) ** 2)
    return {"loss": loss, "num_clients": 3, "num_examples": 20}


def test_a_process_evaluates_the_weights_of_the_state(line):
    process = zoo.regression_process()
    state, _ = process.next(process.initialize(), line)
    for s in (process.initialize(), state):
        expected = by_hand(zoo.numpy(s.trainable), line)
        assert process.evaluate(s, line) == pytest.approx(expected, rel=1e-5)


def test_a_model_trained_anywhere_is_evaluated_and_not_changed(line):
    model = zoo.regression(metrics=["mse"])
    model.run_eagerly = True
    model.evaluate(*zoo.line(4), verbose=0)  # which leaves its metrics behind

    def everything():
        metrics = [v for m in model.metrics for v in m.variables]
        return zoo.numpy([*model.variables, *metrics])

    before = everything()
    found = fl.evaluate(model, line, batch_size=8)
    zoo.assert_equal(everything(), before)
    expected = by_hand(zoo.weights_of(model), line)
    assert found.pop("mse") == found["loss"]
    assert found == pytest.approx(expected, rel=1e-5)


def test_only_clients_without_examples(evaluate):
    result = evaluate([binary(0), binary(0)], per_client=True)
    assert result["num_clients"] == 2
    assert result["num_examples"] == 0
    assert result["statistics"] == {}
    assert "loss" not in result
    assert len(result["per_client"]) == 2


def test_clients_of_other_sequence_lengths():
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(5, 2),
            layers.Dense(5),
        ]
    )
    model.compile(
        "sgd",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    zoo.set_weights(model)
    rng = np.random.default_rng(0)
    clients = []
    for length in (3, 6, 3):
        words = rng.integers(0, 5, size=(4, length)).astype("int32")
        clients.append((words, words))
    result = fl.evaluate(model, clients, per_client=True)
    model.run_eagerly = keras.backend.backend() == "tensorflow"
    expected = [
        model.evaluate(*data, verbose=0, return_dict=True) for data in clients
    ]
    for i, metrics in enumerate(expected):
        found = dict(result["per_client"][str(i)])
        assert found.pop("num_examples") == 4
        assert found == pytest.approx(metrics, rel=1e-5)
    # Means over examples, whatever their length; all clients have four.
    for name in ("loss", "accuracy"):
        mean = np.mean([metrics[name] for metrics in expected])
        assert result[name] == pytest.approx(mean, rel=1e-5)
    pooled = fl.evaluate(model, clients)
    assert pooled["loss"] == pytest.approx(result["loss"], rel=1e-5)


def test_refusals(model):
    with pytest.raises(
        ValueError, match="`batch_size` must be a whole number of at least 1"
    ):
        fl.evaluate(model, [binary(4)], batch_size=0)
    with pytest.raises(ValueError, match="`clients` is empty"):
        fl.evaluate(model, [])
    with pytest.raises(TypeError, match="put it in a list"):
        fl.evaluate(model, binary(4))
    with pytest.raises(TypeError, match=r"keras\.Model"):
        fl.evaluate("model", [binary(4)])


@pytest.mark.parametrize("loss", [keras.losses.Dice(), "mse"])
def test_the_loss_is_that_of_keras_where_the_batches_are(loss):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, "sigmoid")])
    model.compile("sgd", loss)
    zoo.set_weights(model)
    x, _ = zoo.points(11)
    data = x, np.eye(2, dtype="float32")[np.arange(11) % 2]
    found = fl.evaluate(model, [data], per_client=True, batch_size=8)
    model.run_eagerly = keras.backend.backend() == "tensorflow"
    expected = model.evaluate(*data, batch_size=8, verbose=0)
    for metrics in (found, found["per_client"]["0"]):
        assert metrics["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_masked_loss_is_weighed_as_keras_weighs_it():
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            layers.Embedding(5, 2, mask_zero=True),
            layers.Dense(5),
        ]
    )
    model.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    zoo.set_weights(model)
    words = np.random.default_rng(0).integers(0, 5, (7, 3)).astype("int32")
    model.run_eagerly = keras.backend.backend() == "tensorflow"
    for batch_size in (4, 7):
        found = fl.evaluate(model, [(words, words)], batch_size=batch_size)
        expected = model.evaluate(
            words, words, batch_size=batch_size, verbose=0
        )
        assert found["loss"] == pytest.approx(expected, rel=1e-5)
