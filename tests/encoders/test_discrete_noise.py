import math

import keras
import numpy as np
import pytest
from keras import ops

from fedlearn import LocalTraining, privacy, samplers
from fedlearn.aggregators import Mean
from fedlearn.encoders import (
    Clip,
    DistributedDiscreteGaussian,
    HadamardRotation,
    Skellam,
)
from fedlearn.encoders import discrete_distribution as discrete
from fedlearn.encoders.discrete_noise import rounded_norm
from fedlearn.encoders.distributed_discrete_gaussian import (
    distributed_discrete_gaussian_zcdp,
)
from fedlearn.encoders.skellam import skellam_zcdp
from tests.encoders.noise_rounds import (
    SPEC,
    assert_std,
    encode_all,
    flat,
    round_of,
    updates,
)

SIZE = 1001
KINDS = [Skellam, DistributedDiscreteGaussian]
both = pytest.mark.parametrize("kind", KINDS)


def summed(messages, bits):
    """What a secure sum gives: modulo 2**bits, without any message."""
    return [
        np.sum(m.astype(np.int64), axis=0).astype(np.int64) % 2**bits
        for m in messages
    ]


def decoded(encoder, total, spec=SPEC):
    """What the server makes of a sum."""
    return encoder.build(spec).decode([t.astype(np.int32) for t in total], ())


@both
@pytest.mark.parametrize("bits", [8, 12, 20])
def test_the_sum_is_the_sum_of_clipped_updates(kind, bits):
    encoder = kind(0.0, 2.0, clients_per_round=6, bits=bits)
    values = updates(6)
    messages, _ = encode_all(encoder, values)
    assert all(
        m.dtype == {8: "uint8", 12: "uint16", 20: "int32"}[bits]
        for m in messages
    )
    assert all(m.max() < 2**bits for m in messages if m.size)
    clipped, _ = encode_all(Clip(2.0), values)
    exact = flat([c.sum(axis=0) for c in clipped])
    total = decoded(encoder, summed(messages, bits))
    error = flat(total) - exact
    # Rounding up or down: at most a step for each client.
    step = encoder.plan(SIZE).granularity
    assert np.abs(error).max() <= 6 * step * (1 + 1e-3)
    assert np.abs(error).max() > 0


@both
@pytest.mark.statistical
def test_noise_has_its_deviation(kind):
    value = [v[:1].repeat(200, axis=0) for v in updates(1)]
    encoder = kind(1.5, 2.0, clients_per_round=200, bits=16)
    plan = encoder.plan(SIZE)
    messages, _ = encode_all(encoder, value)
    total = flat(decoded(encoder, summed(messages, 16)))
    clipped, _ = encode_all(Clip(2.0), value)
    noise = total - flat([c.sum(axis=0) for c in clipped])
    half = encoder.probabilities(plan.local_std)
    share = 2 * (np.arange(len(half)) ** 2 * half).sum()
    if kind is Skellam:
        assert share == pytest.approx(plan.local_std**2)
    # Rounding adds p (1 - p) of a step squared, a quarter at most.
    least = plan.granularity * math.sqrt(200 * share)
    most = plan.granularity * math.sqrt(200 * (share + 0.25))
    std = np.std(noise)
    assert least * (1 - 0.12) < std < most * (1 + 0.12)
    # The mean of SIZE numbers; six deviations.
    assert abs(noise.mean()) < 6 * std / math.sqrt(SIZE)
    central = 1.5 * plan.sensitivity * plan.granularity
    if kind is Skellam:
        assert least == pytest.approx(central, rel=1e-6)


@pytest.mark.statistical
def test_rounding_is_unbiased():
    # 400 clients round the same numbers, of some 1.3 steps.
    value = [v[:1].repeat(400, axis=0) for v in updates(1)]
    encoder = Skellam(0.0, 40.0, 400, bits=24, granularity=1.0)
    messages, _ = encode_all(encoder, value)
    total = flat(decoded(encoder, summed(messages, 24)))
    exact = flat([v.sum(axis=0) for v in encode_all(Clip(40.0), value)[0]])
    # A sum of 400 has a deviation of at most 400**0.5 / 2; six of them. To
    # the nearest, it would be off by up to 200.
    assert np.abs(total - exact).max() < 60
    assert np.abs(total - exact).max() > 10


@both
@pytest.mark.statistical
def test_noise_in_a_mean(kind):
    encoder = kind(3.0, 2.0, clients_per_round=4, bits=20)
    noisy, _, _ = round_of(
        Mean([Clip(2.0), encoder], "uniform", 4.0),
        updates(4),
        np.random.default_rng(0),
    )
    exact, _, _ = round_of(
        Mean([Clip(2.0)], "uniform", 4.0), updates(4), np.random.default_rng(0)
    )
    plan = encoder.plan(SIZE)
    std = 3 * plan.sensitivity * plan.granularity / 4
    assert plan.sensitivity * plan.granularity == pytest.approx(2, rel=0.01)
    assert_std(flat(noisy) - flat(exact), std)


