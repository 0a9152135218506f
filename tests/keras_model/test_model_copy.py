import keras
import numpy as np
import pytest
from keras import layers, ops

import fedlearn as fl
from fedlearn.keras_model import model_copy
from tests import zoo


def branches():
    left, right = (
        keras.Input((2,), name="left"),
        keras.Input((3,), name="right"),
    )
    shared = layers.Dense(2, kernel_regularizer="l2", name="shared")
    hidden = shared(left) + layers.Dense(2, trainable=False)(right)
    outputs = {
        "a": layers.Dense(1, name="a")(hidden),
        "b": layers.Dense(3, "softmax", name="b")(layers.Dropout(0.5)(hidden)),
    }
    model = keras.Model({"left": left, "right": right}, outputs)
    model.compile(
        keras.optimizers.Adam(0.25),
        loss={"a": "mse", "b": "sparse_categorical_crossentropy"},
        loss_weights={"a": 0.5, "b": 2.0},
        metrics={"b": ["accuracy"]},
    )
    x = {"left": np.ones((4, 2)), "right": np.ones((4, 3))}
    return model, (x, {"a": np.ones((4, 1)), "b": np.array([0, 1, 2, 0])})


@keras.saving.register_keras_serializable("tests")
class Tower(keras.Model):
    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.hidden = layers.Dense(width)
        self.out = layers.Dense(1)

    def call(self, x):
        return self.out(ops.tanh(self.hidden(x)))

    def get_config(self):
        return {"width": self.width}


def subclassed():
    model = Tower(3)
    data = zoo.line(4)
    model(data[0])
    model.compile(
        "sgd", loss="mse", metrics=[keras.metrics.MeanAbsoluteError()]
    )
    return model, data


def sequential():
    return zoo.classifier(), zoo.points(4)


@pytest.mark.parametrize("make", [sequential, branches, subclassed])
def test_a_copy_is_the_same_and_apart(make):
    model, data = make()
    zoo.set_weights(model)
    before = zoo.weights_of(model)
    copy = model_copy.copy(model)
    assert type(copy) is type(model)
    assert not {id(v) for v in copy.variables} & {
        id(v) for v in model.variables
    }
    for a, b in zip(model.variables, copy.variables, strict=True):
        b.assign(a)

    x = data[0]
    for one, other in zip(
        keras.tree.flatten(model(x)), keras.tree.flatten(copy(x)), strict=True
    ):
        zoo.assert_equal([one], [other])
    assert [v.trainable for v in copy.variables] == [
        v.trainable for v in model.variables
    ]
    assert copy.optimizer is not model.optimizer
    assert copy.optimizer.get_config() == model.optimizer.get_config()
    for name in ("loss", "loss_weights"):
        config, other_config = (m._compile_config.config for m in (model, copy))
        assert config[name] == other_config[name]

    # Changing one leaves the other as it was.
    for variable in copy.variables:
        variable.assign(np.zeros(variable.shape))
    zoo.assert_equal(zoo.weights_of(model), before)


@pytest.mark.backend_free
@pytest.mark.parametrize("make", [sequential, branches, subclassed])
def test_a_copy_is_compiled_the_same(make):
    model, data = make()
    zoo.set_weights(model)
    copy = model_copy.copy(model)
    copy.set_weights(model.get_weights())
    for m in (model, copy):
        m.run_eagerly = True
    expected = model.evaluate(*data, verbose=0, return_dict=True)
    found = copy.evaluate(*data, verbose=0, return_dict=True)
    assert found == pytest.approx(expected, rel=1e-5)
    before = zoo.weights_of(model)
    copy.fit(*data, verbose=0)
    zoo.assert_equal(zoo.weights_of(model), before)
    assert model.evaluate(*data, verbose=0, return_dict=True) == expected


def test_metric_objects_are_not_shared():
    model, _ = subclassed()
    copy = model_copy.copy(model)
    (one,) = model._compile_config.config["metrics"]
    (other,) = copy._compile_config.config["metrics"]
    assert type(other) is type(one)
    assert other is not one


def mean_squared_error(y_true, y_pred):
    """Another than Keras's of this name."""
    return ops.sum(ops.abs(y_true - y_pred), axis=-1)


