"""What may be padded, and that what may not be is right all the same."""

import functools

import keras
import numpy as np
import pytest
from keras import layers, losses, ops

import fedlearn as fl
from fedlearn.keras_model import example_wise
from fedlearn.keras_model.example_wise import is_example_wise
from tests import zoo


def sequential(*middle, loss="mse", **kwargs):
    model = keras.Sequential([keras.Input((4,)), *middle, layers.Dense(3)])
    model.compile(keras.optimizers.SGD(0.1), loss, **kwargs)
    return zoo.set_weights(model)


def functional(join):
    inputs = keras.Input((4,))
    outputs = layers.Dense(3)(join(layers.Dense(4)(inputs)))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return zoo.set_weights(model)


class Centred(layers.Layer):
    def call(self, x):
        return x - ops.mean(x, axis=0)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 4), "float32"))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return zoo.set_weights(model)


def covariance(y_true, y_pred):
    centred = y_pred - ops.mean(y_pred, axis=0)
    return -ops.mean(centred * y_true)


def ranking(y_true, y_pred):
    """Pairwise, over the pairs of a batch."""
    difference = y_pred[:, None] - y_pred[None, :]
    wanted = ops.sign(y_true[:, None] - y_true[None, :])
    return ops.mean(ops.relu(1.0 - wanted * difference))


def concordance(y_true, y_pred):
    return 1 - keras.metrics.concordance_correlation(y_true, y_pred, axis=0)


def joint_activation(x):
    return x - ops.mean(x, axis=0)


JOINT = {
    "dice": lambda: sequential(loss=losses.Dice()),
    "tversky": lambda: sequential(loss=losses.Tversky()),
    "the function dice": lambda: sequential(loss=losses.dice),
    "concordance": lambda: sequential(loss=concordance),
    "covariance": lambda: sequential(loss=covariance),
    "ranking": lambda: sequential(loss=ranking),
    "a sum": lambda: sequential(loss=losses.MeanSquaredError("sum")),
    "along examples": lambda: sequential(loss=losses.CosineSimilarity(axis=0)),
    "own layer": lambda: sequential(Centred()),
    "lambda": lambda: sequential(
        layers.Lambda(lambda x: x - ops.mean(x, axis=0))
    ),
    "activation": lambda: sequential(
        layers.Dense(4, activation=joint_activation)
    ),
    "activation layer": lambda: sequential(layers.Activation(joint_activation)),
    "softmax of examples": lambda: sequential(layers.Softmax(axis=0)),
    "operation": lambda: functional(lambda x: x - ops.mean(x, axis=0)),
    "batch normalization": lambda: sequential(layers.BatchNormalization()),
    "own activity regularizer": lambda: sequential(
        layers.Dense(
            4, activity_regularizer=lambda a: ops.var(ops.sum(a, axis=1))
        )
    ),
    "subclassed": subclassed,
}
ALONE = {
    "regularized": lambda: sequential(
        layers.Dense(
            4, "tanh", kernel_regularizer="l2", activity_regularizer="l1"
        ),
        layers.LayerNormalization(),
    ),
    "functional": lambda: functional(layers.LeakyReLU()),
    "huber": lambda: sequential(loss=losses.huber, metrics=["mae"]),
    "two": lambda: functional(lambda x: layers.Add()([x, layers.ReLU()(x)])),
}

# What joins examples is found in the model. On JAX, some of each kind.
BOTH_BACKENDS = ("ranking", "batch normalization", "regularized")


def _fit_one(make, data, batch_size):
    """What the client's examples make of the model, by Keras itself."""
    model = make()
    zoo.fit(model, data, batch_size=batch_size, shuffle=False)
    return zoo.weights_of(model)


def data_of(size, seed=0):
    x, _ = zoo.points(size, seed)
    rng = np.random.default_rng(seed)
    return x, rng.uniform(0.1, 0.9, (size, 3)).astype("float32")


@pytest.mark.filterwarnings("ignore:.*softmax over axis 0")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[] if name in BOTH_BACKENDS else pytest.mark.backend_free,
        )
        for name in (*JOINT, *ALONE)
    ],
)
def test_a_first_batch_of_one_example_and_others_equal_fit(name):
    # 9 examples end with a batch of one, 13 with one of 5 (of 8, padded).
    make = {**JOINT, **ALONE}[name]
    process = fl.FederatedAveraging(
        make(),
        client=fl.LocalTraining(batch_size=8, shuffle=False),
        executor="sequential",
    )
    state = process.initialize()
    nine, thirteen = data_of(9), data_of(13, seed=1)
    process.next(state, [nine])
    after, _ = process.next(state, [thirteen])
    zoo.assert_close(
        zoo.weights_in(process, after),
        _fit_one(make, thirteen, 8),
        rtol=1e-4,
        atol=2e-6,
    )
    assert is_example_wise(process.model) == (name in ALONE)


