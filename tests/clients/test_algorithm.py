"""A first pass over a client's examples, before its first step."""

import keras
import numpy as np
import pytest
from keras import ops

import fedlearn as fl
from fedlearn.clients.algorithm import Algorithm, Contribution
from tests import zoo

CLIENTS = zoo.clients((8, 5, 0, 9, 1), make=zoo.line)


class Looks(Algorithm):
    """Takes its steps, and sends the loss and the gradient before them."""

    def extra_spec(self, spec):
        return [keras.KerasTensor((1,)), *spec]

    def init(self, spec):
        return [ops.zeros(s.shape) for s in self.extra_spec(spec)]

    def start(self, local, carry, client_state):
        zeros = [ops.zeros_like(w) for w in carry.variables.trainable]
        return ops.zeros(()), [ops.zeros((1,)), *zeros]

    def look(self, local, carry):
        count, total = carry.memory
        weights = carry.variables.trainable
        loss = local.loss(weights, carry.variables)
        found, _ = local.gradient(weights, carry.variables, carry.optimizer)
        n = local.num_examples
        seen = [ops.reshape(loss, (1,)), *found]
        return count + n, [t + n * s for t, s in zip(total, seen, strict=True)]

    def finish(self, local, carry, update, client_state):
        count, total = carry.memory
        means = [t / ops.maximum(count, 1.0) for t in total]
        return Contribution(update, means)

    def server(self, state, mean, extra, num_clients):
        return mean, extra, {}


def process_of(algorithm=None, **kwargs):
    model = zoo.regression(keras.optimizers.SGD(0.1, momentum=0.9))
    kwargs.setdefault("client", fl.LocalTraining(batch_size=4, epochs=2))
    return fl.LearningProcess(model, algorithm=algorithm, **kwargs)


@pytest.mark.parametrize("executor", ["sequential", "vectorized"])
def test_it_sees_every_example_once_where_the_round_began(executor):
    process = process_of(Looks(), executor=executor)
    plain = process_of(executor=executor)
    state, metrics = process.next(process.initialize(), CLIENTS)
    after, expected = plain.next(plain.initialize(), CLIENTS)
    # Steps and metrics are as if nobody had looked.
    zoo.assert_equal(state.trainable, after.trainable)
    assert metrics["loss"] == expected["loss"]
    loss, *gradient = state.algorithm
    model = zoo.regression()
    x, y = (np.concatenate(a) for a in zip(*CLIENTS.values(), strict=True))
    np.testing.assert_allclose(loss[0], model.evaluate(x, y, verbose=0), 1e-5)
    pooled = zoo.gradient(zoo.weights_of(model), (x, y))
    zoo.assert_close(gradient, pooled, 1e-4, 1e-5)


def test_looks_are_refused_where_dp_covers_steps():
    dp = fl.clients.ExampleDP(1.0, noise_multiplier=1.0)
    with pytest.raises(ValueError, match="algorithm looks at the examples"):
        process_of(Looks(), client=fl.LocalTraining(dp=dp))


def test_a_state_unlike_the_first_is_an_error():
    class Forgets(Looks):
        def init(self, spec):
            return ()

    process = process_of(Forgets())
    with pytest.raises(ValueError, match="other arrays than that of its `init"):
        process.next(process.initialize(), CLIENTS)
