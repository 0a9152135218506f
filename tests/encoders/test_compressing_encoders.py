"""What holds for every encoder that makes messages smaller."""

import keras
import ml_dtypes
import numpy as np
import pytest
from keras import ops

from fedlearn import backend
from fedlearn.encoders import (
    Cast,
    Drive,
    Eden,
    EntropyCoding,
    HadamardRotation,
    PowerSGD,
    RandomMask,
    SignSGD,
    StochasticQuantization,
    TernGrad,
    TopK,
    UniformQuantization,
)
from tests import zoo
from tests.encoders.compression import normal, spec_of, trip, tripper, words

ENCODERS = [
    Cast("bfloat16"),
    Drive(),
    Eden(bits=2.5, block_size=16),
    Eden(bits=0.5),
    EntropyCoding("deflate"),
    HadamardRotation(block_size=8),
    PowerSGD(rank=1),
    RandomMask(fraction=0.4),
    SignSGD(),
    StochasticQuantization(levels=7, bucket_size=10),
    StochasticQuantization(levels=1, bucket_size=None),
    TernGrad(clip_deviations=2.5),
    TopK(fraction=0.3),
    UniformQuantization(bits=3),
    UniformQuantization(bits=5, symmetric=True, stochastic=False),
    UniformQuantization(bits=8, clip_range=2.0),
]

pytestmark = pytest.mark.parametrize(
    "encoder",
    ENCODERS,
    ids=lambda e: (
        f"{type(e).__name__}-{'-'.join(map(str, e.get_config().values()))}"
    ),
)


def test_its_config_makes_an_equal_one(encoder):
    config = encoder.get_config()
    twin = type(encoder).from_config(config)
    assert type(twin) is type(encoder)
    assert twin.get_config() == config


def test_shapes_dtypes_and_zeros_are_kept(encoder):
    value = [
        np.zeros((5, 6), "float32"),
        np.zeros((), "float32"),
        np.zeros((1,), "float16"),
        np.zeros((0, 3), "float32"),
        np.zeros((2, 3, 4), ml_dtypes.bfloat16),
    ]
    for array, decoded in zip(value, trip(encoder, value), strict=True):
        assert decoded.shape == array.shape
        assert decoded.dtype == array.dtype
        largest = abs(decoded.astype("float32")).max(initial=0)
        if getattr(encoder, "clip_range", None) is None:
            assert largest == 0
        else:  # a grid that doesn't have 0
            assert largest <= 4 / 255


@pytest.mark.parametrize("value", [[], [np.zeros((0,), "float32")]])
def test_nothing_is_something_too(encoder, value):
    decoded = trip(encoder, value)
    assert [d.shape for d in decoded] == [v.shape for v in value]


def test_magnitudes_dont_matter(encoder):
    if getattr(encoder, "clip_range", None) is not None:
        pytest.skip("has a range of its own")
    value = [normal((6, 5)), normal(7, seed=1)]
    there_and_back = tripper(encoder, value)
    expected = there_and_back(value)
    for scale in np.float32([1e-30, 1e-3, 1e30]):
        decoded = there_and_back([scale * v for v in value])
        for e, d in zip(expected, decoded, strict=True):
            assert abs(d / scale - e).max() <= 1e-2 * abs(e).max()


def test_what_is_no_number_is_seen_after_it(encoder):
    array = normal(30)
    there_and_back = tripper(encoder, [array])
    for bad in (np.nan, np.inf, -np.inf):
        for place in (0, 17, 29):
            changed = array.copy()
            changed[place] = bad
            (decoded,) = there_and_back([changed])
            assert not np.isfinite(decoded).all()


def test_lanes_compiled_together_are_as_alone(encoder):
    value = normal((3, 6, 5))
    encoder = encoder.build(spec_of([value[0]]))
    params = encoder.params((), words(5), np.inf)
    seeds = np.stack([words(k) for k in range(3)])

    def one(v, seed):
        encoded, _ = encoder.encode([v], params, seed)
        return encoded, encoder.decode(encoded, params)

    many = backend.jit(lambda v, s: backend.vmap(one)(v, s))(value, seeds)
    for k in range(3):
        alone = one(ops.convert_to_tensor(value[k]), seeds[k])
        lane = keras.tree.map_structure(lambda a, k=k: a[k], many)
        for a, b in zip(*map(keras.tree.flatten, (lane, alone)), strict=True):
            a, b = zoo.numpy([a, b])
            assert a.dtype == b.dtype
            np.testing.assert_allclose(
                a.astype("float32"), b.astype("float32"), rtol=1e-5, atol=1e-6
            )


def test_messages_are_as_announced(encoder):
    value = [normal((6, 5)), normal(7), np.zeros((0, 2), "float32")]
    encoder = encoder.build(spec_of(value))
    params = encoder.params((), words(1), np.inf)
    encoded, stats = encoder.encode(
        [ops.convert_to_tensor(v) for v in value], params, words(2)
    )
    assert stats == ()
    announced = keras.tree.map_structure(
        lambda s: (tuple(s.shape), s.dtype), encoder.encoded_spec()
    )
    assert announced == keras.tree.map_structure(
        lambda a: (tuple(a.shape), keras.backend.standardize_dtype(a.dtype)),
        encoded,
    )


def test_a_bound_on_norms_is_kept(encoder):
    assert encoder.bound in ("keeps", "rotates")
    value = [normal((6, 5)), normal(7)]
    encoder = encoder.build(spec_of(value))
    params = encoder.params((), words(1), 2.0)
    bound = encoder.sensitivity(2.0, params)
    if encoder.decodes == "summand":  # the mean clips these again
        assert bound == 2.0
        return
    value = [v / np.sqrt(sum((a**2).sum() for a in value)) for v in value]
    encoded, _ = encoder.encode(value, params, words(2))
    for arrays in (encoded, encoder.decode(encoded, params)):
        norm = np.sqrt(sum((a**2).sum() for a in zoo.numpy(arrays)))
        assert norm <= bound / 2 * (1 + 1e-6)
