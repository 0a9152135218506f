"""Any compiled Keras model goes in unchanged, and learns what `fit` learns."""

import keras
import numpy as np
import pytest
from keras import layers, losses, ops

import fedlearn as fl
from tests import zoo

pytestmark = pytest.mark.conformance

N = 16  # two batches of 8: one shape to compile


def rng():
    return np.random.default_rng(0)


def batch_norm_and_sample_weights():
    model = zoo.classifier(
        keras.optimizers.Adam(0.05),
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2)],
        weighted_metrics=["accuracy"],
    )
    weight = rng().uniform(0, 3, size=N).astype("float32")
    return model, (*zoo.points(N), weight)


def dicts():
    left = keras.Input((4,), name="left")
    right = keras.Input((2,), name="right")
    hidden = layers.Concatenate()([left, right])
    outputs = {
        "kind": layers.Dense(3, name="kind")(hidden),
        "size": layers.Dense(1, name="size")(hidden),
    }
    model = keras.Model({"left": left, "right": right}, outputs)
    model.compile(
        keras.optimizers.SGD(0.1),
        loss={
            "kind": losses.SparseCategoricalCrossentropy(from_logits=True),
            "size": "mae",
        },
        loss_weights={"kind": 0.3, "size": 2.0},
        metrics={"kind": ["accuracy"], "size": ["mse", "mae"]},
        weighted_metrics={"size": ["mse"]},
    )
    x, y = zoo.points(N)
    other = rng().normal(size=(N, 2)).astype("float32")
    weight = rng().uniform(0, 3, size=N).astype("float32")
    return model, (
        {"left": x, "right": other},
        {"kind": y, "size": other[:, :1]},
        {"kind": np.ones(N, "float32"), "size": weight},
    )


def lists_and_lstm():
    tokens, features = keras.Input((4,), dtype="int32"), keras.Input((4,))
    embedded = layers.Embedding(5, 3, mask_zero=True)(tokens)
    hidden = layers.LSTM(3)(embedded)
    hidden = layers.Concatenate()([hidden, features])
    outputs = [layers.Dense(3)(hidden), layers.Dense(1)(hidden)]
    model = keras.Model([tokens, features], outputs)
    model.compile(
        keras.optimizers.SGD(0.1),
        loss=[
            losses.SparseCategoricalCrossentropy(from_logits=True),
            losses.Huber(),
        ],
        metrics=[["accuracy"], ["mae"]],
    )
    x, y = zoo.points(N)
    words = rng().integers(0, 5, size=(N, 4)).astype("int32")
    return model, ((words, x), (y, x[:, :1]))


class Denoiser(keras.Model):
    """Subclassed, with its own compute_loss, add_loss and a training flag."""

    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(3, activation="tanh")
        self.norm = layers.BatchNormalization()
        self.out = layers.Dense(4)

    def call(self, x, training=False):
        hidden = self.hidden(x)
        self.add_loss(0.1 * ops.mean(ops.square(hidden)))
        return self.out(self.norm(hidden, training=training))

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        error = ops.mean(ops.square(y_pred - x), axis=-1)
        return ops.mean(error) + sum(self.losses)


def subclassed():
    model = Denoiser()
    x, _ = zoo.points(N)
    model(x)
    model.compile(keras.optimizers.RMSprop(0.05), metrics=["mae"])
    return model, (x, x)


def asymmetric(y_true, y_pred):
    error = y_true - y_pred
    return ops.mean(ops.maximum(0.2 * error, -0.8 * error), axis=-1)


def regularized_and_frozen():
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, trainable=False, name="frozen"),
            layers.BatchNormalization(trainable=False),
            layers.Dense(3, kernel_regularizer="l2", activity_regularizer="l1"),
            layers.BatchNormalization(),
            layers.Dense(1, bias_regularizer="l1"),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.1, nesterov=True, momentum=0.5),
        loss=asymmetric,
        metrics=[asymmetric, keras.metrics.RootMeanSquaredError()],
    )
    return model, zoo.line(N)


