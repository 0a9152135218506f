import json

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn import names, optimizers, serialization
from tests import zoo

A = fl.algorithms
SECRET = fl.privacy.Privacy(delta=1e-6, private_metrics=True)


def model():
    layers = [keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    made = keras.Sequential([keras.Input((3,)), *layers])
    made.compile("sgd", "mse")
    return made


# Of each algorithm what it is short for.
LONG = {
    "fedavg": {},
    "fedprox": {"client": "fedprox:0.1"},
    "fedavgm": {"server_optimizer": keras.optimizers.SGD(1.0, 0.9)},
    "fedadam": {"server_optimizer": optimizers.FedAdam(0.05)},
    "fedyogi": {"server_optimizer": optimizers.FedYogi(0.05)},
    "reptile": {
        "server_optimizer": keras.optimizers.SGD(0.5),
        "aggregator": fl.aggregators.Mean(weighting="uniform"),
    },
    "fedadagrad": {"server_optimizer": optimizers.FedAdagrad(0.03)},
}


def weights(process, rounds=2):
    state = process.initialize()
    for _ in range(rounds):
        state, _ = process.next(state, zoo.clients(make=zoo.line))
    return zoo.weights_in(process, state)


@pytest.mark.backend_free
@pytest.mark.parametrize("name", LONG)
def test_what_it_is_short_for(name):
    process = serialization.make(
        name, names.ALGORITHMS, "algorithm", model=zoo.regression()
    )
    long = fl.FederatedAveraging(zoo.regression(), **LONG[name])
    zoo.assert_equal(weights(process), weights(long))


def test_momentum_is_hsu_s():
    once, twice = (
        [weights(A.FedAvgM(zoo.regression(), momentum=m), r) for r in range(3)]
        for m in (0.0, 0.5)
    )
    zoo.assert_equal(once[1], twice[1])  # the first round has none
    # v2 = beta * v1 + delta2, and both have the same w1 and so delta2.
    for start, first, plain, with_it in zip(
        once[0], once[1], once[2], twice[2], strict=True
    ):
        np.testing.assert_allclose(
            with_it, plain + 0.5 * (first - start), rtol=1e-5, atol=1e-6
        )


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("made", "kept"),
    [
        (lambda m: A.FedProx(m, proximal=0.02), {"proximal": 0.02}),
        (lambda m: A.FedAvgM(m, momentum=0.7), {"momentum": 0.7}),
        (
            lambda m: A.FedAdam(m, server_learning_rate=0.2),
            {"server_learning_rate": 0.2},
        ),
        (
            lambda m: A.FedYogi(m, server_learning_rate=0.3),
            {"server_learning_rate": 0.3},
        ),
        (lambda m: A.Scaffold(m, population=3), {"population": 3}),
        (
            lambda m: A.FedDyn(m, alpha=0.5, population=3),
            {"alpha": 0.5, "population": 3},
        ),
        (lambda m: A.FedNova(m, "fedprox:0.5"), {}),
        (lambda m: A.FedExP(m, epsilon=0.5), {"epsilon": 0.5}),
        (lambda m: A.MimeLite(m, "fedavg"), {}),
        (lambda m: A.Mime(m), {}),
        (
            lambda m: A.QFedAvg(m, q=2.0, lipschitz=3.0),
            {"q": 2.0, "lipschitz": 3.0},
        ),
        (
            lambda m: A.AgnosticFedAvg(m, domains={"a": "x", "b": "y"}),
            {"domains": {"a": "x", "b": "y"}},
        ),
        (
            lambda m: A.FedPer(
                m,
                personal=[keras.layers.BatchNormalization],
                aggregator=fl.aggregators.PrivateMean(
                    1.0, noise_multiplier=1.0, clients_per_round=3
                ),
                privacy=SECRET,
            ),
            {"personal": ["BatchNormalization"]},
        ),
        (lambda m: A.FedBN(m, aggregator="median"), {}),
        (
            lambda m: A.Reptile(m, server_learning_rate=0.3),
            {"server_learning_rate": 0.3},
        ),
        (
            lambda m: A.FedRecon(
                m, personal="BatchNormalization", reconstruct_steps=3
            ),
            {"personal": "BatchNormalization", "reconstruct_steps": 3},
        ),
        (
            lambda m: A.Clustered(
                m, fl.LocalTraining(statistics="frozen"), clusters=2
            ),
            {"clusters": 2, "spread": 1.0},
        ),
        (lambda m: A.APFL(m, alpha=0.3), {"alpha": 0.3}),
        (lambda m: A.Ditto(m, strength=0.3), {"strength": 0.3}),
        (
            lambda m: A.FedRep(m, personal="BatchNormalization", head_steps=3),
            {"personal": "BatchNormalization", "head_steps": 3},
        ),
        (
            lambda m: A.LGFedAvg(m, personal="BatchNormalization"),
            {"personal": "BatchNormalization"},
        ),
    ],
)
def test_it_comes_back_from_its_config(made, kept):
    process = made(model())
    config = process.get_config()
    copy = fl.LearningProcess.from_config(json.loads(json.dumps(config)))
    assert type(copy) is type(process)
    assert copy == process
    assert kept.items() <= config.items()
    ours, theirs = (
        float(p.server_optimizer.learning_rate) for p in (process, copy)
    )
    assert ours == theirs


def test_fedprox_keeps_what_else_a_client_does():
    client = fl.LocalTraining("adam", epochs=3)
    process = A.FedProx(zoo.regression(), client, proximal=0.5)
    assert process.client == fl.LocalTraining("adam", epochs=3, proximal=0.5)
    assert client.proximal == 0
    with pytest.raises(ValueError, match="`proximal` must be a number of at"):
        A.FedProx(zoo.regression(), proximal=-1)


@pytest.mark.backend_free
def test_what_no_algorithm_takes():
    with pytest.raises(TypeError, match="momentum"):
        A.FedAdam(zoo.regression(), momentum=0.9)


@pytest.mark.backend_free
@pytest.mark.parametrize("name", ["Scaffold", "FedDyn"])
def test_what_a_population_is_is_said(name):
    with pytest.raises(ValueError, match=r"number of all clients.*len\(data\)"):
        getattr(fl.algorithms, name)(zoo.regression())


@pytest.mark.backend_free
def test_a_name_that_is_near_is_told():
    with pytest.raises(AttributeError, match="Did you mean Ditto"):
        _ = fl.algorithms.Dito