@pytest.mark.parametrize("norm", [1e-9, 0.5, 3.0, 40.0])
@pytest.mark.parametrize("beta", [0.0, math.exp(-0.5), 0.999])
def test_no_rounded_vector_exceeds_the_sensitivity(norm, beta):
    encoder = Skellam(0.0, norm, 1, bits=24, granularity=1.0, beta=beta)
    # One half is the worst for rounding: p (1 - p) is largest.
    halves = np.full((40, SIZE), 0.5, np.float32)
    normal = np.random.default_rng(0).normal(size=(40, SIZE))
    spec = [keras.KerasTensor((SIZE,))]
    bound = float(encoder.build(spec).sensitivity(math.inf, ()))
    assert bound == pytest.approx(rounded_norm(norm, SIZE, beta))
    for value in (halves, normal.astype(np.float32)):
        (message,), _ = encode_all(encoder, [value])
        rows = [keras.KerasTensor((40, SIZE))]
        (integers,) = decoded(encoder, [message], rows)
        lengths = np.linalg.norm(np.asarray(integers).reshape(40, -1), axis=1)
        assert lengths.max() <= bound


@both
def test_the_same_seed_gives_the_same_message(kind):
    encoder = kind(1.0, 2.0, clients_per_round=3)
    a, b, c = (encode_all(encoder, updates(3), seed=s)[0][0] for s in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert (a != c).mean() > 0.9


@both
def test_zeros_are_zeros_plus_noise(kind):
    zeros = [0 * v for v in updates(3)]
    messages, _ = encode_all(kind(0.0, 2.0, 3), zeros)
    np.testing.assert_array_equal(flat(messages), 0)
    messages, _ = encode_all(kind(1.0, 2.0, 3), zeros)
    assert np.abs(flat(messages)).max() > 0


def renyi(p, shift, order):
    """Of a distribution to itself, moved."""
    moved = np.zeros_like(p)
    moved[shift:] = p[: len(p) - shift]
    where = (p > 1e-290) & (moved > 1e-290)
    logs = order * np.log(moved[where]) + (1 - order) * np.log(p[where])
    return np.log(np.exp(logs).sum()) / (order - 1)


def symmetric(half):
    return np.concatenate([half[:0:-1], half])


@pytest.mark.backend_free
@pytest.mark.parametrize("variance", [0.3, 1.0, 4.0, 30.0, 1000.0])
@pytest.mark.parametrize("shift", [1, 3])
@pytest.mark.parametrize("order", [2, 3, 5, 16])
def test_skellam_gives_away_no_more_than_the_bound(variance, shift, order):
    p = symmetric(discrete.skellam(variance))
    rho, xi = skellam_zcdp(shift, shift, variance)
    exact = renyi(p, shift, order)
    assert exact <= rho * order + xi
    if variance == 1000:  # and not much less: it is nearly Gaussian
        assert exact > 0.99 * (rho * order + xi)


@pytest.mark.backend_free
@pytest.mark.parametrize("local_std", [0.7, 1.0, 5.0])
@pytest.mark.parametrize("num_clients", [1, 2, 7])
@pytest.mark.parametrize("order", [1.5, 2, 5, 16])
def test_discrete_gaussians_give_away_no_more_than_the_bound(
    local_std, num_clients, order
):
    share = symmetric(discrete.discrete_gaussian(local_std))
    p = share
    for _ in range(num_clients - 1):
        p = np.convolve(p, share)
    rho, xi = distributed_discrete_gaussian_zcdp(
        1, 1, local_std, num_clients, 1
    )
    exact = renyi(p, 1, order)
    assert exact <= (rho * order + xi) * (1 + 1e-9)
    if local_std == 5:
        assert exact > 0.99 * (rho * order + xi)


@pytest.mark.backend_free
@both
def test_epsilon_is_that_of_gaussian_noise_with_enough_bits(kind):
    pytest.importorskip("dp_accounting")
    everyone = privacy.Participation("full", 50)

    def epsilon(mechanism):
        return privacy.Guarantee(mechanism, everyone, 1e-5).epsilon(10)

    encoder = kind(5.0, 1.0, clients_per_round=50, bits=20)
    gaussian = epsilon(privacy.Gaussian(5.0))
    fine = epsilon(encoder.build(SPEC).dp_event())
    assert gaussian <= fine < 1.01 * gaussian
    coarse = kind(5.0, 1.0, clients_per_round=50, bits=12)
    assert epsilon(coarse.build(SPEC).dp_event()) > fine * (1 - 1e-9)
    none = kind(0.0, 1.0, clients_per_round=50)
    assert epsilon(none.build(SPEC).dp_event()) == math.inf


@pytest.mark.backend_free
@both
def test_a_round_that_may_be_smaller_has_no_epsilon(kind):
    pytest.importorskip("dp_accounting")
    event = kind(5.0, 1.0, clients_per_round=10).build(SPEC).dp_event()
    ids = [str(k) for k in range(40)]
    for sampler in (samplers.Poisson(ids, 10), samplers.Uniform(ids, 9)):
        with pytest.raises(ValueError, match="share of the noise"):
            privacy.Guarantee(event, sampler).epsilon(1)
    # Without amplification: a client counts as often as it may come.
    spent = [
        privacy.Guarantee(event, sampler, 1e-3).statement(8)
        for sampler in (samplers.Uniform(ids, 10), samplers.RoundRobin(ids, 10))
    ]
    assert spent[0].epsilon > spent[1].epsilon > 0
    for statement in spent:
        assert statement.neighbouring == "zero-out"
        assert statement.accountant == "rdp"
        assert "noise, multiplier 5, in 10 shares" in statement.mechanism


@pytest.mark.backend_free
def test_sums_of_narrow_discrete_gaussians_are_unknown():
    with pytest.raises(ValueError, match=r"less than 0\.5"):
        distributed_discrete_gaussian_zcdp(1, 1, 0.49, 2, 1)
    assert distributed_discrete_gaussian_zcdp(1, 1, 0.49, 1, 1)[0] > 0


@both
def test_a_client_without_examples_adds_its_share(kind):
    mean = Mean(
        [kind(1.0, 1.0, 3, bits=20)], weighting="uniform", denominator=3
    ).build(SPEC)
    params = mean.params(mean.init(), None)
    nothing = [np.zeros(s.shape, "float32") for s in SPEC]
    seed = np.array([1, 2], np.int32)
    message, _ = mean.encode(nothing, params, seed, ())
    summand = mean.summand(message, keras.ops.zeros(()), params)
    assert np.std(flat(summand["value"])) > 0
    with pytest.raises(ValueError, match="drawn by clients"):
        privacy.Privacy(secure_noise=True).check(mean, LocalTraining())


@pytest.mark.backend_free
@both
def test_accounting_needs_to_know_how_many_numbers_there_are(kind):
    with pytest.raises(ValueError, match="Ask one that is built"):
        kind(1.0, 1.0, 10).dp_event()


@pytest.mark.backend_free
@both
def test_accounting_counts_what_a_rotation_adds(kind):
    few = [keras.KerasTensor((65,), "float32")]
    many = [keras.KerasTensor((128,), "float32")]
    noise = kind(0.4, 1.0, 10, granularity=1.0)
    rotated = Mean(
        [HadamardRotation(), noise], weighting="uniform", denominator=10
    )

    def event(of, spec):
        return vars(of.build(spec).dp_event())

    assert event(rotated, few) == event(noise, many)
    assert event(noise, many) != event(noise, few)


@pytest.mark.backend_free
def test_too_few_bits_are_an_error():
    with pytest.raises(ValueError, match="Take more bits"):
        Skellam(1.0, 1.0, clients_per_round=100, bits=4).build(SPEC)


@pytest.mark.backend_free
@pytest.mark.parametrize(
    "arguments",
    [
        {"noise_multiplier": -1.0},
        {"norm": 0.0},
        {"clients_per_round": 0},
        {"bits": 31},
        {"beta": 1.0},
        {"granularity": -1.0},
    ],
)
@both
def test_what_cannot_be_is_refused(kind, arguments):
    known = {"noise_multiplier": 1.0, "norm": 1.0, "clients_per_round": 10}
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` must"):
        kind(**{**known, **arguments})


@pytest.mark.backend_free
@both
def test_a_config_makes_an_equal_encoder(kind):
    config = kind(1.0, 2.0, 10, bits=12).get_config()
    assert kind.from_config(config).get_config() == config


@pytest.mark.parametrize("bits", [8, 16, 24, 30])
@pytest.mark.parametrize("size", [1, 33, 1000, 20_000])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e12, 1e30])
def test_no_integers_are_longer_than_the_sensitivity(bits, size, scale):
    """What is called exact, counted in whole numbers of Python.

    With 30 bits a number has more digits than float32.
    """
    encoder = Skellam(0.0, 1.0, clients_per_round=1, bits=bits)
    plan = encoder.plan(size)
    encoder = encoder.build([keras.KerasTensor((size,))])
    rng = np.random.default_rng(size)
    for k in range(3):
        value = (scale * rng.normal(size=size)).astype("float32")
        seed = np.array([k, size], np.int32)
        (sent,), _ = encoder.encode([ops.convert_to_tensor(value)], (), seed)
        integers = [int(v) for v in ops.convert_to_numpy(sent)]
        half = 2 ** (bits - 1)
        centred = [(v + half) % 2**bits - half for v in integers]
        assert math.sqrt(sum(v * v for v in centred)) <= plan.sensitivity
