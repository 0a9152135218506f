import math

import keras
import numpy as np
import pytest
from keras import ops

from fedlearn import backend
from fedlearn.aggregators import Mean
from fedlearn.encoders import Clip, norms
from tests.encoders.noise_rounds import (
    SPEC,
    encode_all,
    flat,
    round_of,
    updates,
)


def lanes(value):
    return [flat([v[i] for v in value]) for i in range(len(value[0]))]


NORMS = {
    "global": lambda lane: np.linalg.norm(lane),
    "l1": lambda lane: np.abs(lane).sum(),
    "linf": lambda lane: np.abs(lane).max(),
}


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("norm", [0.1, 1.0, 1e6])
def test_no_update_is_longer_than_the_norm(kind, norm):
    clip = Clip(norm, kind).build(SPEC)
    values = updates(4)
    for v in values:
        v[0] = 0
    clipped, stats = encode_all(clip, values)
    for old, new, above in zip(
        lanes(values), lanes(clipped), stats["clipped"], strict=True
    ):
        before = NORMS[kind](old)
        assert above == (before > norm)
        np.testing.assert_allclose(
            NORMS[kind](new), min(before, norm), rtol=1e-5
        )
        if not above:
            np.testing.assert_array_equal(new, old)
        if kind == "linf":
            np.testing.assert_allclose(new, np.clip(old, -norm, norm))
        bound = clip.sensitivity(math.inf, ())
        assert np.linalg.norm(new) <= float(bound) * (1 + 1e-5)


def test_layers_are_clipped_by_themselves():
    spec = [keras.KerasTensor((3,)), keras.KerasTensor((2, 2))]
    clip = Clip(2.0, "per_layer")
    values = updates(3, spec)
    values[0] *= 100  # above
    values[1] *= 1e-3  # below
    clipped, stats = encode_all(clip, values)
    np.testing.assert_array_equal(clipped[1], values[1])
    np.testing.assert_allclose(
        np.linalg.norm(clipped[0], axis=1), 2 / math.sqrt(2), rtol=1e-5
    )
    assert stats["clipped"].tolist() == [1, 1, 1]
    values[1] *= 1e6
    both, _ = encode_all(clip, values)
    for lane in lanes(both):
        np.testing.assert_allclose(np.linalg.norm(lane), 2, rtol=1e-5)


@pytest.mark.parametrize("kind", ["global", "per_layer", "l1", "linf"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_can_still_be_told(kind, bad):
    values = updates(3)
    values[0][1, 2, 3] = bad
    clipped, _ = encode_all(Clip(1.0, kind), values)
    finite = [bool(np.isfinite(lane).all()) for lane in lanes(clipped)]
    assert finite == [True, False, True]
    if kind == "linf":
        np.testing.assert_array_equal(lanes(clipped)[1], lanes(values)[1])


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_magnitudes_at_the_ends_of_float32(scale):
    values = updates(2, scale=scale)
    clipped, _ = encode_all(Clip(1.0), values)
    for old, new in zip(lanes(values), lanes(clipped), strict=True):
        length = np.linalg.norm(old)
        np.testing.assert_allclose(new, old * min(1, 1 / length), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_dtypes_stay_and_norms_are_taken_in_float32(dtype):
    value = [ops.full((4096,), 100.0, dtype)]  # squares overflow float16
    (clipped,), _ = Clip(1.0).encode(value, (), None)
    assert keras.backend.standardize_dtype(clipped.dtype) == dtype
    norm = float(norms.l2([clipped]))
    assert abs(norm - 1) < 0.01


def test_the_share_of_clipped_clients_is_reported():
    mean = Mean([Clip(1.0)], "uniform")
    values = updates(4)
    for v in values:
        v[:3] *= 1e-6
    _, _, metrics = round_of(mean, values, np.random.default_rng(0))
    assert metrics["clipped_share"] == 0.25


def test_bounds_only_get_smaller():
    assert Clip(3.0).sensitivity(math.inf, ()) == 3
    assert Clip(3.0).sensitivity(2.0, ()) == 2
    assert Clip(3.0, "l1").sensitivity(math.inf, ()) == 3
    assert float(Clip(3.0).sensitivity(ops.convert_to_tensor(2.0), ())) == 2
    clip = Clip(3.0, "linf").build([keras.KerasTensor((4, 4))])
    assert clip.sensitivity(math.inf, ()) == 12


@pytest.mark.parametrize("norm", [0, -1, math.inf, math.nan])
def test_a_norm_that_is_none_is_refused(norm):
    with pytest.raises(ValueError, match="`norm` must be a number from"):
        Clip(norm)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="'per_layer'"):
        Clip(1.0, "l3")


def test_a_config_makes_an_equal_clip():
    config = Clip(2.0, "l1").get_config()
    assert Clip.from_config(config).get_config() == config


def test_norms_of_clients_side_by_side():
    rows = np.array(
        [[3, -4], [3e30, -4e30], [0, 0], [3e-25, 4e-25], [np.nan, 1]],
        "float32",
    )
    together = backend.jit(
        lambda r: backend.vmap(lambda v: norms.l2([v[:1], v[1:]]))(r)
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(together(rows)),
        [5, 5e30, 0, 5e-25, np.nan],
        rtol=1e-6,
    )
