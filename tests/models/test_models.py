import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn import models

# Arguments that make each model small, and the shapes of its inputs and
# outputs then. ResNet-18 has no small variant, and a test of its own.
SMALL = {
    name: ({"input_shape": (8, 8, 3), "num_classes": 7}, (8, 8, 3), (7,))
    for name in (
        "celeba_cnn",
        "digits_cnn",
        "emnist_cnn",
        "logistic_regression",
        "mcmahan_2nn",
        "mcmahan_cnn",
    )
} | {
    "emnist_autoencoder": ({"input_shape": (3, 2)}, (3, 2), (3, 2)),
    "heart_logistic": ({}, (13,), (1,)),
    "tabular": ({"input_shape": (4,), "num_classes": 3}, (4,), (3,)),
    "shakespeare_lstm": ({"vocab_size": 7, "units": 3}, (5,), (5, 7)),
    "stackoverflow_lstm": (
        {"vocab_size": 7, "embedding_size": 2, "units": 3},
        (5,),
        (5, 7),
    ),
    "stackoverflow_tags": ({"input_shape": (9,), "num_tags": 4}, (9,), (4,)),
}
NOT_SOFTMAX = ("emnist_autoencoder", "heart_logistic", "stackoverflow_tags")


def small(name, seed=0):
    return models.get(name, seed=seed, **SMALL[name][0])


def test_every_model_is_tested():
    assert {*SMALL, "resnet18_gn", "get"} == set(models.__all__)


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("name", "kwargs", "count"),
    [
        # McMahan et al. 2017, section 3.
        ("mcmahan_cnn", {}, 1_663_370),
        ("mcmahan_2nn", {}, 199_210),
        # Reddi et al. 2021, and the code of its experiments.
        ("emnist_cnn", {}, 1_206_590),
        ("emnist_cnn", {"num_classes": 10}, 1_199_882),
        ("emnist_autoencoder", {}, 2_837_314),
        ("shakespeare_lstm", {}, 820_522),
        ("stackoverflow_lstm", {}, 4_050_748),
        ("stackoverflow_tags", {}, 5_000_500),
        # LEAF's code.
        (
            "mcmahan_cnn",
            {"num_classes": 62, "hidden_units": 2048},
            6_603_710,
        ),
        (
            "shakespeare_lstm",
            {"vocab_size": 80, "return_sequences": False},
            817_872,
        ),
        ("celeba_cnn", {}, 31_202 + 256),
        # FLamby's code.
        ("heart_logistic", {}, 14),
        ("logistic_regression", {}, 7_850),
        ("digits_cnn", {}, 13_706),
    ],
)
def test_number_of_parameters(name, kwargs, count):
    assert models.get(name, **kwargs).count_params() == count


