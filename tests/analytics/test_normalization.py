"""Layers that were adapted federatedly, against Keras's own `adapt`."""

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn.analytics import QueryPrivacy


def parts(*shape):
    rng = np.random.default_rng(0)
    scale = 1 + np.arange(shape[-1]) if shape else 2.0
    return [
        (5 + scale * rng.normal(size=(n, *shape))).astype("float32")
        for n in (4, 0, 7)
    ]


@pytest.mark.parametrize("shape", [(3,), (4, 5, 2), ()])
def test_equals_adapt_on_pooled_data(shape):
    x = parts(*shape)
    data = {str(i): (v, np.zeros(len(v))) for i, v in enumerate(x)}
    layer = fl.analytics.normalization(data)
    pool = np.concatenate(x)
    expected = keras.layers.Normalization(axis=-1 if shape else None)
    expected.adapt(pool)
    for found, wanted in (
        (layer(pool), expected(pool)),
        (layer.mean, expected.mean),
        (layer.variance, expected.variance),
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    axes = tuple(range(pool.ndim - 1)) if shape else None
    wide = pool.astype("float64")
    np.testing.assert_allclose(layer.analytics.mean, wide.mean(axis=axes))
    np.testing.assert_allclose(layer.analytics.variance, wide.var(axis=axes))


def test_one_layer_for_each_input_in_a_model_that_is_saved(tmp_path):
    x = parts(3)
    data = {
        str(i): ({"a": v, "b": v[:, :1] ** 2}, np.zeros(len(v)))
        for i, v in enumerate(x)
    }
    layers = fl.analytics.normalization(data)
    assert list(layers) == ["a", "b"]
    inputs = {
        "a": keras.Input((3,), name="a"),
        "b": keras.Input((1,), name="b"),
    }
    joined = [layers[name](inputs[name]) for name in layers]
    model = keras.Model(inputs, keras.layers.Concatenate()(joined))
    model.save(tmp_path / "model.keras")
    pool = {
        "a": np.concatenate(x), "b": np.concatenate(x)[:, :1] ** 2,
    }  # fmt: skip
    output = keras.models.load_model(tmp_path / "model.keras").predict(
        pool, verbose=0
    )
    np.testing.assert_allclose(output.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(output.std(axis=0), 1, atol=1e-5)


@pytest.mark.backend_free
def test_with_noise_one_epsilon_is_for_all_inputs():
    rng = np.random.default_rng(0)
    data = {
        str(i): ({"a": rng.normal(3, 1, (1, 2)), "b": np.ones((1, 1))}, [0])
        for i in range(2000)
    }
    budget = fl.privacy.Ledger(2.0, 1e-6)
    layers = fl.analytics.normalization(
        data,
        bounds={"a": (-2, 8), "b": (0, 4)},
        privacy=QueryPrivacy(2.0, 1e-6, max_per_client=1, seed=0),
        budget=budget,
    )
    assert len(budget.entries) == 1
    found = layers["a"].analytics
    assert (np.abs(found.mean - 3) < 5 * found.mean_error + 0.1).all()
    # Of a constant, no variance below what noise may be.
    found = layers["b"].analytics
    assert found.variance >= found.error > 0


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("bounds", "error"),
    [
        ({"a": (0, 1)}, "a dict of them: a, b. Received: those of a"),
        ({"a": (0, 1), "b": 1}, "must be .low, high."),
        (3, "must be .low, high."),
        ((1, 0), "the smaller one first"),
    ],
)
def test_bounds_that_dont_fit(bounds, error):
    data = {"a": ({"a": np.ones((2, 1)), "b": np.ones((2, 3))}, np.zeros(2))}
    with pytest.raises(ValueError, match=error):
        fl.analytics.normalization(data, bounds=bounds)


@pytest.mark.backend_free
def test_texts_are_refused():
    data = {"a": ({"t": np.array([["x"]], object)}, [0])}
    with pytest.raises(ValueError, match="numbers were expected"):
        fl.analytics.normalization(data)
