"""What a training step changes, against what Keras's `fit` changes."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import fedlearn as fl
from fedlearn.keras_model import variable_roles
from fedlearn.keras_model.functional_model import FunctionalModel
from tests import zoo


class Counting(layers.Layer):
    """Statistics of its own: changed in training only, beside a counter."""

    def build(self, shape):
        self.mean = self.add_weight(
            shape=(shape[-1],), trainable=False, name="mean"
        )
        self.largest = self.add_weight(
            shape=(), trainable=False, name="largest", initializer="zeros"
        )
        self.calls = self.add_weight(
            shape=(),
            trainable=False,
            name="calls",
            dtype="int32",
            initializer="zeros",
        )
        self.limit = self.add_weight(
            shape=(),
            trainable=False,
            name="limit",
            dtype="int32",
            initializer="ones",
        )

    def call(self, x, training=False):
        if training:
            batch = ops.mean(x, axis=0)
            self.mean.assign(0.5 * self.mean + 0.5 * batch)
            self.calls.assign(self.calls + self.limit)
        return x - self.mean


def base():
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, activation="tanh"),
            layers.BatchNormalization(),
            layers.Dense(3),
        ],
        name="base",
    )
    return zoo.set_weights(model)


def functional(make):
    x = keras.Input((3,))
    model = keras.Model(x, layers.Dense(1)(make(x)))
    return model


def frozen_base(x):
    model = base()
    model.trainable = False
    return model(x)


def base_at_inference(x):
    return base()(x, training=False)


def base_that_trains(x):
    return base()(x)


def partly_frozen(x):
    x = layers.BatchNormalization(trainable=False)(x)
    return layers.BatchNormalization()(layers.Dense(3)(x))


def shared(x):
    norm = layers.BatchNormalization()
    return norm(layers.Dense(3)(norm(x)), training=False)


def adapted(x):
    norm = layers.Normalization()
    norm.adapt(3 * zoo.line(20)[0] + 1)
    return norm(x)


def counting(x):
    return layers.Dropout(0.5)(Counting()(x))


def spectral(x):
    return layers.SpectralNormalization(layers.Dense(3))(x)


class Lossy(keras.Model):
    """A subclassed model whose `compute_loss` keeps a statistic."""

    def __init__(self):
        super().__init__()
        self.norm = layers.BatchNormalization()
        self.out = layers.Dense(1)
        self.scale = self.add_weight(
            shape=(), trainable=False, initializer="ones", name="scale"
        )
        self.kept = self.add_weight(
            shape=(), trainable=False, initializer="ones", name="kept"
        )

    def call(self, x, training=False):
        return self.out(self.norm(x, training=training))

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        error = ops.mean(ops.square(y_pred - y))
        self.scale.assign(0.5 * self.scale + 0.5 * ops.stop_gradient(error))
        return error / self.kept


def lossy():
    model = Lossy()
    model(zoo.line(4)[0])
    return model


MODELS = {
    make.__name__: (lambda make=make: functional(make))
    for make in (
        frozen_base,
        base_at_inference,
        base_that_trains,
        partly_frozen,
        shared,
        adapted,
        counting,
        spectral,
    )
} | {"lossy": lossy}


@pytest.mark.parametrize("name", MODELS)
def test_roles_are_what_fit_changes(name):
    model = MODELS[name]()
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    found = variable_roles.roles(model)
    everything = sorted((*found.state, *found.local, *found.frozen))
    assert everything == list(range(len(model.non_trainable_variables)))

    before = zoo.numpy(model.non_trainable_variables)
    zoo.fit(model, zoo.line(8), batch_size=8)
    after = zoo.numpy(model.non_trainable_variables)
    changed = {
        i
        for i, (a, b) in enumerate(zip(before, after, strict=True))
        if not np.array_equal(a, b)
    }
    assert changed == {*found.state, *found.local}
    assert all(before[i].dtype.kind == "f" for i in found.state)


@pytest.mark.parametrize("name", ["counting", "lossy", "base_that_trains"])
def test_one_client_equals_fit(name):
    model = zoo.set_weights(MODELS[name]())
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    process = fl.FederatedAveraging(
        model,
        client=fl.LocalTraining(batch_size=4, shuffle=False),
        executor="sequential",
    )
    data = zoo.line(8)
    state, _ = process.next(process.initialize(), [data])
    for layer in model.layers:  # a client draws other numbers than `fit`
        if isinstance(layer, layers.Dropout):
            return
    zoo.fit(model, data, batch_size=4, shuffle=False)
    zoo.assert_close(zoo.weights_in(process, state), zoo.weights_of(model))


def test_where_nothing_is_known_of_the_input_layers_tell():
    class Unknown(keras.Model):
        def __init__(self):
            super().__init__()
            self.norm = layers.BatchNormalization()
            self.still = layers.BatchNormalization(trainable=False)
            self.out = layers.Dense(1)

        def build(self, shape):
            for layer in (self.norm, self.still, self.out):
                layer.build((None, 3))
            self.built = True

        def call(self, x, training=False):
            if not isinstance(x, dict):  # whose shapes nobody has seen
                raise TypeError("a dict, please")
            x = self.still(x["x"], training=training)
            return self.out(self.norm(x, training=training))

    model = Unknown()
    model.build((None, 3))
    model.compile("sgd", loss="mse")
    found = variable_roles.roles(model)
    names = {model.non_trainable_variables[i].path for i in found.state}
    assert names == {v.path for v in model.norm.non_trainable_variables}


class Late(keras.Model):
    """Changes a variable for some labels only: nothing tells beforehand."""

    def __init__(self):
        super().__init__()
        self.norm = layers.BatchNormalization()
        self.out = layers.Dense(1)

    def call(self, x, training=False):
        return self.out(self.norm(x, training=False))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        if y.shape[-1] == 7:
            self.norm(x, training=True)
        return ops.mean(ops.square(y_pred - y[:, :1]))


def test_what_changes_against_all_expectation_is_an_error():
    model = Late()
    model(zoo.line(4)[0])
    model.compile("sgd", loss="mse")
    process = fl.FederatedAveraging(model, executor="sequential")
    data = zoo.line(4)[0], np.ones((4, 7), "float32")
    with pytest.raises(ValueError, match="Training changes the variable"):
        process.next(process.initialize(), [data])


def test_a_trace_leaves_the_model_as_it_is():
    model = functional(base_that_trains)
    model.compile("sgd", loss="mse")
    before = zoo.weights_of(model)
    frozen = FunctionalModel(model, frozen_statistics=True)
    assert frozen.roles.state == ()
    assert len(frozen.roles.ignored) == 2
    zoo.assert_equal(zoo.weights_of(model), before)
    assert not any("call" in vars(layer) for layer in model._flatten_layers())