CASES = (
    batch_norm_and_sample_weights,
    dicts,
    lists_and_lstm,
    subclassed,
    regularized_and_frozen,
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_one_client_equals_fit(case):
    model, data = case()
    zoo.set_weights(model)
    process = fl.FederatedAveraging(
        model,
        client=fl.LocalTraining(batch_size=8, shuffle=False),
        executor="sequential",
    )
    before = zoo.weights_of(model)
    state, metrics = process.next(process.initialize(), [data])
    zoo.assert_equal(zoo.weights_of(model), before)

    expected = zoo.fit(model, data, batch_size=8, shuffle=False)
    zoo.assert_close(zoo.weights_in(process, state), zoo.weights_of(model))
    zoo.assert_same_metrics(metrics, expected)
    assert (metrics["num_clients"], metrics["num_examples"]) == (1, N)


@pytest.mark.parametrize(
    "case",
    [dicts, batch_norm_and_sample_weights],
    ids=lambda case: case.__name__,
)
def test_evaluation_equals_evaluate(case):
    model, data = case()
    zoo.set_weights(model)
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    model.run_eagerly = keras.backend.backend() == "tensorflow"
    expected = model.evaluate(
        x, y, sample_weight=weight, return_dict=True, verbose=0, batch_size=8
    )
    metrics = fl.evaluate(model, [data], batch_size=8)
    zoo.assert_same_metrics(metrics, expected)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only TensorFlow has text"
)
@pytest.mark.parametrize("dtype", [str, object])
def test_text_goes_in_where_the_backend_has_text(dtype):
    words = layers.TextVectorization(
        vocabulary=["good", "bad"], output_mode="multi_hot"
    )
    model = keras.Sequential(
        [keras.Input((1,), dtype="string"), words, layers.Dense(1)]
    )
    model.compile("sgd", loss="mse")
    x = np.array([["good"], ["bad"], ["so so"]], dtype)
    process = fl.FederatedAveraging(model, executor="sequential")
    _, metrics = process.next(process.initialize(), [(x, np.ones((3, 1)))])
    assert metrics["num_clients"] == 1


def test_frozen_weights_are_not_sent_back_nor_changed():
    model, data = regularized_and_frozen()
    process = fl.FederatedAveraging(model, executor="sequential")
    # A frozen kernel and bias, and all four arrays of a frozen
    # BatchNormalization, are left out; statistics go beside the update.
    shapes = [tuple(spec.shape) for spec in process.update_spec]
    assert (3, 4) not in shapes
    assert len(shapes) == 2 + 2 + 2
    names = {v.path for v in process.functional_model.model.trainable_variables}
    assert not any("frozen" in name for name in names)
    state = process.initialize()
    after, _ = process.next(state, [data])
    moved = [
        not np.array_equal(a, b)
        for a, b in zip(
            zoo.numpy(state.non_trainable),
            zoo.numpy(after.non_trainable),
            strict=True,
        )
    ]
    assert sum(moved) == 2
    assert len(moved) == 2 + 4 + 2


def dropout_process(executor):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dropout(0.5),
            layers.Dropout(0.5),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("sgd", loss="sparse_categorical_crossentropy")
    return fl.FederatedAveraging(
        zoo.set_weights(model),
        client=fl.LocalTraining(batch_size=8, shuffle=False),
        executor=executor,
    )


@pytest.fixture(scope="module")
def with_dropout():
    return dropout_process("sequential")


def test_dropout_is_set_by_the_seed(with_dropout):
    process, data = with_dropout, {"a": zoo.points(8), "b": zoo.points(8)}

    def update(seed, client, round_num=0):
        state = process.initialize(seed)
        state = state._replace(round_num=np.asarray(round_num, np.int64))
        state, _ = process.next(state, {client: data[client]})
        return zoo.numpy(state.trainable)

    first = update(0, "a")
    zoo.assert_equal(update(0, "a"), first)
    # The clients' examples are the same; what is dropped isn't.
    for other in (update(0, "b"), update(1, "a"), update(0, "a", 1)):
        assert np.abs(other[0] - first[0]).max() > 1e-3


def test_dropout_is_the_same_on_all_executors(with_dropout):
    clients = [zoo.points(8), zoo.points(8, seed=1)]
    totals = [
        p.next(p.initialize(), clients)
        for p in (with_dropout, dropout_process("vectorized"))
    ]
    (one, one_metrics), (other, other_metrics) = totals
    zoo.assert_close(zoo.numpy(other.trainable), zoo.numpy(one.trainable))
    assert other_metrics == pytest.approx(one_metrics, rel=1e-5)


@pytest.mark.backend_free
def test_two_dropout_layers_drop_different_units(with_dropout):
    functional = with_dropout.functional_model
    state = with_dropout.initialize()
    seed = ops.convert_to_tensor(np.array([3, 4], "int32"))
    local = functional.start(state.trainable, state.non_trainable, seed).local
    first, second = zoo.numpy(local)
    assert first.tolist() != second.tolist()


