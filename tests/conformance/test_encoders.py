"""Every encoder keeps the rules; every pair works, or says why it can't."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

from fedlearn import encoders, testing
from fedlearn.aggregators import Mean
from fedlearn.encoders import (
    AdaptiveClip,
    BandedMatrixNoise,
    Cast,
    Clip,
    DistributedDiscreteGaussian,
    Drive,
    Eden,
    EntropyCoding,
    ErrorFeedback,
    FixedPoint,
    GaussianNoise,
    HadamardRotation,
    LocalGaussianNoise,
    Noise,
    PowerSGD,
    RandomMask,
    SignSGD,
    Skellam,
    StochasticQuantization,
    TernGrad,
    TopK,
    TreeNoise,
    UniformQuantization,
    Wire,
)

pytestmark = pytest.mark.conformance

# An encoder, and whether what it sends depends on a seed.
TABLE = (
    (AdaptiveClip(0.7, initial_norm=2.0, learning_rate=0.5), False),
    (AdaptiveClip(clients_per_round=3), False),
    (BandedMatrixNoise(0.5, bands=3), False),
    (Cast("bfloat16"), False),
    (Clip(0.5), False),
    (Clip(0.5, kind="per_layer"), False),
    (Clip(0.5, kind="l1"), False),
    (Clip(0.5, kind="linf"), False),
    (DistributedDiscreteGaussian(0.5, norm=1.0, clients_per_round=3), True),
    (Drive(block_size=8), True),
    (Eden(bits=2.5, block_size=16), True),
    (EntropyCoding("deflate"), False),
    (ErrorFeedback([TopK(0.3)]), False),
    (ErrorFeedback([Clip(2.0), RandomMask(0.4)]), True),
    (FixedPoint(8, num_summands=3), True),
    (FixedPoint(9, num_summands=3, value_range=4, stochastic=False), False),
    (GaussianNoise(0.5), False),
    (HadamardRotation(block_size=8), True),
    (LocalGaussianNoise(0.5), True),
    (PowerSGD(rank=1), True),
    (RandomMask(fraction=0.4), True),
    (SignSGD(), False),
    (Skellam(0.5, norm=1.0, clients_per_round=3), True),
    (StochasticQuantization(levels=7, bucket_size=10), True),
    (TernGrad(clip_deviations=2.5), True),
    (TopK(fraction=0.3), False),
    (TreeNoise(0.5, restart_every=3, honaker=False), False),
    (UniformQuantization(bits=4), True),
    (UniformQuantization(bits=3, symmetric=True, stochastic=False), False),
)
ALL = [encoder for encoder, _ in TABLE]

# These train in a process on every run of the tests, all others in the slow
# ones, once: stateful, noisy and of variable length.
TRAINED = (AdaptiveClip, EntropyCoding, TreeNoise)


def label(value):
    if isinstance(value, encoders.Encoder):
        arguments = [str(v) for v in value.get_config().values()]
        if isinstance(value, ErrorFeedback):
            arguments = [type(e).__name__ for e in value.encoders]
        return "-".join([type(value).__name__, *arguments])
    return str(value)


@pytest.mark.parametrize(("encoder", "random"), TABLE, ids=label)
def test_it_keeps_the_rules(encoder, random):
    testing.check_encoder(encoder, random=random, skip=["training"])


ALL_BUT_TRAINING = [
    name for name in testing.ENCODER_RULES if name != "training"
]


@pytest.mark.parametrize(
    "encoder",
    [
        pytest.param(
            encoder,
            marks=[]
            if isinstance(encoder, TRAINED)
            else [pytest.mark.slow, pytest.mark.backend_free],
        )
        for encoder in ALL
    ],
    ids=label,
)
def test_it_trains(encoder):
    testing.check_encoder(encoder, skip=ALL_BUT_TRAINING)


def test_every_encoder_is_in_the_table():
    exported = {
        e
        for e in vars(encoders).values()
        if inspect.isclass(e) and issubclass(e, encoders.Encoder)
    }
    assert exported - {encoders.Encoder} == {type(e) for e in ALL}


# One of each, and all ordered pairs of them.
KINDS = tuple({type(encoder): encoder for encoder in ALL}.values())
SPEC = [keras.KerasTensor((4, 3), "float32"), keras.KerasTensor((5,))]


def varies(link):
    """Whether its messages differ in length."""
    return isinstance(link, Wire) and link.varies


def refusal(first, second):
    """Why a pair can't work, as its attributes tell; None if it can."""
    if varies(first):
        return "Put it last"
    if first.decodes == "summand" and second.decodes == "sum":
        return "can't work in this order"
    noisy = [isinstance(link, Noise) for link in (first, second)]
    if all(noisy):
        return "noise at the server twice"
    if noisy[0] and first.bound != "sets":
        return "without a bound"
    if noisy[1] and "sets" not in (first.bound, second.bound):
        return "without a bound"
    if noisy[0] and second.decodes == "summand":
        return "would change"
    if noisy[0] and second.bound == "loses":
        return "doesn't keep"
    return None


def takes(second, spec):
    """Whether a link can take what another makes of `SPEC`."""
    is_value = isinstance(spec, list) and all(
        isinstance(s, keras.KerasTensor)
        and keras.backend.is_float_dtype(s.dtype)
        for s in spec
    )
    return is_value or varies(second)


def mean_of(*links):
    return Mean(links, weighting="uniform", denominator=1.0)


@pytest.mark.backend_free
@pytest.mark.parametrize("first", KINDS, ids=label)
def test_a_pair_is_refused_with_the_reason(first):
    for second in KINDS:
        reason = refusal(first, second)
        if reason is None:
            mean_of(first, second)
        else:
            with pytest.raises(ValueError, match=reason):
                mean_of(first, second)


# On JAX each encoder is tried by itself: pairs would be compilation there.
@pytest.mark.backend_free
@pytest.mark.slow
@pytest.mark.parametrize("first", KINDS, ids=label)
def test_a_pair_that_is_not_refused_runs_a_round(first):
    value = [np.full(s.shape, 0.5, "float32") for s in SPEC]
    value[0][1] = -1.0
    for second in KINDS:
        if refusal(first, second) or not takes(
            second, first.build(SPEC).encoded_spec()
        ):
            continue
        mean = mean_of(first, second).build(SPEC)
        seed, state = np.array([3, 4], np.int32), mean.init()
        params = mean.params(state, seed)
        message, _ = mean.encode(
            [ops.convert_to_tensor(v) for v in value],
            params,
            ops.convert_to_tensor(seed),
            mean.init_memory(),
        )
        total = mean.summand(message, ops.ones(()), params)
        noise = mean.draw(state, np.random.default_rng(0))
        found, _, _ = mean.finish(state, total, params, noise)
        for array, s in zip(found, SPEC, strict=True):
            assert tuple(array.shape) == tuple(s.shape), second
            assert np.isfinite(ops.convert_to_numpy(array)).all(), second


@pytest.mark.parametrize(
    "first",
    [e for e in KINDS if not takes(Clip(1.0), e.build(SPEC).encoded_spec())],
    ids=label,
)
def test_a_link_after_the_wire_format_is_refused(first):
    for second in KINDS:
        if not refusal(first, second) and not varies(second):
            with pytest.raises(ValueError, match=type(first).__name__):
                mean_of(first, second).build(SPEC)
