"""APFL against NumPy, and at both ends of alpha."""

import keras
import numpy as np
import pytest

import fedlearn as fl
from tests import zoo
from tests.algorithms import quadratics as q

EXECUTORS = ["sequential", "vectorized"]


def process_of(model=None, **kwargs):
    options = {"batch_size": 4, "epochs": 2, "shuffle": False}
    kwargs.setdefault("client", fl.LocalTraining(**options))
    return fl.algorithms.APFL(model or q.model(0.05), **kwargs)


def apfl_in_numpy(cohorts, alpha, rate, momentum):
    """Algorithm 1."""
    x, own = np.zeros(4), {}
    for cohort in cohorts:
        ends, sizes = [], []
        for i in cohort:
            features, labels = q.CLIENTS[i]
            w, v = x, own.get(i, x)
            of_w = of_v = np.zeros(4)
            for _ in range(2):
                for at in range(0, len(labels), 4):
                    data = features[at : at + 4], labels[at : at + 4]
                    mixed = alpha * v + (1 - alpha) * w
                    of_v = momentum * of_v - rate * alpha * q.gradient(
                        mixed, *data
                    )
                    of_w = momentum * of_w - rate * q.gradient(w, *data)
                    v, w = v + of_v, w + of_w
            own[i] = v
            ends.append(w)
            sizes.append(len(labels))
        x = np.average(ends, axis=0, weights=sizes)
    return x, own


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rounds_of_some_clients_are_those_of_numpy(executor, momentum):
    process = process_of(q.model(0.02, momentum), alpha=0.3, executor=executor)
    state, _ = q.run(process, q.SOME)
    x, own = apfl_in_numpy(q.SOME, 0.3, 0.02, momentum)
    np.testing.assert_allclose(q.flat(state.trainable), x, rtol=1e-4, atol=1e-5)
    for i, v in own.items():
        found = q.flat(process.get_model(state, client=i).get_weights())
        mixed = 0.3 * v + 0.7 * x
        np.testing.assert_allclose(found, mixed, rtol=1e-4, atol=1e-5)


def test_with_alpha_0_all_have_fedavgs_model_to_the_bit():
    client = fl.LocalTraining("adam", batch_size=4)
    plain, mixed = (
        make(zoo.classifier(), client)
        for make in (
            fl.FederatedAveraging,
            lambda *args: fl.algorithms.APFL(*args, alpha=0),
        )
    )
    clients = zoo.clients((8, 5, 4))
    one, two = (
        q.run(p, [clients] * 2, clients=clients)[0] for p in (plain, mixed)
    )
    expected = zoo.weights_in(plain, one)
    zoo.assert_equal(zoo.weights_in(mixed, two), expected)
    own = mixed.get_model(two, client="client_1")
    zoo.assert_equal(zoo.weights_of(own), expected)


@pytest.mark.backend_free
def test_with_alpha_1_clients_train_by_themselves():
    process = process_of(
        zoo.classifier(keras.optimizers.SGD(0.1)),
        client=fl.LocalTraining(batch_size=4, shuffle=False),
        alpha=1,
    )
    cohort = zoo.clients((8, 5, 4))
    state, _ = q.run(process, [cohort] * 2, clients=cohort)
    alone = process.get_model(process.initialize())
    zoo.fit(alone, cohort["client_1"], batch_size=4, epochs=2, shuffle=False)
    own = process.get_model(state, client="client_1")
    zoo.assert_close(zoo.weights_of(own), zoo.weights_of(alone), atol=1e-5)


@pytest.mark.backend_free
def test_a_run_that_goes_on_is_the_same_to_the_bit(tmp_path):
    q.assert_resumes(process_of(), tmp_path)


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"alpha": 1.5}, "`alpha` must be"),
        ({"client": "fedprox:0.1"}, "without `proximal`"),
    ],
)
def test_what_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        process_of(**arguments)