@pytest.mark.backend_free
def test_the_seeds_of_layers_are_never_averaged_nor_sent(with_dropout):
    state = with_dropout.initialize()
    after, _ = with_dropout.next(state, [zoo.points(8)])
    zoo.assert_equal(after.non_trainable, state.non_trainable)
    assert len(with_dropout.update_spec) == 2


class RunningMaximum(keras.metrics.Metric):
    def __init__(self, name="highest", **kwargs):
        super().__init__(name=name, **kwargs)
        self.value = self.add_weight(name="value", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.value.assign(ops.maximum(self.value, ops.max(ops.abs(y_pred))))

    def result(self):
        return self.value


class NoRunner(keras.Sequential):
    def train_step(self, data):
        return {}


class NoTester(keras.Sequential):
    def test_step(self, data):
        return {}


@pytest.mark.backend_free
def test_a_model_that_is_not_compiled_is_refused():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    with pytest.raises(ValueError, match=r"isn't compiled.*model\.compile"):
        fl.FederatedAveraging(model)
    with pytest.raises(ValueError, match="isn't compiled"):
        fl.evaluate(model, [zoo.line(2)])


@pytest.mark.backend_free
def test_metrics_in_the_place_of_loss_weights_are_named():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse", ["accuracy"])
    with pytest.raises(ValueError, match="third argument of `compile`"):
        fl.FederatedAveraging(model)


@pytest.mark.backend_free
def test_a_model_without_weights_is_refused():
    model = keras.Sequential([layers.Dense(1)])
    model.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match=r"no weights yet.*keras\.Input"):
        fl.FederatedAveraging(model)


@pytest.mark.backend_free
def test_a_model_that_is_all_frozen_is_refused():
    model = zoo.regression()
    model.trainable = False
    with pytest.raises(ValueError, match="no trainable variables"):
        fl.FederatedAveraging(model)


@pytest.mark.backend_free
def test_something_else_than_a_model_is_refused():
    with pytest.raises(TypeError, match=r"keras\.Model.*builtins\.dict"):
        fl.FederatedAveraging({})


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("cls", "method"), [(NoRunner, "train_step"), (NoTester, "test_step")]
)
def test_an_overridden_step_is_refused(cls, method):
    model = cls([keras.Input((3,)), layers.Dense(1)])
    model.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match=f"overrides `{method}`.*compute_loss"):
        fl.FederatedAveraging(model)


@pytest.mark.parametrize("metric", [RunningMaximum, RunningMaximum()])
def test_a_metric_that_cannot_be_merged_is_refused_with_the_first_examples(
    metric,
):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(7)])
    model.compile("sgd", loss="mse", metrics=[metric])
    process = fl.FederatedAveraging(zoo.set_weights(model))
    x, _ = zoo.line(4)
    data = x, np.ones((4, 7), "float32")
    with pytest.raises(ValueError, match=r"'highest' can't be merged"):
        process.next(process.initialize(), [data])


def refuse(model, data, match, exception=ValueError):
    process = fl.FederatedAveraging(model, executor="sequential")
    with pytest.raises(exception, match=match):
        process.next(process.initialize(), data)


def test_inputs_of_the_wrong_shape_name_the_client_and_the_shapes():
    refuse(
        zoo.regression(),
        {"berlin": (np.ones((4, 5), "float32"), np.ones((4, 1), "float32"))},
        r"(?s)inputs of client 'berlin'.*\(4, 5\).*\(None, 3\)",
    )


def test_inputs_of_the_wrong_shape_of_a_subclassed_model():
    model, _ = subclassed()
    x = np.ones((4, 5), "float32")
    refuse(model, [(x, x)], r"can't be run on the examples of client '0'")


def test_one_hot_labels_with_a_sparse_loss():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, "softmax")])
    model.compile("sgd", loss="sparse_categorical_crossentropy")
    x, y = zoo.points(4)
    refuse(model, [(x, np.eye(3)[y])], "without `sparse_`")


def test_integer_labels_with_a_loss_for_one_hot_ones():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, "softmax")])
    model.compile("sgd", loss="categorical_crossentropy")
    refuse(model, [zoo.points(4)], "`sparse_categorical_crossentropy`")


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_out_of_range(label):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, "softmax")])
    model.compile("sgd", loss="sparse_categorical_crossentropy")
    x, y = zoo.points(4)
    y = y.copy()
    y[-1] = label
    refuse(model, [(x, y)], rf"{label}, but the model has 3|between {label}")
