"""Many models on parts of the clients, against Keras and `process.evaluate`."""

import importlib

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn.many_models.evaluate_many import _in_lanes, evaluate_many
from tests.many_models.problems import classifier, clients_of

CLIENTS = clients_of(sizes=[5, 12, 3, 0, 7, 9, 12, 4])
WITH_EXAMPLES = [i for i, (x, _) in CLIENTS.items() if len(x)]


def keras_says(model, client_id, metric):
    x, y = CLIENTS[client_id]
    return model.evaluate(x, y, verbose=0, return_dict=True)[metric]


@pytest.mark.parametrize("executor", ["sequential", "vectorized"])
@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_on_all_clients_it_is_what_keras_says_of_each(executor, metric):
    models = {f"seed {i}": classifier(i) for i in range(3)}
    comparison = evaluate_many(
        models, CLIENTS, metric=metric, executor=executor
    )
    for name, model in models.items():
        expected = [keras_says(model, i, metric) for i in WITH_EXAMPLES]
        assert comparison.mean[name] == pytest.approx(np.mean(expected), 1e-5)
        assert comparison.num_clients[name] == len(WITH_EXAMPLES)
    assert comparison.mode == {"loss": "min", "accuracy": "max"}[metric]


@pytest.mark.parametrize("clients_per_model", [None, 4])
def test_lanes_and_one_after_another_give_equal_numbers(clients_per_model):
    """Also of a model that is built otherwise, and of batches of five."""
    models = {f"seed {i}": classifier(i) for i in range(5)}
    models["wide"] = classifier(0, width=6)
    one, many = (
        evaluate_many(
            models,
            CLIENTS,
            clients_per_model,
            seed=3,
            executor=executor,
            batch_size=5,
        )
        for executor in ("sequential", "vectorized")
    )
    assert one.num_clients == many.num_clients
    for name, mean in one.mean.items():
        assert many.mean[name] == pytest.approx(mean, 1e-6)
        told, expected = many.paired(name, "wide"), one.paired(name, "wide")
        assert told.interval == pytest.approx(expected.interval, 1e-4)
    assert one.ranking == many.ranking


@pytest.mark.backend_free
def test_lanes_are_taken_by_light_models_and_by_those_alone(monkeypatch):
    module = importlib.import_module("fedlearn.many_models.evaluate_many")
    seen = []
    lanes = module.evaluate_in_lanes

    def watched(model, weights, *args):
        seen.append(len(weights))
        return lanes(model, weights, *args)

    monkeypatch.setattr(module, "evaluate_in_lanes", watched)
    models = [*map(classifier, range(3)), classifier(0, width=6)]
    evaluate_many(models, CLIENTS)
    assert seen == [3]
    evaluate_many(models, CLIENTS, executor="sequential")
    assert seen == [3]


@pytest.mark.parametrize(
    ("first", "backends"),
    [
        (keras.layers.Dense(3), ["jax", "tensorflow"]),
        (keras.layers.GRU(2), ["jax"]),
        (keras.layers.Conv1D(2, 2), ["tensorflow"]),
    ],
    ids=["dense", "recurrent", "convolution"],
)
def test_lanes_are_taken_where_the_backend_has_fast_ones(first, backends):
    model = keras.Sequential([keras.Input((2, 2)), first])
    in_lanes = _in_lanes(model, fl.executors.Auto(), [8], 8)
    assert in_lanes == (keras.backend.backend() in backends)


@pytest.mark.backend_free
def test_clients_per_model_are_drawn_by_the_seed():
    models = [classifier(i) for i in range(5)]
    one, again, other = (
        evaluate_many(models, CLIENTS, 3, seed=seed) for seed in (0, 0, 1)
    )
    assert set(one.num_clients.values()) == {3}
    assert one.mean == again.mean
    assert one.mean != other.mean


@pytest.mark.backend_free
def test_processes_states_and_models_compare():
    process = fl.FederatedAveraging(
        classifier(0), client=fl.LocalTraining(keras.optimizers.SGD(0.5))
    )
    states = [process.initialize()]
    for _ in range(2):
        states.append(process.next(states[-1], CLIENTS)[0])
    process.fit(CLIENTS, rounds=2, verbose=0)
    models = {f"round {i}": (process, state) for i, state in enumerate(states)}
    models |= {"fit": process, "keras": process.get_model(states[1])}
    comparison = evaluate_many(models, CLIENTS)
    for i, state in enumerate(states):
        expected = process.evaluate(state, CLIENTS, per_client=True)
        mean = expected["statistics"]["loss"]["mean"]
        assert comparison.mean[f"round {i}"] == pytest.approx(mean, 1e-6)
    assert comparison.mean["keras"] == pytest.approx(
        comparison.mean["round 1"], 1e-6
    )
    assert comparison.paired("fit", "round 2").p_value == 1
    assert comparison.ranking[-1] == "round 0"


