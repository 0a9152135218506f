"""Norms, and clips by them, at any magnitude and in any dtype."""

import keras
import numpy as np
import pytest
from keras import ops

from fedlearn.encoders import AdaptiveClip, Clip, Skellam, norms
from tests.zoo import floats

SIZES = {
    "float32": [1e-44, 1e-38, 1e-30, 1e-6, 1.0, 1e15, 1e30, 1e38],
    "float64": [1e-310, 1e-300, 1e-38, 1.0, 1e38, 1e59, 1e154, 1e307],
}
CASES = [(d, size) for d, sizes in SIZES.items() for size in sizes]
# What isn't normal in a dtype a backend may take for zero.
TINY = {d: float(np.finfo(d).tiny) for d in SIZES}
LARGEST = {d: float(np.finfo(d).max) for d in SIZES}

cases = pytest.mark.parametrize(("dtype", "size"), CASES)


def arrays(dtype, size):
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], 10)
    value = (signs * rng.uniform(0.5, 1.0, 10)).astype(dtype) * size
    return [value[:6].reshape(2, 3), value[6:], np.zeros((0, 2), dtype)]


def in_longdouble(value):
    return np.concatenate([np.ravel(v) for v in value]).astype(np.longdouble)


@cases
def test_norms_equal_those_of_more_digits(dtype, size):
    value = arrays(dtype, size)
    exact = in_longdouble(value)
    with floats(dtype):
        tensors = [ops.convert_to_tensor(v) for v in value]
        for found, expected in [
            (norms.l2(tensors), np.sqrt(np.sum(exact**2))),
            (norms.l1(tensors), np.sum(np.abs(exact))),
            (norms.linf(tensors), np.max(np.abs(exact))),
        ]:
            found = ops.convert_to_numpy(found)
            assert found.dtype == dtype
            np.testing.assert_allclose(
                float(found),
                float(expected) if expected < LARGEST[dtype] else np.inf,
                rtol=1e-5,
                atol=10 * TINY[dtype],
            )


@cases
def test_norms_of_rows_are_those_of_each(dtype, size):
    with floats(dtype):
        rows = [
            np.stack([a, b, np.zeros_like(a)])
            for a, b in zip(
                arrays(dtype, size), arrays(dtype, 1.0), strict=True
            )
        ]
        found = ops.convert_to_numpy(
            norms.l2_of_rows([ops.convert_to_tensor(r) for r in rows])
        )
    for k in range(3):
        exact = in_longdouble([r[k] for r in rows])
        np.testing.assert_allclose(
            float(found[k]),
            float(np.sqrt(np.sum(exact**2))),
            rtol=1e-5,
            atol=10 * TINY[dtype],
        )


@cases
@pytest.mark.parametrize("kind", ["global", "per_layer", "l1", "linf"])
@pytest.mark.parametrize("bound", [1e-37, 1e-3, 1.0, 1e30])
def test_what_is_finite_is_clipped(dtype, size, kind, bound):
    value = arrays(dtype, size)
    with floats(dtype):
        spec = [keras.KerasTensor(v.shape, dtype) for v in value]
        clip = Clip(bound, kind).build(spec)
        clipped, _ = clip.encode(
            [ops.convert_to_tensor(v) for v in value], (), None
        )
        clipped = [ops.convert_to_numpy(v) for v in clipped]
        sensitivity = float(clip.sensitivity(np.inf, ()))
    assert {v.dtype for v in clipped} == {np.dtype(dtype)}
    length = np.sqrt(np.sum(in_longdouble(clipped) ** 2))
    assert length <= sensitivity * (1 + 1e-5)
    if kind == "global":
        exact = in_longdouble(value)
        scale = min(1, bound / np.sqrt(np.sum(exact**2)))
        np.testing.assert_allclose(
            in_longdouble(clipped).astype(float),
            (exact * scale).astype(float),
            rtol=1e-5,
            atol=10 * TINY["float32"],
        )


def test_a_mixed_update_has_one_norm():
    value = [np.full(4, 3e30, "float32"), np.full(9, 4e59, "float64")]
    with floats("float64"):
        tensors = [ops.convert_to_tensor(v) for v in value]
        clipped, _ = Clip(2.0).encode(tensors, (), None)
        clipped = [ops.convert_to_numpy(v) for v in clipped]
    assert [v.dtype.name for v in clipped] == ["float32", "float64"]
    np.testing.assert_allclose(clipped[1], 2 / 3)
    np.testing.assert_allclose(clipped[0], 0.0, atol=1e-28)


def test_the_bit_of_an_adaptive_clip_is_right_in_float64():
    with floats("float64"):
        clip = AdaptiveClip(initial_norm=1.0)
        for size, above in [(1e-300, 0.0), (0.3, 0.0), (1.0, 1.0), (1e59, 1.0)]:
            tensors = [
                ops.convert_to_tensor(v) for v in arrays("float64", size)
            ]
            params = clip.init()
            value, stats = clip.encode(tensors, params, None)
            assert float(ops.convert_to_numpy(stats["bits"])) == 0.5 - above
            length = np.sqrt(
                np.sum(
                    in_longdouble(ops.convert_to_numpy(v) for v in value) ** 2
                )
            )
            assert length <= 1 + 1e-6


@pytest.mark.parametrize("bound", [1e-40, 0.0, -1.0, np.nan, np.inf, 1e39])
@pytest.mark.parametrize(
    "make",
    [
        Clip,
        lambda b: AdaptiveClip(initial_norm=b),
        lambda b: Skellam(1.0, norm=b, clients_per_round=2),
    ],
)
def test_a_bound_that_float32_does_not_hold_is_refused(make, bound):
    with pytest.raises(ValueError, match="must be a number from"):
        make(bound)
