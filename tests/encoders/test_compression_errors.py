"""How much each encoder loses: as papers and formulas say."""

import numpy as np
import pytest

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
    round_trip,
)
from tests.encoders.compression import (
    error,
    errors_of_means,
    heavy_tailed,
    normal,
    trip,
)

pytestmark = pytest.mark.statistical

SIZE = 1 << 17


@pytest.mark.parametrize("draw", [normal, heavy_tailed])
@pytest.mark.parametrize(
    ("bits", "expected"),
    [(1, 0.5708), (2, 0.1331), (3, 0.0358), (4, 0.00959)],
)
def test_eden_loses_what_its_paper_says(bits, expected, draw):
    vector = draw(SIZE)
    (decoded,) = trip(Eden(bits), [vector])
    assert error(decoded, vector) == pytest.approx(expected, rel=0.03)


def test_eden_of_parts_of_bits_is_between():
    vector = normal(SIZE)
    errors = {b: error(trip(Eden(b), [vector])[0], vector) for b in (0.25, 1.5)}
    # Of a share s: 1 bit each, and the others are missing.
    assert errors[0.25] == pytest.approx(np.pi / 2 / 0.25 - 1, rel=0.03)
    assert 0.1331 < errors[1.5] < 0.5708


def grid_error(vector, step, low=0.0):
    """Of stochastic rounding to multiples of a step."""
    share = np.mod((vector.astype(np.float64) - low) / step, 1)
    squares = (np.broadcast_to(step, vector.shape) ** 2) * share * (1 - share)
    return squares.sum() / (vector.astype(np.float64) ** 2).sum()


@pytest.mark.parametrize("levels", [1, 7, 127])
def test_qsgd_loses_what_its_formula_says(levels):
    vector = normal(SIZE)
    encoder = StochasticQuantization(levels, bucket_size=512)
    rows = vector.reshape(-1, 512)
    steps = np.linalg.norm(rows, axis=1, keepdims=True) / levels
    (decoded,) = trip(encoder, [vector])
    expected = grid_error(rows, steps)
    assert error(decoded, vector) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_uniform_quantization_loses_what_its_formula_says(bits):
    vector = normal(SIZE)
    step = (vector.max() - vector.min()) / (2**bits - 1)
    (decoded,) = trip(UniformQuantization(bits), [vector])
    expected = grid_error(vector, step, vector.min())
    assert error(decoded, vector) == pytest.approx(expected, rel=0.03)
    (decoded,) = trip(UniformQuantization(bits, stochastic=False), [vector])
    assert abs(decoded - vector).max() <= step / 2 * (1 + 1e-4)


def test_a_symmetric_grid_keeps_zeros():
    vector = normal(1000)
    vector[::3] = 0
    (decoded,) = trip(UniformQuantization(3, symmetric=True), [vector])
    assert (decoded[::3] == 0).all()
    step = abs(vector).max() / 3
    np.testing.assert_allclose(
        decoded / step, np.round(decoded / step), atol=1e-5
    )


def test_a_given_range_is_the_same_for_all():
    vector = np.array([-9.0, -1.0, 0.25, 3.0], "float32")
    encoder = UniformQuantization(8, clip_range=1.0)
    (decoded,) = trip(encoder, [vector])
    np.testing.assert_allclose(decoded, [-1, -1, 0.25, 1], atol=2 / 255)


def test_terngrad_loses_what_its_formula_says():
    vector = normal(SIZE)
    magnitudes = abs(vector.astype(np.float64))
    largest = magnitudes.max()
    expected = (magnitudes * (largest - magnitudes)).sum()
    (decoded,) = trip(TernGrad(), [vector])
    assert set(np.unique(decoded)) <= {
        -vector_max(vector),
        0,
        vector_max(vector),
    }
    assert error(decoded, vector) == pytest.approx(
        expected / (magnitudes**2).sum(), rel=0.03
    )
    (clipped,) = trip(TernGrad(2.5), [vector])
    assert abs(clipped).max() == pytest.approx(2.5 * vector.std(), rel=1e-4)


