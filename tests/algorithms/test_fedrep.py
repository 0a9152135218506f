"""FedRep: the head first, then the body, against NumPy."""

import keras
import numpy as np
import pytest

import fedlearn as fl
from tests import zoo
from tests.algorithms import quadratics as q
from tests.algorithms.test_personal_layers import is_bias, with_dummies

EXECUTORS = ["sequential", "vectorized"]


def process_of(model, head_steps, **kwargs):
    kwargs = {"personal": is_bias, **kwargs}
    return fl.algorithms.FedRep(model, head_steps=head_steps, **kwargs)


@pytest.mark.backend_free
def test_it_ends_at_least_squares_with_dummies():
    client = fl.LocalTraining(batch_size=100, epochs=2, shuffle=False)
    process = process_of(q.model(0.1), 1, client=client, executor="sequential")
    state, _ = q.run(process, [q.EVERYONE] * 350)
    kernel, biases = with_dummies()
    np.testing.assert_allclose(
        np.ravel(state.trainable[0]), kernel, rtol=1e-3, atol=1e-3
    )
    for i, expected in biases.items():
        (own,) = state.client_states[i].personal
        np.testing.assert_allclose(own, [expected], rtol=1e-3, atol=1e-3)


def fedrep_in_numpy(cohorts, rate, momentum, head_steps):
    """Algorithm 1, with momentum that starts anew for each part."""
    x = np.zeros(3)
    heads = dict.fromkeys(q.CLIENTS, 0.0)
    for cohort in cohorts:
        moves, sizes = [], []
        for i in cohort:
            features, labels = q.CLIENTS[i]
            y, velocity, step = np.r_[x, heads[i]], np.zeros(4), 0
            for _ in range(2):
                for at in range(0, len(labels), 4):
                    mine = np.array([0, 0, 0, 1.0])
                    if step >= head_steps:
                        mine = 1 - mine
                    if step == head_steps:
                        velocity = np.zeros(4)
                    rows = slice(at, at + 4)
                    g = q.gradient(y, features[rows], labels[rows])
                    velocity = momentum * velocity - rate * g
                    velocity = velocity * mine
                    y, step = y + velocity, step + 1
            heads[i] = y[3]
            moves.append(y[:3] - x)
            sizes.append(len(labels))
        x = x + np.average(moves, axis=0, weights=sizes)
    return x, heads


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("head_steps", [0, 3])
def test_rounds_of_some_clients_are_those_of_numpy(executor, head_steps):
    process = process_of(
        q.model(0.02, momentum=0.9),
        head_steps,
        client=fl.LocalTraining(batch_size=4, epochs=2, shuffle=False),
        executor=executor,
    )
    state, _ = q.run(process, q.SOME)
    x, heads = fedrep_in_numpy(q.SOME, 0.02, 0.9, head_steps)
    np.testing.assert_allclose(
        np.ravel(state.trainable[0]), x, rtol=1e-4, atol=1e-5
    )
    for i, kept in state.client_states.items():
        np.testing.assert_allclose(
            kept.personal[0], [heads[i]], rtol=1e-4, atol=1e-5
        )


def test_adam_and_weight_decay_move_nothing_out_of_turn():
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.1)
    client = fl.LocalTraining(optimizer, batch_size=4, max_steps=2)
    model = q.model()
    model.set_weights([np.ones((3, 1)), np.ones(1)])
    state, _ = q.run(process_of(model, 2, client=client), [q.EVERYONE])
    zoo.assert_equal(state.trainable, model.get_weights())
    for kept in state.client_states.values():
        assert abs(kept.personal[0][0] - 1) > 0.1


@pytest.mark.backend_free
def test_a_run_that_goes_on_is_the_same_to_the_bit(tmp_path):
    q.assert_resumes(process_of(q.model(), 1), tmp_path)


def test_fewer_than_no_steps_are_refused():
    with pytest.raises(ValueError, match="`head_steps` must be"):
        process_of(q.model(), -1)
