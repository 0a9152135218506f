import keras
import numpy as np
import pytest

from fedlearn.metrics import MaskedAccuracy, mergeable

LABELS = np.array([[1, 2, 3, 0], [3, 3, 0, 0]])
GUESSES = np.array([[1, 1, 3, 0], [2, 3, 0, 1]])


def predictions(classes=GUESSES):
    noise = np.random.default_rng(0).uniform(0, 0.4, (*classes.shape, 4))
    return (np.eye(4)[classes] + noise).astype("float32")


def result(*batches, **kwargs):
    metric = MaskedAccuracy(**kwargs)
    for batch in batches:
        metric.update_state(*batch)
    return float(metric.result())


@pytest.mark.parametrize(
    ("ignore", "accuracy"),
    [((0,), 3 / 5), ((0, 3), 1 / 2), ((), 5 / 8), ((0, 1, 2, 3), 0.0)],
)
def test_by_hand(ignore, accuracy):
    found = result((LABELS, predictions()), ignore=ignore)
    assert found == pytest.approx(accuracy)
    column = result((LABELS[..., None], predictions()), ignore=ignore)
    assert column == found


def test_one_label_an_example():
    labels, guesses = np.array([0, 1, 2]), np.array([0, 1, 1])
    assert result((labels, predictions(guesses))) == 0.5


def test_sample_weights():
    weights = np.array([1.0, 3.0])
    batch = LABELS, predictions(), weights
    assert result(batch) == pytest.approx((2 * 1 + 1 * 3) / (3 * 1 + 2 * 3))
    each = np.array([[1, 2, 3, 9], [4, 5, 9, 9]])
    batch = LABELS, predictions(), each
    assert result(batch) == pytest.approx((1 + 3 + 5) / (1 + 2 + 3 + 4 + 5))


def test_every_position_counts_once_whatever_the_length():
    one = LABELS, predictions()
    other = LABELS[:1, :2], predictions(GUESSES[:1, :2])
    assert result(one, other) == pytest.approx((3 + 1) / (5 + 2))


def test_inputs_have_no_say():
    # A mask that Keras computed from inputs comes with the predictions.
    x = keras.ops.convert_to_tensor(np.array([[1, 1, 0]]))
    embedding = keras.layers.Embedding(2, 4, mask_zero=True)
    y_pred = embedding(x)
    guesses = keras.ops.convert_to_numpy(y_pred).argmax(-1)
    assert result((guesses, y_pred), ignore=()) == 1
    metric = MaskedAccuracy(ignore=())
    metric.update_state(guesses, y_pred)
    assert float(metric.count) == 3


def test_it_can_be_merged_over_clients():
    assert mergeable.is_sum(MaskedAccuracy())


@pytest.mark.backend_free
def test_configuration():
    metric = MaskedAccuracy(ignore=(0, np.int64(7)), name="words")
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert isinstance(again, MaskedAccuracy)
    assert again.ignore == (0, 7)
    assert again.name == "words"
    assert MaskedAccuracy().name == "accuracy"


@pytest.mark.backend_free
def test_early_stopping_knows_that_more_is_better():
    stop = keras.callbacks.EarlyStopping(monitor="accuracy")
    identity = keras.layers.Dense(
        4, activation="softmax", kernel_initializer="identity"
    )
    model = keras.Sequential([keras.Input((4,)), identity])
    model.compile(
        loss="sparse_categorical_crossentropy", metrics=[MaskedAccuracy()]
    )
    x, y = np.eye(4, dtype="float32"), np.array([0, 1, 1, 1])
    model.fit(x, y, verbose=0, callbacks=[stop])
    # Keras raises ValueError where it can't tell a metric's direction.
    assert stop.best == pytest.approx(1 / 3)


@pytest.mark.backend_free
@pytest.mark.parametrize("ignore", [0, (0.5,), "0", None])
def test_what_to_ignore_is_checked(ignore):
    with pytest.raises(ValueError, match="sequence of integer labels"):
        MaskedAccuracy(ignore=ignore)


@pytest.mark.parametrize("shape", [(2, 4, 4), (2, 3), (2,), (3, 4)])
def test_shapes_are_checked(shape):
    with pytest.raises(ValueError, match=r"one more axis.*y_true of shape"):
        result((np.zeros(shape, "int32"), predictions()))
