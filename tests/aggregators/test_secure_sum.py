import keras
import numpy as np
import pytest
from keras import ops

import fedlearn as fl
from fedlearn.aggregators import Mean, SecureSum
from fedlearn.encoders import (
    AdaptiveClip,
    Clip,
    FixedPoint,
    GaussianNoise,
    HadamardRotation,
    TopK,
    UniformQuantization,
)
from tests import zoo
from tests.algorithms import quadratics as q

COHORT = zoo.clients((8, 8, 4), make=zoo.line)


def process_with(aggregator, executor="sequential", server_optimizer=None):
    return fl.FederatedAveraging(
        zoo.regression(),
        client=fl.LocalTraining(batch_size=4, shuffle=False),
        aggregator=aggregator,
        executor=executor,
        server_optimizer=server_optimizer,
    )


def decoded_sum(encoder, arrays, bound=np.inf):
    """The sum of arrays by integers, and the metrics."""
    encoder = encoder.build([keras.KerasTensor(arrays[0].shape, "float32")])
    params = encoder.params((), np.zeros(2, np.int32), bound)
    total, stats = None, None
    for k, array in enumerate(arrays):
        seed = ops.convert_to_tensor(np.array([k, 7], np.int32))
        value = [ops.convert_to_tensor(array)]
        encoded, s = encoder.encode(value, params, seed)
        total = encoded if total is None else [total[0] + encoded[0]]
        stats = (
            s
            if stats is None
            else keras.tree.map_structure(lambda a, b: a + b, stats, s)
        )
    _, metrics = encoder.update((), stats, ())
    (decoded,) = encoder.decode(total, params)
    metrics = {k: float(ops.convert_to_numpy(v)) for k, v in metrics.items()}
    return ops.convert_to_numpy(decoded), metrics


@pytest.mark.parametrize("bits", [2, 8, 16, 24])
@pytest.mark.parametrize("stochastic", [True, False])
def test_the_sum_is_right_up_to_rounding(bits, stochastic):
    rng = np.random.default_rng(bits)
    arrays = rng.uniform(-1, 1, (5, 300)).astype("float32")
    encoder = FixedPoint(
        bits, num_summands=5, value_range=1.0, stochastic=stochastic
    )
    found, metrics = decoded_sum(encoder, list(arrays))
    step = 1 / (2 ** (bits - 1) - 1)
    worst = 5 * step * (1 if stochastic else 0.5)
    assert np.abs(found - arrays.sum(0)).max() <= worst + 1e-5
    assert metrics == {"share_clipped": 0}


def test_the_largest_sums_do_not_overflow():
    ones = np.ones(10, "float32")
    for sign in (1, -1):
        encoder = FixedPoint(8, num_summands=7, value_range=1.0)
        found, _ = decoded_sum(encoder, [sign * ones] * 7)
        np.testing.assert_allclose(found, 7 * sign * ones, rtol=1e-6)


def test_sums_are_modular():
    ones = np.ones(10, "float32")
    encoder = FixedPoint(8, num_summands=7, value_range=1.0, modulus_bits=8)
    found, metrics = decoded_sum(encoder, [ones] * 3)
    # 3 * 127 = 381 = 125 modulo 256.
    np.testing.assert_allclose(found, ones * 125 / 127, rtol=1e-6)
    assert metrics["num_overflows"] == 10
    _, metrics = decoded_sum(encoder, [ones, -ones, ones])
    assert metrics["num_overflows"] == 0


def test_what_is_out_of_range_is_clipped_and_counted():
    encoder = FixedPoint(8, num_summands=1, value_range=1.0)
    array = np.array([3.0, -2.0, 0.0, 1.0], "float32")
    found, metrics = decoded_sum(encoder, [array])
    np.testing.assert_allclose(found, [1, -1, 0, 1], rtol=1e-6)
    assert metrics["share_clipped"] == 0.5


@pytest.mark.statistical
def test_stochastic_rounding_is_unbiased():
    # The mean of 10^5 roundings deviates by more than 5 standard deviations
    # (each at most half a step) less than once in 10^6 times.
    encoder = FixedPoint(4, num_summands=1, value_range=1.0)
    found, _ = decoded_sum(encoder, [np.full(100_000, 0.3, "float32")])
    assert abs(found.mean() - 0.3) < 5 * (1 / 7) / 2 / 100_000**0.5


def test_a_range_that_follows_the_bound():
    encoder = FixedPoint(8, num_summands=1)
    array = np.array([0.5] * 4, "float32")  # of norm 1
    found, metrics = decoded_sum(encoder, [array], bound=np.float32(1))
    assert metrics["share_clipped"] == 0
    assert np.abs(found - array).max() <= 6 / 4**0.5 / 127 + 1e-6