METRICS = {
    "not in the configuration": lambda: keras.metrics.CosineSimilarity(axis=0),
    "not to be read back": lambda: keras.metrics.AUC(
        multi_label=True, num_labels=3, label_weights=[0.1, 0.2, 0.7]
    ),
    "a function with the name of another": lambda: mean_squared_error,
    "a function without a name": lambda: (
        lambda y, p: ops.max(ops.abs(y - p), axis=-1)
    ),
}


@pytest.mark.parametrize("name", METRICS)
def test_the_copy_has_metrics_with_all_their_arguments(name):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 2)).astype("float32")
    y = np.eye(3, dtype="float32")[[0, 1, 2, 1, 0, 2]]
    model = keras.Sequential(
        [keras.Input((2,)), layers.Dense(3, "sigmoid", name="out")]
    )
    model.compile("sgd", "mse", metrics=[METRICS[name]()])
    before = model.evaluate(x, y, verbose=0)
    copy = model_copy.copy(model)
    assert copy.compiled
    assert model.compiled
    for source, target in zip(model.weights, copy.weights, strict=True):
        target.assign(ops.copy(source.value))
    np.testing.assert_allclose(
        copy.evaluate(x, y, verbose=0), before, rtol=1e-6
    )
    # What the copy counts isn't counted by the model.
    own = {id(v) for v in model.metrics_variables}
    assert not own & {id(v) for v in copy.metrics_variables}


def distance(y_true, y_pred, factor=1.0):
    return factor * ops.mean(ops.abs(y_true - y_pred), axis=-1)


class Distance(keras.metrics.MeanMetricWrapper):
    """Whose configuration doesn't say its factor."""

    def __init__(self, factor=1.0, name="distance"):
        super().__init__(lambda y, p: factor * distance(y, p), name=name)

    def get_config(self):
        return {"name": self.name}


LOSSES_AND_METRICS = {
    "a loss's argument": (keras.losses.Huber(delta=5.0), None),
    "a loss of no class": (lambda y, p: distance(y, p, 3.0), None),
    "a metric's argument": ("mse", keras.metrics.CosineSimilarity(axis=0)),
    "a metric's function": (
        "mse",
        keras.metrics.MeanMetricWrapper(distance, name="d", factor=3.0),
    ),
    "a metric's lambda": (
        "mse",
        keras.metrics.MeanMetricWrapper(
            lambda y, p: distance(y, p, 3.0), name="d"
        ),
    ),
    "a configuration that leaves out something": ("mse", Distance(3.0)),
}


@pytest.mark.parametrize("name", LOSSES_AND_METRICS)
def test_a_copy_counts_what_a_configuration_leaves_out(name):
    loss, metric = LOSSES_AND_METRICS[name]
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    metrics = [] if metric is None else [metric]
    model.compile("sgd", loss, metrics=metrics)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 3)), 9 * rng.normal(size=(8, 2))
    expected = model.evaluate(x, y, verbose=0, return_dict=True)
    copied = model_copy.copy(model)
    copied.set_weights(model.get_weights())
    found = copied.evaluate(x, y, verbose=0, return_dict=True)
    assert found == pytest.approx(expected, rel=1e-6)
    assert model.evaluate(x, y, verbose=0, return_dict=True) == expected


class Unknown(Tower):
    def __init__(self, width, sizes):
        super().__init__(width)
        self.sizes = sizes

    def get_config(self):
        return {}


def test_a_model_that_cannot_be_copied_says_what_to_do():
    model = Unknown(3, sizes=[1])
    model(np.ones((1, 2)))
    model.compile("sgd", loss="mse")
    with pytest.raises(
        ValueError, match=r"Unknown can't be copied.*get_config"
    ):
        model_copy.copy(model)
    process = fl.FederatedAveraging(model)
    with pytest.raises(ValueError, match="can't be copied"):
        process.get_model(process.initialize())


def test_a_model_with_a_lambda_that_cannot_be_copied_says_what_to_do():
    model = keras.Sequential(
        [keras.Input((2,)), layers.Lambda(lambda x: 2 * x), layers.Dense(1)]
    )
    model.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match=r"\(Lambda\). Write a keras.layers"):
        model_copy.copy(model)


def test_frozen_layers_stay_frozen():
    model, _ = branches()
    model.get_layer("shared").trainable = False
    model.compile("sgd", loss={"a": "mse", "b": "mse"})
    copy = model_copy.copy(model)
    assert len(copy.trainable_variables) == len(model.trainable_variables) == 4
