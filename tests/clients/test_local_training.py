import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedlearn as fl
from fedlearn import seeds
from fedlearn.clients.local_trainer import LocalTrainer
from tests import zoo


def batches(num_examples, seed=0, **kwargs):
    trainer = object.__new__(LocalTrainer)  # without a model: order only
    trainer.config = fl.LocalTraining(**kwargs)
    return [b.tolist() for b in trainer.batches(num_examples, seed)]


def test_batches_in_order():
    assert batches(5, batch_size=2, shuffle=False, epochs=2) == [
        [0, 1],
        [2, 3],
        [4],
        [0, 1],
        [2, 3],
        [4],
    ]


def test_max_steps_counts_over_epochs():
    steps = batches(5, batch_size=2, shuffle=False, epochs=9, max_steps=4)
    assert steps == [[0, 1], [2, 3], [4], [0, 1]]


def test_no_examples_no_steps():
    assert batches(0, epochs=3) == []


@given(
    st.integers(0, 40),
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(0, 2**64 - 1),
)
def test_an_epoch_has_each_example_once(num_examples, size, epochs, seed):
    steps = batches(num_examples, seed, batch_size=size, epochs=epochs)
    assert all(1 <= len(b) <= size for b in steps)
    flat = [position for step in steps for position in step]
    for epoch in range(epochs):
        part = flat[epoch * num_examples : (epoch + 1) * num_examples]
        assert sorted(part) == list(range(num_examples))
        expected = seeds.permutation(num_examples, seed, "order", epoch)
        assert part == expected.tolist()


def test_each_epoch_and_each_client_has_another_order():
    one = batches(20, seed=1, batch_size=20, epochs=2)
    other = batches(20, seed=2, batch_size=20, epochs=2)
    assert one[0] != one[1]
    assert one != other
    assert batches(20, seed=1, batch_size=20, epochs=2) == one


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"batch_size": 0}, "`batch_size` must be a whole number"),
        ({"batch_size": 2.5}, "`batch_size` must be a whole number"),
        ({"batch_size": True}, "`batch_size` must be a whole number"),
        ({"epochs": 0}, "`epochs` must be a whole number"),
        ({"epochs": -1}, "`epochs` must be a whole number"),
        ({"max_steps": 0}, "`max_steps` must be a whole number"),
        ({"proximal": -0.1}, "`proximal` must be a number"),
        ({"proximal": float("nan")}, "`proximal` must be a number"),
        ({"proximal": float("inf")}, "`proximal` must be a number"),
        ({"optimizer": "sdg"}, "sdg"),
    ],
)
def test_arguments_out_of_range(arguments, match):
    with pytest.raises(ValueError, match=match):
        fl.LocalTraining(**arguments)


@pytest.mark.parametrize("name", ["batch_size", "epochs", "max_steps"])
def test_arguments_that_are_no_numbers(name):
    with pytest.raises((TypeError, ValueError), match=f"`{name}`"):
        fl.LocalTraining(**{name: "many"})


def test_takes_numpys_and_whole_floats():
    client = fl.LocalTraining(batch_size=np.int64(4), epochs=2.0)
    assert (client.batch_size, client.epochs) == (4, 2)
    assert type(client.epochs) is int


def test_config_round_trip():
    client = fl.LocalTraining(
        keras.optimizers.Adam(0.5),
        batch_size=3,
        epochs=2,
        shuffle=False,
        max_steps=7,
        proximal=0.25,
    )
    copy = fl.LocalTraining.from_config(client.get_config())
    assert copy.get_config() == client.get_config()
    assert isinstance(copy.optimizer, keras.optimizers.Adam)
    default = fl.LocalTraining()
    assert default.get_config()["optimizer"] is None


def test_the_models_optimizer_unless_another_is_given():
    model = zoo.regression(keras.optimizers.Adam(0.1))
    for given_optimizer, cls in (
        (None, keras.optimizers.Adam),
        ("rmsprop", keras.optimizers.RMSprop),
    ):
        process = fl.FederatedAveraging(
            model, client=fl.LocalTraining(given_optimizer)
        )
        trainer = process.program.trainer
        assert isinstance(trainer.optimizer.optimizer, cls)
    assert not model.optimizer.built


def test_what_fedprox_adds_is_not_in_the_loss_that_is_reported():
    # The second step is away from the round's weights: mu / 2 * |w - w0|^2
    # would show.
    data = zoo.line(8)
    losses = []
    for proximal in (0.0, 100.0):
        model = zoo.regression(keras.optimizers.SGD(0.0001))
        process = fl.FederatedAveraging(
            model,
            client=fl.LocalTraining(
                batch_size=4, shuffle=False, proximal=proximal
            ),
            executor="sequential",
        )
        _, metrics = process.next(process.initialize(), [data])
        losses.append(metrics["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