# On JAX nearly all of its time is compilation.
@pytest.mark.backend_free
@pytest.mark.parametrize("name", SMALL)
def test_outputs_are_probabilities(name):
    _, input_shape, output_shape = SMALL[name]
    x = np.random.default_rng(0).uniform(0, 7, (5, *input_shape))
    model = small(name)
    outputs = keras.ops.convert_to_numpy(model(x.astype(model.inputs[0].dtype)))
    assert outputs.shape == (5, *output_shape)
    assert outputs.dtype == np.float32
    assert (outputs >= 0).all()
    assert (outputs <= 1).all()
    if name not in NOT_SOFTMAX:
        np.testing.assert_allclose(outputs.sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.backend_free
def test_resnet18_gn():
    model = models.resnet18_gn(seed=0)
    # 11,689,512 are those of ResNet-18 on ImageNet (He et al. 2016), whose
    # classifier has 1000 classes.
    classifier = 512 * 1000 + 1000, 512 * 100 + 100
    assert model.count_params() == 11_689_512 - classifier[0] + classifier[1]
    images = np.random.default_rng(0).random((2, 24, 24, 3), np.float32)
    outputs = keras.ops.convert_to_numpy(model(images))
    assert outputs.shape == (2, 100)
    np.testing.assert_allclose(outputs.sum(axis=1), np.ones(2), rtol=1e-5)
    # Only the first convolution and the pooling halve the image.
    adds = [v for v in model.layers if isinstance(v, keras.layers.Add)]
    assert [v.output.shape for v in adds] == [
        (None, 6, 6, filters)
        for filters in (64, 64, 128, 128, 256, 256, 512, 512)
    ]
    norms = [
        v
        for v in model.layers
        if isinstance(v, keras.layers.GroupNormalization)
    ]
    assert [v.groups for v in norms] == [2] * 20
    assert not model.losses
    # No two kernels of one shape start from the same numbers.
    first = [
        w.ravel()[0] for w in model.get_weights() if w.shape == (3, 3, 64, 64)
    ]
    assert len(set(first)) == 4


@pytest.mark.backend_free
def test_moving_statistics_of_celeba_cnn_keep_up_with_short_rounds():
    # A client of 20 photographs: from round to round the statistics go on
    # where the server's average left them.
    model = models.celeba_cnn((8, 8, 3), seed=0)
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).normal(5, 3, (20, 8, 8, 3)).astype("float32")
    clients = {"a": (x, np.zeros(20, int)), "b": (x, np.ones(20, int))}
    process = fl.FederatedAveraging(model, fl.LocalTraining(batch_size=20))
    state = process.initialize()
    for _ in range(20):
        state, _ = process.next(
            state, fl.FederatedDataset.from_clients(clients)
        )
    layer = process.get_model(state).layers[1]
    kernel = model.layers[0](x)
    expected = keras.ops.convert_to_numpy(kernel).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(layer.moving_mean),
        (1 - 0.9**20) * expected,
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.backend_free
def test_weight_decay_of_resnet18_gn():
    model = models.resnet18_gn(num_classes=2, seed=0, weight_decay=0.1)
    kernels = [w for w in model.get_weights() if w.ndim > 1]
    expected = 0.1 * sum(np.sum(w.astype(np.float64) ** 2) for w in kernels)
    np.testing.assert_allclose(float(sum(model.losses)), expected, rtol=1e-5)


@pytest.mark.backend_free
@pytest.mark.parametrize("name", SMALL)
def test_seed_fixes_the_weights(name):
    def kernels(seed):
        return [w for w in small(name, seed).get_weights() if w.ndim > 1]

    first = kernels(1)
    # Something drawn in between must not matter.
    keras.random.normal((3,))
    for a, b, c, d in zip(
        first, kernels(1), kernels(2), kernels(None), strict=True
    ):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
        assert not np.array_equal(a, d)


@pytest.mark.backend_free
def test_layers_do_not_share_their_random_numbers():
    model = models.mcmahan_2nn(input_shape=(200,), seed=0)
    first, second = [w for w in model.get_weights() if w.shape == (200, 200)]
    correlation = np.corrcoef(first.ravel(), second.ravel())[0, 1]
    # 40,000 independent pairs: a standard deviation of 0.005.
    assert abs(correlation) < 0.025


# On JAX nearly all of its time is compilation.
@pytest.mark.backend_free
@pytest.mark.parametrize("name", SMALL)
def test_keras_file_round_trip(name, tmp_path):
    model = small(name)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match=r"digits_cnn.*mcmahan_cnn.*'resnet'"):
        models.get("resnet")


@pytest.mark.backend_free
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


def test_a_table_is_scaled_inside_the_model():
    rows = np.array([[50.0, 3.0], [54.0, 3.5]], "float32")
    model = models.tabular(
        (2,), None, mean=[50, 3], variance=[4, 0.25], label_mean=7.0,
        label_scale=2.0, seed=0,
    )  # fmt: skip
    bare = models.tabular((2,), None, seed=0)
    scaled = (rows - [50, 3]) / [2, 0.5]
    np.testing.assert_allclose(
        model.predict(rows, verbose=0),
        7.0 + 2.0 * bare.predict(scaled, verbose=0),
        rtol=1e-5,
    )
    # Nothing of the scaling is sent or trained.
    assert model.count_params() == bare.count_params() == 2 * 32 + 32 + 32 + 1