@pytest.mark.backend_free
def test_personal_models_are_evaluated_with_each_clients_own():
    process = fl.algorithms.FedPer(
        classifier(0),
        personal="head",
        client=fl.LocalTraining(keras.optimizers.SGD(0.5)),
    )
    process.fit(CLIENTS, rounds=3, verbose=0)
    fresh = (process, process.initialize())
    comparison = evaluate_many({"own": process, "fresh": fresh}, CLIENTS)
    expected = process.evaluate(CLIENTS, per_client=True)["statistics"]
    assert comparison.mean["own"] == pytest.approx(expected["loss"]["mean"])
    assert comparison.best == "own"


@pytest.mark.backend_free
def test_models_that_clients_reconstruct_first_are_refused():
    process = fl.algorithms.FedRecon(classifier(0), personal="head")
    with pytest.raises(ValueError, match=r"'own' can't be.*train before an ev"):
        evaluate_many({"own": (process, process.initialize())}, CLIENTS)


def test_adapted_layers_keep_what_they_were_adapted_to():
    """A Normalization layer computes with copies of its weights."""
    models = {}
    for shift in (0.0, 5.0):
        normalization = keras.layers.Normalization()
        normalization.adapt(np.random.default_rng(0).normal(shift, 1, (50, 4)))
        model = keras.Sequential(
            [keras.Input((4,)), normalization, keras.layers.Dense(3)]
        )
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy(True))
        model.layers[-1].set_weights(
            [np.eye(4, 3, dtype="float32"), np.zeros(3)]
        )
        models[str(shift)] = model
    comparison = evaluate_many(models, CLIENTS, executor="vectorized")
    for name, model in models.items():
        expected = np.mean(
            [keras_says(model, i, "loss") for i in WITH_EXAMPLES]
        )
        assert comparison.mean[name] == pytest.approx(expected, 1e-5)


@pytest.mark.backend_free
def test_models_stay_as_they_are():
    models = [classifier(i) for i in range(3)]
    before = [model.get_weights() for model in models]
    evaluate_many(models, CLIENTS)
    for model, weights in zip(models, before, strict=True):
        for now, was in zip(model.get_weights(), weights, strict=True):
            assert np.array_equal(now, was)


def uncompiled():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("models", "arguments", "error", "message"),
    [
        ({}, {}, ValueError, "empty"),
        (classifier(0), {}, TypeError, "dict from names to models"),
        ({"a": uncompiled()}, {}, ValueError, "'a' .*isn't compiled"),
        ({"a": "model.keras"}, {}, TypeError, "'a' can't be evaluated"),
        (
            {"a": fl.FederatedAveraging(classifier(0))},
            {},
            ValueError,
            "'a' .*no state yet",
        ),
        (
            [classifier(0)],
            {"metric": "accuracie"},
            ValueError,
            "no metric 'accuracie'.* Did you mean accuracy",
        ),
        (
            [classifier(0)],
            {"clients_per_model": 8},
            ValueError,
            "only 7 clients have examples",
        ),
        (
            [classifier(0)],
            {"clients_per_model": 0},
            ValueError,
            "whole number of at least 1",
        ),
    ],
)
def test_mistakes_are_told(models, arguments, error, message):
    with pytest.raises(error, match=message):
        evaluate_many(models, CLIENTS, **arguments)


@pytest.mark.backend_free
def test_a_metric_of_ones_own_needs_a_mode():
    def share_of_zeros(y_true, y_pred):
        return keras.ops.cast(keras.ops.equal(y_true, 0), "float32")

    models = [classifier(i, metrics=[share_of_zeros]) for i in range(2)]
    with pytest.raises(ValueError, match="Give mode='max' or mode='min'"):
        evaluate_many(models, CLIENTS, metric="share_of_zeros")
    told = evaluate_many(models, CLIENTS, metric="share_of_zeros", mode="max")
    assert told.best is None


@pytest.mark.backend_free
def test_no_examples_anywhere_is_an_error():
    with pytest.raises(ValueError, match="No client has examples"):
        evaluate_many([classifier(0)], clients_of([0, 0]))
