"""What must hold whatever the model: the algebra of a round."""

import functools
import operator

import keras
import numpy as np
import pytest
from keras.optimizers import schedules

import fedlearn as fl
from tests import zoo

SIZES = (8, 16, 8, 0, 16)


@pytest.fixture(scope="module")
def process():
    return zoo.classifier_process()


@pytest.fixture(scope="module")
def cohort():
    return zoo.clients(SIZES)


@pytest.fixture(scope="module")
def state(process, cohort):
    """After a round, so that no array is what it was initialised to."""
    return process.next(process.initialize(seed=3), cohort)[0]


@pytest.fixture(scope="module")
def updates(process, cohort, state):
    broadcast = process.broadcast(state)
    return [
        process.client_update(
            broadcast, cohort[i], process.client_seed(state, i)
        )
        for i in cohort.client_ids
    ]


TREES = {
    "sum": sum,
    "from the left": lambda u: functools.reduce(operator.add, u),
    "backwards": lambda u: sum(u[::-1]),
    "pairs": lambda u: (u[0] + u[1]) + ((u[2] + u[3]) + u[4]),
    "one by itself": lambda u: u[3] + (u[0] + (u[2] + u[1] + u[4])),
}


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_next_is_the_composition_of_its_halves(
    process, cohort, state, updates, tree
):
    expected, expected_metrics = process.next(state, cohort)
    after, metrics = process.server_update(
        state, process.broadcast(state), tree(updates)
    )
    zoo.assert_close(
        zoo.weights_in(process, after), zoo.weights_in(process, expected)
    )
    assert metrics == pytest.approx(expected_metrics, rel=1e-5)
    assert after.round_num == expected.round_num == 2
    assert after.seed == 3


def test_the_order_of_clients_changes_nothing(process, cohort, state):
    # Each client reads its examples in an order of its own, set by its id.
    ids = cohort.client_ids
    one, one_metrics = process.next(state, cohort)
    other, other_metrics = process.next(state, cohort.select(ids[::-1]))
    zoo.assert_close(
        zoo.weights_in(process, other), zoo.weights_in(process, one)
    )
    assert other_metrics == pytest.approx(one_metrics, rel=1e-5)


def test_a_client_does_the_same_whoever_else_takes_part(
    process, cohort, state, updates
):
    ids = [cohort.client_ids[i] for i in (4, 1)]
    after, _ = process.next(state, cohort.select(ids))
    total = updates[4] + updates[1]
    expected, _ = process.server_update(state, process.broadcast(state), total)
    zoo.assert_close(
        zoo.weights_in(process, after), zoo.weights_in(process, expected)
    )


def test_the_same_call_twice_gives_the_same_bits(process, cohort, state):
    zoo.assert_equal(process.next(state, cohort), process.next(state, cohort))


def test_next_changes_nothing_that_it_is_given(process, cohort, state):
    model = process.functional_model.model
    before = zoo.numpy(keras.tree.flatten(state))
    weights, optimizer = zoo.weights_of(model), model.optimizer
    assert not optimizer.built
    process.next(state, cohort)
    process.evaluate(state, cohort)
    zoo.assert_equal(zoo.numpy(keras.tree.flatten(state)), before)
    zoo.assert_equal(zoo.weights_of(model), weights)
    assert model.optimizer is optimizer
    assert not optimizer.built
    assert zoo.numpy(v for m in model.metrics for v in m.variables) == [0] * 4


def test_a_full_batch_everywhere_is_a_step_on_the_pooled_data():
    process = fl.FederatedAveraging(
        zoo.regression(),
        client=fl.LocalTraining(batch_size=64, epochs=3, max_steps=1),
        executor="sequential",
    )
    cohort = zoo.clients((4, 12, 4), make=zoo.line)
    state = process.initialize()
    after, metrics = process.next(state, cohort)
    before = zoo.numpy(state.trainable)
    gradient = zoo.gradient(before, cohort.pooled())
    expected = [w - 0.1 * g for w, g in zip(before, gradient, strict=True)]
    zoo.assert_close(zoo.numpy(after.trainable), expected)
    assert metrics["num_examples"] == 20


def slow_local_training(weights, data, rate=0.1, batch_size=4, proximal=0.0):
    """ClientUpdate of McMahan et al. 2017; FedProx's, with proximal > 0.

    Returns the weights, and the sum of the examples' losses on the way.
    """
    start, total = weights, 0.0
    for i in range(0, len(data[0]), batch_size):
        x, y = (a[i : i + batch_size] for a in data)
        kernel, bias = weights
        total += np.sum((x @ kernel + bias - y) ** 2)
        weights = [
            w - rate * (g + proximal * (w - w0))
            for w, g, w0 in zip(
                weights, zoo.gradient(weights, (x, y)), start, strict=True
            )
        ]
    return weights, total