def vector_max(vector):
    return abs(vector).max()


def test_signs_have_the_mean_magnitude():
    arrays = [normal((30, 7)), 5 * normal(11)]
    for decoded, array in zip(trip(SignSGD(), arrays), arrays, strict=True):
        expected = np.where(array >= 0, 1, -1) * abs(array).mean()
        np.testing.assert_allclose(decoded, expected, rtol=1e-5)


def test_top_k_keeps_the_largest():
    arrays = [normal((50, 20)), 3 * normal(200)]
    decoded = np.concatenate([d.ravel() for d in trip(TopK(0.1), arrays)])
    vector = np.concatenate([a.ravel() for a in arrays])
    kept = np.argsort(-abs(vector))[:120]
    expected = np.zeros_like(vector)
    expected[kept] = vector[kept]
    np.testing.assert_array_equal(decoded, expected)


@pytest.mark.parametrize("fraction", [1.0, 0.3, 0.001])
def test_a_random_mask_sends_one_number_of_each_stratum(fraction):
    size = 2500
    vector = np.arange(1, size + 1, dtype="float32")
    (decoded,) = trip(RandomMask(fraction), [vector])
    places = np.flatnonzero(decoded)
    count = int(np.ceil(size * fraction))
    edges = np.arange(count + 1) * size // count
    assert (np.searchsorted(edges, places, "right") - 1).tolist() == list(
        range(count)
    )
    lengths = decoded[places] / vector[places]
    np.testing.assert_allclose(lengths, np.diff(edges), rtol=1e-6)


def test_random_masks_change_from_round_to_round():
    vector = np.ones(1000, "float32")
    first, second = (trip(RandomMask(0.1), [vector], s)[0] for s in (1, 2))
    assert (first != second).any()


def test_casts_round_to_nearest():
    vector = normal(1000)
    (decoded,) = trip(Cast("float16"), [vector])
    np.testing.assert_array_equal(
        decoded, vector.astype("float16").astype("float32")
    )


def test_rotation_turns_and_turns_back():
    arrays = [normal((100, 30)), heavy_tailed(17)]
    decoded = trip(HadamardRotation(256), arrays)
    for d, a in zip(decoded, arrays, strict=True):
        np.testing.assert_allclose(d, a, atol=1e-5 * abs(a).max())


def test_rotation_makes_heavy_tails_cheap_to_quantize():
    vector = heavy_tailed(SIZE)
    (plain,) = trip(UniformQuantization(4), [vector])
    rotated, _ = round_trip(
        [HadamardRotation(), UniformQuantization(4)], vector
    )
    assert error(rotated, vector) < error(plain, vector) / 10


def test_power_sgd_finds_the_large_directions():
    rng = np.random.default_rng(0)
    u, _ = np.linalg.qr(rng.normal(size=(60, 3)))
    v, _ = np.linalg.qr(rng.normal(size=(40, 3)))
    low = ((u * [30, 20, 10]) @ v.T).astype("float32")
    noisy = low + 0.01 * normal((60, 40))
    bias = normal(40)
    exact, kept = trip(PowerSGD(4), [low, bias])
    np.testing.assert_allclose(exact, low, atol=1e-4)
    np.testing.assert_array_equal(kept, bias)
    # A projection: it makes nothing longer.
    (decoded,) = trip(PowerSGD(3), [noisy.reshape(6, 10, 40)])
    assert error(decoded.reshape(60, 40), low) < 1e-3
    assert (decoded**2).sum() <= (noisy**2).sum() * (1 + 1e-6)


UNBIASED = [
    Drive(),
    Eden(bits=2),
    Eden(bits=0.5),
    RandomMask(0.2),
    StochasticQuantization(levels=3),
    TernGrad(),
    UniformQuantization(bits=2),
]


