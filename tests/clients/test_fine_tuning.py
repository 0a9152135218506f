"""Fine-tuning at evaluation: Keras's `fit`, then `evaluate`, at each client."""

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn import seeds
from tests import zoo
from tests.algorithms import quadratics as q

TRAINING = fl.LocalTraining(
    keras.optimizers.SGD(0.1), batch_size=4, epochs=2, shuffle=False
)
TRAIN = zoo.clients((8, 5, 6))
TEST = {i: zoo.points(9, seed=k + 7) for k, i in enumerate(TRAIN)}


def classifier():
    return zoo.classifier(keras.optimizers.SGD(0.1), metrics=["accuracy"])


def tuned_by_keras(model, data):
    copy = classifier()
    copy.set_weights(model.get_weights())
    zoo.fit(copy, data, batch_size=4, epochs=2, shuffle=False)
    return copy


def test_it_is_fit_and_evaluate_of_keras_at_each_client():
    model = classifier()
    before = model.get_weights()
    found = fl.evaluate(
        model,
        TEST,
        per_client=True,
        fine_tune=TRAINING,
        fine_tune_data={i: d for i, d in TRAIN.items() if i != "client_2"},
    )
    zoo.assert_equal(model.get_weights(), before)
    for i, (x, y) in TEST.items():
        tuned = model
        if i != "client_2":  # which has nothing to train on
            tuned = tuned_by_keras(model, TRAIN[i])
        expected = tuned.evaluate(x, y, verbose=0, return_dict=True)
        for name, value in expected.items():
            one = found["per_client"][i][name]
            assert one == pytest.approx(value, rel=1e-4), (i, name)
    plain = fl.evaluate(model, TEST, per_client=True)
    assert found["global"] == plain
    assert "without_personal" not in found


def test_half_of_a_clients_examples_are_to_train_on_and_not_evaluated():
    model = classifier()
    found = fl.evaluate(model, TEST, True, fine_tune=TRAINING)
    expected_global = []
    for i, (x, y) in TEST.items():
        order = seeds.permutation(9, "fine_tune", i)
        train, rest = np.sort(order[:4]), np.sort(order[4:])
        tuned = tuned_by_keras(model, (x[train], y[train]))
        expected = tuned.evaluate(x[rest], y[rest], verbose=0)[0]
        one = found["per_client"][i]
        assert one["loss"] == pytest.approx(expected, rel=1e-4)
        assert one["num_examples"] == 5
        expected_global.append(model.evaluate(x[rest], y[rest], verbose=0)[0])
    # The model as it was, on the same examples.
    mean = found["global"]["statistics"]["loss"]["mean"]
    assert mean == pytest.approx(np.mean(expected_global), rel=1e-4)
    assert found["num_examples"] == found["global"]["num_examples"] == 15


def test_a_client_of_one_example_keeps_the_model():
    model = classifier()
    x, y = TEST["client_0"]
    tiny = {"one": (x[:1], y[:1]), "none": (x[:0], y[:0])}
    found = fl.evaluate(model, tiny, fine_tune=TRAINING)
    expected = model.evaluate(x[:1], y[:1], verbose=0)[0]
    assert found["loss"] == pytest.approx(expected, rel=1e-4)
    assert found["num_examples"] == 1


def test_steps_of_least_squares_are_the_closed_form():
    # v = w* + (I - lr A)^K (w - w*), A being the loss's second derivative.
    rate, steps = 0.05, 7
    model = q.model(rate)
    start = np.array([0.5, -1.0, 2.0, 0.3])
    model.set_weights([start[:3, None], start[3:]])
    training = fl.LocalTraining(batch_size=100, epochs=steps)
    found = fl.evaluate(
        model,
        q.CLIENTS,
        per_client=True,
        fine_tune=training,
        fine_tune_data=q.CLIENTS,
    )
    for i, (x, y) in q.CLIENTS.items():
        ones = q.with_ones(x)
        a = 2 * ones.T @ ones / len(x)
        best = np.linalg.lstsq(ones, y.ravel(), rcond=None)[0]
        power = np.linalg.matrix_power(np.eye(4) - rate * a, steps)
        tuned = best + power @ (start - best)
        loss = np.mean((ones @ tuned - y.ravel()) ** 2)
        assert found["per_client"][i]["loss"] == pytest.approx(loss, rel=1e-4)


def test_a_process_tunes_what_clients_have():
    process = fl.algorithms.Ditto(
        classifier(), client=fl.LocalTraining(batch_size=4)
    )
    state, _ = q.run(process, [["client_0", "client_1"]] * 2, clients=TRAIN)
    found = process.evaluate(
        state, TEST, True, fine_tune=TRAINING, fine_tune_data=TRAIN
    )
    for i, (x, y) in TEST.items():
        own = process.get_model(state, client=i)
        tuned = tuned_by_keras(own, TRAIN[i])
        expected = tuned.evaluate(x, y, verbose=0)[0]
        one = found["per_client"][i]["loss"]
        assert one == pytest.approx(expected, rel=1e-4)
    assert found["without_personal"] == ["client_2"]
    # The same again: it changes nothing.
    again = process.evaluate(
        state, TEST, True, fine_tune=TRAINING, fine_tune_data=TRAIN
    )
    assert again == found


def test_what_is_refused():
    with pytest.raises(ValueError, match="`fine_tune_data` is for fine-tuning"):
        fl.evaluate(classifier(), TEST, fine_tune_data=TRAIN)
    with pytest.raises(TypeError, match="LocalTraining"):
        fl.evaluate(classifier(), TEST, fine_tune=3)
