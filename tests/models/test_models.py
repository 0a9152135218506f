import keras
import numpy as np
import pytest

from fedlearn import models

NAMES = [name for name in models.__all__ if name != "get"]


@pytest.mark.parametrize(
    ("name", "count"),
    [
        # McMahan et al. 2017, section 3.
        ("mcmahan_cnn", 1_663_370),
        ("mcmahan_2nn", 199_210),
        ("logistic_regression", 7_850),
        ("digits_cnn", 13_706),
    ],
)
def test_number_of_parameters(name, count):
    assert models.get(name).count_params() == count


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_probabilities(name):
    model = models.get(name, input_shape=(8, 8, 3), num_classes=7, seed=0)
    images = np.random.default_rng(0).random((5, 8, 8, 3), np.float32)
    outputs = keras.ops.convert_to_numpy(model(images))
    assert outputs.shape == (5, 7)
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs.sum(axis=1), np.ones(5), rtol=1e-5)
    assert (outputs >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_seed_fixes_the_weights(name):
    def kernels(seed):
        model = models.get(name, input_shape=(8, 8, 1), seed=seed)
        return [w for w in model.get_weights() if w.ndim > 1]

    first = kernels(1)
    # Something drawn in between must not matter.
    keras.random.normal((3,))
    for a, b, c, d in zip(
        first, kernels(1), kernels(2), kernels(None), strict=True
    ):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
        assert not np.array_equal(a, d)


def test_layers_do_not_share_their_random_numbers():
    model = models.mcmahan_2nn(input_shape=(200,), seed=0)
    first, second = [w for w in model.get_weights() if w.shape == (200, 200)]
    correlation = np.corrcoef(first.ravel(), second.ravel())[0, 1]
    # 40,000 independent pairs: a standard deviation of 0.005.
    assert abs(correlation) < 0.025


@pytest.mark.parametrize("name", NAMES)
def test_keras_file_round_trip(name, tmp_path):
    model = models.get(name, input_shape=(8, 8, 1), seed=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match=r"'resnet'.*digits_cnn.*mcmahan_cnn"):
        models.get("resnet")


def test_digits_cnn_learns_the_digits():
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    x = (x / 16).reshape(-1, 8, 8, 1).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1500], order[1500:]
    model = models.digits_cnn(seed=0)
    model.compile(
        keras.optimizers.Adam(3e-3),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    keras.utils.set_random_seed(0)
    model.fit(x[train], y[train], batch_size=50, epochs=10, verbose=0)
    assert model.evaluate(x[test], y[test], verbose=0)[1] > 0.96