def without_last_axis(loss):
    def make():
        model = keras.Sequential(
            [
                keras.Input((4,)),
                layers.Dense(1, "sigmoid"),
                layers.Reshape(()),
            ]
        )
        model.compile(keras.optimizers.SGD(0.1), loss)
        return zoo.set_weights(model)

    return make


def of_single_numbers():
    inputs = keras.Input(())
    hidden = layers.Reshape((1,))(layers.Softmax()(inputs))
    model = keras.Model(inputs, layers.Dense(1)(hidden))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return zoo.set_weights(model)


def with_one_step():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(1), layers.Reshape((1, 1))]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return zoo.set_weights(model)


ALONG_EXAMPLES = {
    "a loss of outputs": without_last_axis(losses.KLDivergence()),
    "a direction of outputs": without_last_axis(losses.CosineSimilarity()),
    "a softmax of inputs": of_single_numbers,
    "each output with all labels": with_one_step,
}


@pytest.mark.parametrize("name", ALONG_EXAMPLES)
def test_where_an_axis_is_missing_keras_computes_along_examples(name):
    make = ALONG_EXAMPLES[name]
    x, y = data_of(13)
    data = (x[:, 0] if name == "a softmax of inputs" else x, y[:, 0])
    process = fl.FederatedAveraging(
        make(),
        client=fl.LocalTraining(batch_size=8, shuffle=False),
        executor="sequential",
    )
    state, _ = process.next(process.initialize(), [data])
    zoo.assert_close(
        zoo.weights_in(process, state),
        _fit_one(make, data, 8),
        rtol=1e-4,
        atol=2e-6,
    )


@pytest.mark.parametrize("loss", ["mse", ranking], ids=["alone", "joint"])
def test_the_order_of_clients_changes_no_bit_of_an_update(loss):
    data = {"a": data_of(9), "b": data_of(13, seed=1), "c": data_of(3, seed=2)}
    updates = []
    for order in ("abc", "cba", "bca"):
        process = fl.FederatedAveraging(
            sequential(loss=loss),
            client=fl.LocalTraining(batch_size=8),
            executor="sequential",
        )
        broadcast = process.broadcast(process.initialize())
        found = {
            i: process.client_update(broadcast, data[i], 5).summand
            for i in order
        }
        updates.append([zoo.numpy(keras.tree.flatten(found[i])) for i in "abc"])
    for other in updates[1:]:
        zoo.assert_equal(other, updates[0])


@pytest.mark.backend_free
@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 9, 200])
def test_a_batch_is_filled_to_less_than_twice_its_length(length):
    from fedlearn.executors.sequential import Steps

    class Program:
        batch_size, per_example = 500, False
        step = staticmethod(lambda *args: None)

    steps = Steps(Program(), Program.step)
    steps._can_pad = lambda data: True
    assert length <= steps._size(length, ()) < 2 * length


def test_a_far_larger_batch_size_costs_no_digits():
    data = data_of(5)
    process = fl.FederatedAveraging(
        sequential(),
        client=fl.LocalTraining(batch_size=4096, shuffle=False),
        executor="sequential",
    )
    state, _ = process.next(process.initialize(), [data])
    found = zoo.weights_in(process, state)
    model = sequential()
    (kernel, bias), (x, y) = zoo.weights_of(model), data
    error = (x.astype("float64") @ kernel + bias - y) * 2 / y.size
    np.testing.assert_allclose(found[0], kernel - 0.1 * x.T @ error, atol=3e-7)
    np.testing.assert_allclose(found[1], bias - 0.1 * error.sum(0), atol=3e-7)


LOSSES = {
    name: cls
    for name, cls in vars(losses).items()
    if isinstance(cls, type)
    and name.lower() not in example_wise._JOINING_LOSSES
}


@pytest.mark.backend_free
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_is_known_is_a_mean_over_examples(name):
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.1, 0.9, (4, 3)).astype("float32")
    predictions = scores / scores.sum(axis=1, keepdims=True)
    labels = np.array([0, 2, 1, 2])
    if "Sparse" not in name and "Generalized" not in name:
        labels = np.eye(3, dtype="float32")[labels]
    loss = LOSSES[name]()
    alone = [
        float(loss(labels[i : i + 1], predictions[i : i + 1])) for i in range(4)
    ]
    together = float(loss(labels, predictions))
    assert together == pytest.approx(np.mean(alone), rel=1e-5)
    assert min(alone) < max(alone)


ACTIVATIONS = sorted(
    name
    for name, value in vars(keras.activations).items()
    if callable(value) and name not in ("get", "serialize", "deserialize")
)


@pytest.mark.backend_free
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_of_keras_takes_each_example_by_itself(name):
    activation = getattr(keras.activations, name)
    if name == "threshold":
        activation = functools.partial(activation, threshold=0, default_value=1)
    x = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    rows = [numpy(activation(x[i : i + 1])) for i in range(4)]
    np.testing.assert_allclose(
        numpy(activation(x)), np.concatenate(rows), rtol=1e-5, atol=1e-6
    )


def numpy(value):
    return ops.convert_to_numpy(value)