def slow_mean_update(weights, cohort, **kwargs):
    """The average change and loss of the clients, by numbers of examples."""
    total, loss, count = [0.0 for _ in weights], 0.0, 0
    for i in cohort.client_ids:
        size = cohort.num_examples(i)
        after, client_loss = slow_local_training(weights, cohort[i], **kwargs)
        total = [
            t + size * (a - w)
            for t, a, w in zip(total, after, weights, strict=True)
        ]
        loss += client_loss
        count += size
    return [t / count for t in total], loss / count


@pytest.mark.parametrize("proximal", [0.0, 0.5])
def test_fedprox_equals_a_slow_one(proximal):
    process = zoo.regression_process()
    if proximal:
        process = fl.FederatedAveraging(
            zoo.regression(),
            client=fl.LocalTraining(
                batch_size=4, shuffle=False, proximal=proximal
            ),
            executor="sequential",
        )
    # Last batches of 3 and of 1 too, and a client without examples.
    cohort = zoo.clients((8, 3, 0, 13, 16), make=zoo.line)
    state = process.initialize()
    expected = zoo.numpy(state.trainable)
    for _ in range(2):
        update, loss = slow_mean_update(expected, cohort, proximal=proximal)
        expected = [w + u for w, u in zip(expected, update, strict=True)]
        state, metrics = process.next(state, cohort)
        assert metrics["loss"] == pytest.approx(loss, rel=1e-5)
        zoo.assert_close(zoo.numpy(state.trainable), expected)


class SlowAdam:
    """FedAdam of Reddi et al. 2021, algorithm 2.

    With the two corrections of the bias that Kingma & Ba 2015 put into the
    rate, at the end of their section 2, which is what Keras does.
    """

    def __init__(self, rate=0.1, beta_1=0.9, beta_2=0.99, tau=1e-3):
        self.constants = rate, beta_1, beta_2, tau
        self.m = self.v = 0.0
        self.t = 0

    def apply(self, weights, update):
        rate, beta_1, beta_2, tau = self.constants
        self.t += 1
        self.m = beta_1 * self.m + (1 - beta_1) * update
        self.v = beta_2 * self.v + (1 - beta_2) * update**2
        rate *= np.sqrt(1 - beta_2**self.t) / (1 - beta_1**self.t)
        return weights + rate * self.m / (np.sqrt(self.v) + tau)


class SlowMomentum:
    """FedAvgM of Hsu et al. 2019: v = beta v + update, w = w + v."""

    def __init__(self, rate=1.0, beta=0.9):
        self.rate, self.beta, self.v = rate, beta, 0.0

    def apply(self, weights, update):
        self.v = self.beta * self.v + update
        return weights + self.rate * self.v


class SlowDecay:
    """The rate is halved after each step of the server."""

    def __init__(self):
        self.rate = 1.0

    def apply(self, weights, update):
        weights = weights + self.rate * update
        self.rate /= 2
        return weights


@pytest.mark.parametrize(
    ("optimizer", "slow"),
    [
        (
            lambda: keras.optimizers.Adam(
                0.1, beta_1=0.9, beta_2=0.99, epsilon=1e-3
            ),
            SlowAdam,
        ),
        (lambda: keras.optimizers.SGD(1.0, momentum=0.9), SlowMomentum),
        (
            lambda: keras.optimizers.SGD(
                schedules.ExponentialDecay(1.0, 1, 0.5)
            ),
            SlowDecay,
        ),
    ],
    ids=["FedAdam", "FedAvgM", "schedule"],
)
def test_server_optimizers_equal_slow_ones(optimizer, slow):
    optimizer = optimizer()
    process = fl.FederatedAveraging(
        zoo.regression(),
        client=fl.LocalTraining(batch_size=4, shuffle=False),
        server_optimizer=optimizer,
    )
    # The clients' part is the same for all: it is compiled once.
    clients = zoo.regression_process()
    cohort = zoo.clients((8, 16), make=zoo.line)
    state = process.initialize()
    expected = zoo.numpy(state.trainable)
    by_hand = [slow() for _ in expected]
    for _ in range(3):
        update, _ = slow_mean_update(expected, cohort)
        expected = [
            s.apply(w, u)
            for s, w, u in zip(by_hand, expected, update, strict=True)
        ]
        broadcast = process.broadcast(state)
        total = sum(
            clients.client_update(broadcast, cohort[i], 0)
            for i in cohort.client_ids
        )
        state, _ = process.server_update(state, broadcast, total)
        zoo.assert_close(
            zoo.numpy(state.trainable), expected, rtol=1e-4, atol=1e-5
        )
    assert not optimizer.built