@pytest.mark.parametrize("encoder", UNBIASED, ids=lambda e: type(e).__name__)
def test_errors_of_clients_cancel_in_their_mean(encoder):
    dense = heavy_tailed(4096, seed=3)
    sparse = np.where(np.arange(4096) % 64 == 0, normal(4096), 0)
    vectors = [dense, sparse.astype("float32")]
    for single, mean in errors_of_means(encoder, vectors, num_clients=100):
        # A bias would stay: it has nothing to do with the number of clients.
        assert 0.5 < mean / (single / 100) < 2


NOMINAL = [
    (Cast("bfloat16"), 16),
    (Drive(), 1),
    (Eden(bits=0.5), 0.5),
    (Eden(bits=3), 3),
    (Eden(bits=4.25), 4.25),
    (RandomMask(0.1), 3.2),
    (SignSGD(), 1),
    (StochasticQuantization(levels=7), 4),
    (TernGrad(), 1.6),
    (TopK(0.01), 0.64),
    (UniformQuantization(bits=5), 5),
]


@pytest.mark.parametrize(
    ("encoder", "bits"), NOMINAL, ids=lambda e: type(e).__name__
)
def test_messages_are_as_small_as_they_should_be(encoder, bits):
    size = 1_000_000
    vector = normal(size).reshape(1000, 1000)
    decoded, num_bytes = round_trip(encoder, {"kernel": vector})
    assert decoded["kernel"].shape == vector.shape
    assert 8 * num_bytes / size == pytest.approx(bits, rel=0.02)


def test_entropy_coding_takes_what_can_be_guessed():
    vector = heavy_tailed(SIZE)
    quantization = UniformQuantization(bits=8)
    plain, plain_bytes = round_trip(quantization, vector)
    coded, coded_bytes = round_trip([quantization, EntropyCoding()], vector)
    np.testing.assert_array_equal(plain, coded)
    codes = np.round((plain - plain.min()) / np.diff(np.unique(plain)).min())
    _, counts = np.unique(codes, return_counts=True)
    shares = counts / counts.sum()
    entropy = -(shares * np.log2(shares)).sum()
    # Huffman's codes are at most one bit longer, and have a bit at least.
    assert entropy * SIZE / 8 < coded_bytes < (entropy + 1) * SIZE / 8 + 500
    assert coded_bytes < plain_bytes / 2


def test_structures_come_back():
    value = {"a": [normal((3, 4)), (normal(5),)], "b": np.float32(2.5)}
    decoded, num_bytes = round_trip([], value)
    assert decoded["b"] == np.float32(2.5)
    np.testing.assert_array_equal(decoded["a"][1][0], value["a"][1][0])
    assert num_bytes > 4 * 18
    with pytest.raises(TypeError, match="arrays of floats"):
        round_trip([], np.arange(3))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Cast("float8"), "`dtype`"),
        (lambda: Eden(bits=0), "`bits`"),
        (lambda: Eden(bits=9), "`bits`"),
        (lambda: Eden(block_size=0), "`block_size`"),
        (lambda: EntropyCoding("gzip"), "`method`"),
        (lambda: HadamardRotation(0), "power of two"),
        (lambda: PowerSGD(0), "`rank`"),
        (lambda: PowerSGD(1.5), "`rank`"),
        (lambda: RandomMask(0), "`fraction`"),
        (lambda: StochasticQuantization(128), "`levels`"),
        (lambda: StochasticQuantization(3, 0), "`bucket_size`"),
        (lambda: TernGrad(0), "`clip_deviations`"),
        (lambda: TopK(1.5), "`fraction`"),
        (lambda: UniformQuantization(16), "Cast"),
        (lambda: UniformQuantization(1, symmetric=True), "2 bits"),
        (lambda: UniformQuantization(clip_range=-1.0), "`clip_range`"),
    ],
)
def test_nonsense_is_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make()