@pytest.mark.parametrize("executor", ["sequential", "vectorized"])
def test_a_round_is_the_uniform_mean(executor):
    secure = process_with(
        SecureSum(clients_per_round=3, value_range=20.0, bits=20), executor
    )
    plain = process_with(Mean(weighting="uniform"))
    state, metrics = secure.next(secure.initialize(), COHORT)
    expected, _ = plain.next(plain.initialize(), COHORT)
    assert metrics["share_clipped"] == 0
    for a, b in zip(
        zoo.numpy(state.trainable),
        zoo.numpy(expected.trainable),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_bytes_are_those_of_packed_integers():
    model = keras.Sequential([keras.Input((100,)), keras.layers.Dense(1000)])
    model.compile("sgd", "mse")
    process = fl.FederatedAveraging(
        model, aggregator=SecureSum(clients_per_round=16, value_range=1.0)
    )
    data = (np.ones((2, 100), "float32"), np.ones((2, 1000), "float32"))
    _, metrics = process.next(process.initialize(), [data])
    nominal = 101_000 * 12 / 8  # 8 bits and 4 for 16 clients
    assert 1 <= metrics["bytes_up"] / nominal < 1.02


def test_everything_together_trains():
    aggregator = SecureSum(
        [
            AdaptiveClip(initial_norm=1.0, clients_per_round=3),
            GaussianNoise(0.01),
            HadamardRotation(),
            UniformQuantization(8),
        ],
        clients_per_round=3,
    )
    process = process_with(
        aggregator, server_optimizer=keras.optimizers.Adam(0.1)
    )
    state = process.initialize()
    losses = []
    for _ in range(30):
        state, metrics = process.next(state, COHORT)
        losses.append(metrics["loss"])
    assert losses[-1] < 0.2 * losses[0]
    assert {"clip_norm", "share_clipped"} <= set(metrics)


@pytest.mark.statistical
def test_noise_is_scaled_to_what_rounding_can_make_of_an_update():
    layer = keras.layers.Dense(100, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((100,)), layer])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    process = fl.FederatedAveraging(
        model,
        aggregator=SecureSum(
            [Clip(1.0), GaussianNoise(1.0), HadamardRotation()],
            clients_per_round=2,
        ),
    )
    x = np.ones((2, 100), "float32")
    state = process.initialize()
    after, _ = process.next(state, [(x, x), (x, x)])
    kernel, bias = zoo.numpy(after.trainable)
    found = np.concatenate([kernel.reshape(-1), bias])
    # Padded to a block, and each number moved by a step of 6 / sqrt(d) / 127.
    expected = (1 + 6 / 127) / 2
    assert abs(found.std() / expected - 1) < 0.05


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("make", "match"),
    [
        (
            lambda: SecureSum([TopK(0.1)], clients_per_round=3, value_range=1),
            "can't take TopK",
        ),
        (lambda: SecureSum(clients_per_round=3), "how large numbers are"),
        (
            lambda: SecureSum(clients_per_round=1000, value_range=1.0, bits=24),
            "expected 24 to 31 bits",
        ),
        (
            lambda: SecureSum(
                [GaussianNoise(1.0)], clients_per_round=3, value_range=1.0
            ),
            "updates without a bound",
        ),
        (
            # Sums that wrap around: one client moves them by the modulus.
            lambda: SecureSum(
                [Clip(1.0), GaussianNoise(1.0)],
                clients_per_round=7,
                modulus_bits=8,
            ),
            "FixedPoint doesn't keep",
        ),
        (lambda: FixedPoint(1, num_summands=2), "2 to 24"),
        (lambda: FixedPoint(8, num_summands=0), "at least 1"),
        (lambda: FixedPoint(8, num_summands=2, value_range=0), "above 0"),
    ],
)
def test_what_cannot_work_is_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.backend_free
def test_epsilon_only_where_no_sum_wraps_around():
    pytest.importorskip("dp_accounting")

    def epsilon(participation, **arguments):
        secure = SecureSum(
            [Clip(1.0), GaussianNoise(1.0)], clients_per_round=8, **arguments
        )
        return fl.privacy.Guarantee(
            secure.dp_event(), participation, 1e-3
        ).epsilon(2)

    def alone(participation):
        gaussian = fl.privacy.Gaussian(1.0)
        return fl.privacy.Guarantee(gaussian, participation, 1e-3).epsilon(2)

    fixed = fl.privacy.Participation("uniform", 100, 8)
    assert epsilon(fixed) == alone(fixed)
    # Poisson sampling may draw all 100.
    poisson = fl.privacy.Participation("poisson", 100, 8)
    with pytest.raises(ValueError, match=r"0 to 100 clients.*`modulus_bits`"):
        epsilon(poisson)
    with pytest.raises(ValueError, match="0 to 100 clients"):
        epsilon(poisson, modulus_bits=14)
    assert epsilon(poisson, modulus_bits=15) == alone(poisson)


@pytest.mark.backend_free
def test_config_round_trip():
    aggregator = SecureSum(
        [Clip(1.0), UniformQuantization(4, clip_range=0.5)],
        clients_per_round=3,
    )
    again = SecureSum.from_config(aggregator.get_config())
    assert again.get_config() == aggregator.get_config()
    assert again.encoders[-1].get_config() == {
        "bits": 4,
        "num_summands": 3,
        "value_range": 0.5,
        "coverage": 6.0,
        "stochastic": True,
        "modulus_bits": None,
    }


def test_fewer_clients_than_planned_make_no_mean_smaller():
    plain, secure = (
        q.run(
            fl.algorithms.FedNova(
                q.model(),
                fl.LocalTraining(batch_size=4, shuffle=False),
                aggregator=aggregator,
            ),
            [("0", "1")] * 2,
        )[0]
        for aggregator in (
            Mean(weighting="uniform"),
            SecureSum(clients_per_round=5, bits=24, value_range=10.0),
        )
    )
    zoo.assert_close(secure.trainable, plain.trainable, atol=1e-3)


def test_what_is_clipped_beside_an_update_is_an_error():
    process = fl.algorithms.FedNova(
        q.model(),
        fl.LocalTraining(batch_size=1),
        aggregator=SecureSum(clients_per_round=2, bits=20, value_range=2.0),
    )
    with pytest.raises(ValueError, match="larger `value_range`"):
        q.run(process, [("0", "1")])


@pytest.mark.backend_free
def test_more_clients_than_the_sum_has_room_for_are_an_error():
    process = fl.FederatedAveraging(
        zoo.regression(),
        aggregator=SecureSum(clients_per_round=2, value_range=1.0),
    )
    state = process.initialize()
    with pytest.raises(ValueError, match="more than 2 may wrap around"):
        process.next(state, COHORT)
