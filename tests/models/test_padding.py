"""Sequences of different lengths: padding has no part in what is learned."""

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn.metrics import MaskedAccuracy
from tests import zoo

VOCAB, LENGTH = 9, 6


def sentences(num_examples, seed=0):
    """Inputs, and labels one position ahead; number 0 is padding."""
    rng = np.random.default_rng([seed, num_examples])
    tokens = rng.integers(1, VOCAB, (num_examples, LENGTH + 1))
    ends = rng.integers(2, LENGTH + 2, num_examples)
    tokens[np.arange(LENGTH + 1) >= ends[:, None]] = 0
    return tokens[:, :-1].astype("int32"), tokens[:, 1:].astype("int32")


def make(name="shakespeare_lstm", plain=False, **kwargs):
    model = fl.models.get(
        name, vocab_size=VOCAB, embedding_size=3, units=4, seed=0, **kwargs
    )
    if plain:
        loss, metric = "sparse_categorical_crossentropy", "accuracy"
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=0)
        metric = MaskedAccuracy(ignore=(0, VOCAB - 1))
    model.compile(keras.optimizers.SGD(1.0), loss, metrics=[metric])
    return zoo.set_weights(model)


def expected(model, x, y, in_loss, in_accuracy):
    """Mean loss and accuracy over positions, from the probabilities."""
    outputs = keras.ops.convert_to_numpy(model(x))
    losses = -np.log(np.take_along_axis(outputs, y[..., None], -1)[..., 0])
    hits = outputs.argmax(-1) == y
    return {
        "loss": losses[in_loss].mean(),
        "accuracy": hits[in_accuracy].mean(),
    }


@pytest.mark.backend_free
def test_labels_decide_what_counts():
    x, y = sentences(12)
    # Some sentences end inside, so that inputs and labels disagree.
    assert ((x > 0) & (y == 0)).any()
    model = make()
    found = model.evaluate(x, y, verbose=0, return_dict=True)
    counts = (y > 0) & (y < VOCAB - 1)
    assert found == pytest.approx(expected(model, x, y, y > 0, counts), 1e-5)


@pytest.mark.backend_free
def test_plain_losses_count_by_inputs():
    # What `help(fl.models)` warns of.
    x, y = sentences(12)
    model = make(plain=True)
    found = model.evaluate(x, y, verbose=0, return_dict=True)
    assert found == pytest.approx(expected(model, x, y, x > 0, x > 0), 1e-5)


def test_what_follows_a_sentence_changes_nothing():
    x, _ = sentences(5)
    model = make()
    longer = np.pad(x, ((0, 0), (0, 2)))
    outputs = keras.ops.convert_to_numpy(model(longer))[:, :LENGTH]
    np.testing.assert_allclose(
        outputs, keras.ops.convert_to_numpy(model(x)), rtol=1e-5, atol=1e-6
    )


def test_one_client_is_fit():
    # Batches of different numbers of real labels, and a smaller last one.
    data = sentences(10)
    model = make()
    process = fl.FederatedAveraging(
        model,
        client=fl.LocalTraining(batch_size=4, shuffle=False),
        executor="auto",
    )
    state, metrics = process.next(process.initialize(), [data])
    expected = zoo.fit(model, data, batch_size=4, shuffle=False)
    zoo.assert_close(zoo.weights_in(process, state), zoo.weights_of(model))
    zoo.assert_same_metrics(metrics, expected)


@pytest.mark.backend_free
def test_evaluation_over_clients_is_that_of_the_pooled_data():
    model = make("stackoverflow_lstm")
    clients = zoo.clients((3, 0, 7), make=sentences)
    x, y = clients.pooled()
    found = fl.evaluate(model, clients)
    counts = (y > 0) & (y < VOCAB - 1)
    assert found["accuracy"] == pytest.approx(
        expected(model, x, y, y > 0, counts)["accuracy"], rel=1e-5
    )


def test_one_label_for_each_sentence():
    x, _ = sentences(3)
    model = make(return_sequences=False)
    outputs = keras.ops.convert_to_numpy(model(x))
    assert outputs.shape == (3, VOCAB)
    # After its last character, not after the padding.
    alone = model(x[:1, : np.count_nonzero(x[0])])
    np.testing.assert_allclose(
        outputs[:1], keras.ops.convert_to_numpy(alone), rtol=1e-5, atol=1e-6
    )
