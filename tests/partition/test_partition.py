import hashlib
import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlearn import FederatedDataset, partition, seeds
from fedlearn.partition import dirichlet_draws
from fedlearn.partition.feature_shift import rotate

pytestmark = pytest.mark.backend_free

DIVIDERS = {
    "iid": lambda x, y, n, seed=0: partition.iid(x, y, n, seed),
    "shards": lambda x, y, n, seed=0: partition.shards(x, y, n, 2, seed),
    "dirichlet": lambda x, y, n, seed=0: partition.dirichlet(
        x, y, n, 1.0, 0, seed
    ),
    "pachinko": lambda x, y, n, seed=0: partition.pachinko(
        x, y, n, _halves(y), seed=seed
    ),
    "by_size": lambda x, y, n, seed=0: partition.by_size(x, y, n, seed=seed),
}


def _halves(y):
    return np.asarray(y) // 2 if not isinstance(y, tuple) else y


# Recorded once; see the last test.
RECORDED = {
    "iid": [[1, 6, 10, 11], [2, 4, 5, 8], [0, 3, 7, 9]],
    "shards": [[1, 4, 7, 10], [2, 3, 9, 11], [0, 5, 6, 8]],
    "dirichlet": [[5, 8, 9, 11], [7, 10], [0, 1, 2, 3, 4, 6]],
    "pachinko": [[0, 4, 7, 9], [1, 3, 6, 10], [2, 5, 8, 11]],
    "by_size": [[0, 4, 7, 11], [2, 3, 5, 8, 9], [1, 6, 10]],
}
HASHES = {
    "iid": "c6357a3ee810be59",
    "shards": "f08b0539e95c8379",
    "dirichlet": "4a448f288caf7d63",
    "pachinko": "8995a61ab7ece7e9",
    "power_law": "fe6cedbb67283848",
    "log_normal": "781ba25c299a382b",
    "by_column": "86ab79c99646161f",
    "feature_shift": "67508849daa1b2bc",
}
NOISE = "70dd297c1056ed1a"


def entropies(ds):
    out = []
    for client_id in ds:
        counts = np.bincount(ds[client_id][1])
        p = counts[counts > 0] / counts.sum()
        out.append(-(p * np.log2(p)).sum())
    return np.array(out)


@pytest.mark.parametrize("name", DIVIDERS)
@given(
    labels=st.lists(st.integers(-3, 4), min_size=2, max_size=60),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_every_example_goes_to_one_client(name, labels, data):
    num_clients = data.draw(st.integers(1, len(labels) // 2))
    seed = data.draw(st.integers(0, 100))
    rows = np.arange(len(labels))
    x = {"row": rows, "wide": np.stack([rows, rows], axis=1)}
    ds = DIVIDERS[name](x, np.array(labels), num_clients, seed)
    assert len(ds) == num_clients
    assert list(ds) == sorted(ds)
    assert sorted(map(int, ds)) == list(range(num_clients))
    seen = []
    for client_id in ds:
        x, y = ds[client_id]
        assert [labels[r] for r in x["row"]] == y.tolist()
        assert x["row"].tolist() == sorted(x["row"].tolist())
        np.testing.assert_array_equal(x["wide"][:, 1], x["row"])
        seen += x["row"].tolist()
    assert sorted(seen) == rows.tolist()


@pytest.mark.parametrize("name", DIVIDERS)
def test_the_seed_decides(name):
    y = np.repeat(np.arange(5), 20)
    x = np.arange(100)

    def division(seed):
        ds = DIVIDERS[name](x, y, 7, seed)
        return [ds[i][0].tolist() for i in ds]

    assert division(0) == division(0)
    assert division(0) != division(1)


@pytest.mark.parametrize("name", DIVIDERS)
def test_common_errors(name):
    divide = DIVIDERS[name]
    with pytest.raises(ValueError, match="num_clients is 0"):
        divide(np.zeros(4), np.zeros(4), 0)
    with pytest.raises(ValueError, match="only 4 examples"):
        divide(np.zeros(4), np.zeros(4), 5)
    with pytest.raises(ValueError, match="x has 4, y has 3"):
        divide(np.zeros(4), np.zeros(3), 2)
    if name not in ("iid", "by_size"):
        with pytest.raises(ValueError, match=r"argmax\(axis=1\)"):
            divide(np.zeros(4), np.eye(4), 2)
        with pytest.raises(ValueError, match="fractions or NaN"):
            divide(np.zeros(4), np.array([0, 1, 0.5, 1]), 2)
        with pytest.raises(ValueError, match="tuple of arrays"):
            divide(np.zeros(4), (np.zeros(4), np.zeros(4)), 2)


def test_iid_sizes_and_mix():
    y = np.repeat(np.arange(10), 100)
    ds = partition.iid(y, y, 30)
    assert {ds.num_examples(i) for i in ds} == {33, 34}
    assert entropies(ds).min() > 2.5


def test_labels_in_a_column_will_do():
    y = np.repeat(np.arange(4), 10)[:, None]
    ds = partition.shards(np.zeros(40), y, 2)
    assert ds["0"][1].shape == (20, 1)


def test_shards_of_mcmahan():
    y = np.repeat(np.arange(10), 600)[::-1]
    ds = partition.shards(y, y, num_clients=100, shards_per_client=2)
    assert {ds.num_examples(i) for i in ds} == {60}
    distinct = [len(np.unique(ds[i][1])) for i in ds]
    # 20 shards lie within each label, so a client has one or two.
    assert set(distinct) == {1, 2}
    assert distinct.count(2) > 70
    # Which examples of a label lie in one shard is random.
    first = partition.shards(np.arange(6000), y, 100)["00"][0]
    assert np.diff(first).max() > 1


def test_too_many_shards():
    with pytest.raises(ValueError, match="6 shards, but there are 4"):
        partition.shards(np.zeros(4), np.zeros(4), 2, shards_per_client=3)
    with pytest.raises(ValueError, match="shard"):
        partition.shards(np.zeros(4), np.zeros(4), 2, shards_per_client=0)


def test_alpha_sets_how_clients_differ():
    y = np.repeat(np.arange(10), 500)
    mean = {
        alpha: entropies(partition.dirichlet(y, y, 50, alpha)).mean()
        for alpha in (0.001, 0.1, 1, 1000)
    }
    assert mean[0.001] < 0.3 < mean[0.1] < 1.7 < mean[1] < 3.1 < mean[1000]


@pytest.mark.statistical
@pytest.mark.parametrize("alpha", [0.05, 0.5, 4.0])
def test_draws_are_dirichlet(alpha):
    # Against the mean and variance of the Dirichlet distribution.
    concentration = alpha * np.array([1.0, 2.0, 5.0])
    draws = dirichlet_draws.dirichlet_draws(concentration, 20_000, 0, "test")
    np.testing.assert_allclose(draws.sum(axis=1), 1)
    total = concentration.sum()
    mean = concentration / total
    variance = mean * (1 - mean) / (total + 1)
    spread = np.sqrt(variance / len(draws))
    assert (np.abs(draws.mean(axis=0) - mean) < 5 * spread).all()
    np.testing.assert_allclose(draws.var(axis=0), variance, rtol=0.06)


@pytest.mark.statistical
@pytest.mark.parametrize("shape", [0.3, 1.0, 7.5])
def test_gamma_draws(shape):
    # E[log G] is the digamma function, here by its recurrence and series.
    draws = dirichlet_draws.log_gamma_draws(np.full(40_000, shape), 0, "test")
    z, digamma = shape, 0.0
    while z < 20:
        digamma, z = digamma - 1 / z, z + 1
    digamma += np.log(z) - 1 / (2 * z) - 1 / (12 * z**2)
    assert draws.mean() == pytest.approx(
        digamma, abs=5 * draws.std() / np.sqrt(len(draws))
    )
    assert np.exp(draws).mean() == pytest.approx(shape, rel=0.06)


def test_clients_get_the_mix_they_drew():
    # With many examples, rounding hides nothing: sizes stay near the mean.
    y = np.repeat(np.arange(10), 2000)
    ds = partition.dirichlet(y, y, 20, alpha=10.0)
    sizes = [ds.num_examples(i) for i in ds]
    assert min(sizes) > 900
    assert max(sizes) < 1100


def test_min_examples():
    y = np.repeat(np.arange(10), 20)
    ds = partition.dirichlet(y, y, 20, alpha=0.5, min_examples=5)
    assert min(ds.num_examples(i) for i in ds) >= 5
    with pytest.raises(ValueError, match="need 220, but there are 200"):
        partition.dirichlet(y, y, 20, alpha=0.5, min_examples=11)
    with pytest.raises(ValueError, match=r"100 draws.*Raise alpha \(0.01\)"):
        partition.dirichlet(y, y, 20, alpha=0.01, min_examples=10)
    for alpha in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="alpha"):
            partition.dirichlet(y, y, 20, alpha)


def test_divisions_are_those_of_earlier_versions():
    y = np.arange(12) % 3
    got = {
        name: [
            ds[i][0].tolist()
            for ds in [divide(np.arange(12), y, 3)]
            for i in ds
        ]
        for name, divide in DIVIDERS.items()
    }
    assert got == RECORDED


def owners(ds, total):
    codes = np.full(total, -1, "<i4")
    for k, client_id in enumerate(ds):
        codes[ds[client_id][1][:, 0]] = k
    return codes


def digest(array):
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


@pytest.mark.golden
@pytest.mark.parametrize("name", HASHES)
def test_large_divisions_are_those_of_earlier_versions(name):
    # Another NumPy, machine or vector unit must not change whose an example
    # is: here 3,000 of 30 labels, and 40 clients.
    rows = np.arange(3000)
    y = rows % 30
    x = np.zeros((3000, 4, 4))
    number = np.stack([rows, rows], axis=1)
    ds = {
        "iid": lambda: partition.iid(x, number, 40, 3),
        "shards": lambda: partition.shards(number, y, 40, 2, 3),
        "dirichlet": lambda: partition.dirichlet(number, y, 40, 0.3, 1, 3),
        "pachinko": lambda: partition.pachinko(
            number, y, 40, y // 5, 60, seed=3
        ),
        "power_law": lambda: partition.by_size(x, number, 40, seed=3),
        "log_normal": lambda: partition.by_size(
            x, number, 40, "log_normal", seed=3
        ),
        "by_column": lambda: partition.by_column(x, number, rows // 7, 40, 3),
        "feature_shift": lambda: partition.feature_shift(
            x, number, 40, "noise", 1.0, 3
        ),
    }[name]()
    if ds["00"][1].ndim == 1:
        ds = ds.map(lambda client: (client[1], client[0]))
    assert digest(owners(ds, 3000)) == HASHES[name]


def test_pachinko_of_reddi():
    # CIFAR-100 at a tenth: 20 coarse labels of 5 with 50 examples each.
    y = np.repeat(np.arange(100), 50)
    ds = partition.pachinko(np.arange(5000), y, 50, y // 5, 100)
    assert {ds.num_examples(i) for i in ds} == {100}
    assert sorted(ds.pooled()[0].tolist()) == list(range(5000))
    coarse = [len(np.unique(ds[i][1] // 5)) for i in ds]
    fine = [len(np.unique(ds[i][1])) for i in ds]
    # IID, a client of 100 would have all 20 and 63 of the 100.
    assert np.mean(coarse) < 10
    assert np.mean(fine) < 40
    # The first client finds all labels there: where it has 25 of a coarse
    # label, it has each label under that.
    counts = np.bincount(ds["00"][1], minlength=100).reshape(20, 5)
    assert counts.sum(axis=1).max() >= 25
    assert (counts[counts.sum(axis=1) >= 25] > 0).all()


def test_pachinko_leaves_out_what_is_not_asked_for():
    y = np.arange(100) % 8
    ds = partition.pachinko(np.arange(100), y, 3, y % 2, 20)
    rows = ds.pooled()[0]
    assert len(rows) == len(set(rows.tolist())) == 60
    np.testing.assert_array_equal(ds.pooled()[1], y[rows])
    uneven = partition.pachinko(np.arange(100), y, 3, y % 2)
    assert [uneven.num_examples(i) for i in uneven] == [33, 33, 34]


@pytest.mark.parametrize("alpha", [1e-8, 1e8])
def test_pachinko_with_extreme_concentrations(alpha):
    y = np.arange(200) % 10
    ds = partition.pachinko(y, y, 5, y // 5, alpha=alpha, beta=alpha)
    assert sum(map(ds.num_examples, ds)) == 200


@pytest.mark.statistical
def test_pachinko_draws_its_mixes():
    # With many examples left, the share of a coarse label among a client's
    # examples has mean 1/4 and, for alpha = 0.5, the variance 3/16 / (2 + 1)
    # of the Dirichlet distribution, and a hundredth's sampling noise. Of 400
    # clients, the mean has a deviation of 0.0125: five are 6e-7.
    y = np.repeat(np.arange(8), 50_000)
    ds = partition.pachinko(
        np.zeros(len(y)), y, 400, y // 2, 200, alpha=0.5, beta=1.0, seed=1
    )
    counts = np.array([np.bincount(ds[i][1], minlength=8) for i in ds])
    shares = counts.reshape(400, 4, 2).sum(axis=2) / 200
    assert np.abs(shares.mean(axis=0) - 0.25).max() < 5 * 0.0125
    np.testing.assert_allclose(shares.var(axis=0), 3 / 48, rtol=0.3)
    # Dir(1, 1) is uniform: of a coarse label's examples the first label has
    # a share of mean 1/2 and variance 1/12 (and some sampling noise).
    first = (
        counts[:, 0][shares[:, 0] > 0.5]
        / counts[:, :2].sum(axis=1)[shares[:, 0] > 0.5]
    )
    spread = np.sqrt(1 / 12 / len(first))
    assert abs(first.mean() - 0.5) < 5 * spread
    assert first.var() == pytest.approx(1 / 12, rel=0.5)


def test_pachinko_errors():
    y = np.arange(12) % 4

    def divide(**changed):
        given = {"num_clients": 3, "coarse_labels": y // 2} | changed
        return partition.pachinko(y, y, **given)

    with pytest.raises(ValueError, match="need 15, but there are 12"):
        divide(examples_per_client=5)
    with pytest.raises(ValueError, match="`examples_per_client` must be"):
        divide(examples_per_client=0)
    with pytest.raises(ValueError, match="`alpha` must be"):
        divide(alpha=0)
    with pytest.raises(ValueError, match="`beta` must be"):
        divide(beta=float("nan"))
    with pytest.raises(ValueError, match="has 5 entries, but y has 12"):
        divide(coarse_labels=np.zeros(5))
    with pytest.raises(ValueError, match=r"label 1 lies under .* 0 and 2"):
        divide(coarse_labels=np.arange(12) % 3 % 2 * 2)


@given(
    total=st.integers(1, 300),
    data=st.data(),
    distribution=st.sampled_from(["power_law", "log_normal"]),
    shape=st.floats(1.01, 30),
)
@settings(max_examples=60, deadline=None)
def test_by_size_uses_all_and_keeps_the_least(total, data, distribution, shape):
    num_clients = data.draw(st.integers(1, total))
    least = data.draw(st.integers(0, total // num_clients))
    rows = np.arange(total)
    ds = partition.by_size(rows, rows, num_clients, distribution, shape, least)
    assert min(map(ds.num_examples, ds)) >= least
    assert sorted(ds.pooled()[0].tolist()) == rows.tolist()


@pytest.mark.statistical
def test_sizes_follow_their_distributions():
    rows = np.zeros(2_000_000, np.int8)

    def log_quantiles(distribution, shape):
        ds = partition.by_size(rows, rows, 1000, distribution, shape, 0)
        sizes = [ds.num_examples(i) for i in ds]
        return np.log(np.quantile(sizes, [0.25, 0.5, 0.75]))

    # A quantile of 1,000 draws lies within 0.08 in rank, five deviations, but
    # for 6e-7; sizes are known up to a factor, so quantiles are compared.
    for inverse, got in (
        (lambda p: -math.log(1 - p) / 2, log_quantiles("power_law", 3.0)),
        (NormalDist().inv_cdf, log_quantiles("log_normal", 1.0)),
    ):
        for k, p in ((1, 0.5), (2, 0.75)):
            least = inverse(p - 0.08) - inverse(0.25 + 0.08)
            most = inverse(p + 0.08) - inverse(0.25 - 0.08)
            assert least < got[k] - got[0] < most


def test_by_size_errors():
    def divide(**changed):
        return partition.by_size(np.zeros(10), np.zeros(10), 3, **changed)

    with pytest.raises(ValueError, match="need 12, but there are 10"):
        divide(min_examples=4)
    with pytest.raises(ValueError, match="exponent of a power law, above 1"):
        divide(shape=1.0)
    with pytest.raises(ValueError, match="`shape` must be a number"):
        divide(distribution="log_normal", shape=-1)
    with pytest.raises(ValueError, match="`distribution` must be"):
        divide(distribution="zipf")
    assert [
        ds.num_examples(i)
        for ds in [divide(distribution="log_normal", shape=0)]
        for i in ds
    ] == [3, 4, 3]


@given(
    values=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_by_column_keeps_values_together(values, data):
    distinct = set(values)
    num_clients = data.draw(st.integers(1, len(distinct)))
    rows = np.arange(len(values))
    ds = partition.by_column(rows, rows, np.array(values), num_clients)
    assert sorted(ds.pooled()[0].tolist()) == rows.tolist()
    held = [{values[r] for r in ds[i][0]} for i in ds]
    assert sum(map(len, held)) == len(distinct) == len(set.union(*held))
    sizes = [len(h) for h in held]
    assert max(sizes) - min(sizes) <= 1


def test_by_column_without_grouping_is_from_arrays():
    x, y = np.arange(5.0), np.arange(5)
    for values in ([3, 10, 3, 2, 10], ["b", "a", "b", "c", "a"]):
        ds = partition.by_column(x, y, np.array(values))
        other = FederatedDataset.from_arrays(x, y, values)
        assert ds.client_ids == other.client_ids
        for i in ds:
            np.testing.assert_array_equal(ds[i][0], other[i][0])


def test_by_column_errors():
    rows = np.arange(4)
    with pytest.raises(ValueError, match=r"shape \(3,\).*4 examples"):
        partition.by_column(rows, rows, np.zeros(3))
    with pytest.raises(ValueError, match="5, and the column has 4 distinct"):
        partition.by_column(rows, rows, rows, num_clients=5)
    with pytest.raises(ValueError, match="missing"):
        partition.by_column(rows, rows, np.array([1, 2, np.nan, 1]))


@pytest.mark.parametrize("shape", [(6, 5, 5), (6, 5, 5, 3), (6, 4, 4)])
def test_quarter_turns_only_move_pixels(shape):
    images = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    rows = np.arange(len(images))
    ds = partition.feature_shift(images, rows, 4, "rotation", 360)
    for quarters, client_id in enumerate(ds):
        x, y = ds[client_id]
        np.testing.assert_array_equal(
            x, np.rot90(images[y], quarters, axes=(1, 2))
        )
        assert x.dtype == np.float32
    assert sorted(ds.pooled()[1].tolist()) == rows.tolist()


def test_half_turns_of_oblong_images():
    images = np.arange(24.0).reshape(2, 3, 4)
    for degrees in (180, -180, 540):
        np.testing.assert_array_equal(
            rotate(images, degrees), images[:, ::-1, ::-1]
        )
    np.testing.assert_array_equal(rotate(images, 0), images)


def test_rotation_of_a_ramp_is_a_ramp():
    # Bilinear interpolation is exact on planes, away from the border.
    down, right = np.mgrid[-10:11, -10:11]
    middle = np.s_[0, 5:16, 5:16]
    for degrees in (0.0, 17.0, 45.0, 233.0, -60.0):
        angle = np.deg2rad(degrees)
        # A point of the eye's plane (right, up) turned counterclockwise.
        back_right = np.cos(angle) * right - np.sin(angle) * down
        back_down = np.sin(angle) * right + np.cos(angle) * down
        for ramp, want in ((right, back_right), (down, back_down)):
            got = rotate(ramp[None].astype(np.float64), degrees)
            np.testing.assert_allclose(got[middle], want[5:16, 5:16], atol=1e-9)


def test_rotation_makes_nothing_new():
    images = seeds.uniform(50, "images").reshape(2, 5, 5)
    turned = rotate(images, 33)
    assert images.min() <= turned.min() < turned.max() <= images.max()
    np.testing.assert_allclose(rotate(np.ones((1, 4, 6, 2)), 77), 1)


@pytest.mark.statistical
def test_noise_grows_from_client_to_client():
    x = np.full((8000, 5), 3.0, np.float32)
    ds = partition.feature_shift(x, np.arange(8000), 4, "noise", 2.0)
    for k, client_id in enumerate(ds):
        noise = ds[client_id][0] - 3
        assert noise.dtype == np.float32
        deviation = 2.0 * (k + 1) / 4
        # Of 10,000 draws; 5 deviations each, 8 times: 5e-6.
        assert abs(noise.mean()) < 5 * deviation / 100
        assert noise.std() == pytest.approx(deviation, rel=5 / 141)
    none = partition.feature_shift(x, np.arange(8000), 4, "noise", 0)
    np.testing.assert_array_equal(none.pooled()[0], x)


@pytest.mark.golden
def test_noise_is_that_of_earlier_versions():
    x = np.zeros((10, 3), np.float32)
    ds = partition.feature_shift(x, np.arange(10), 2, "noise", 1.0)
    assert digest(ds.pooled()[0].astype("<f4")) == NOISE


def test_feature_shift_errors():
    images = np.zeros((4, 3, 3))

    def shift(x=images, kind="rotation", strength=1.0):
        return partition.feature_shift(x, np.zeros(4), 2, kind, strength)

    with pytest.raises(ValueError, match=r"x is of int64.*astype"):
        shift(np.zeros((4, 3, 3), int))
    with pytest.raises(ValueError, match="x is of dict"):
        shift({"a": np.zeros(4)})
    with pytest.raises(ValueError, match=r"shape \(4, 9\).*height"):
        shift(np.zeros((4, 9)))
    with pytest.raises(ValueError, match=r"`kind` must be .*'noise'"):
        shift(kind="blur")
    with pytest.raises(ValueError, match="strength is -1"):
        shift(kind="noise", strength=-1)
    with pytest.raises(ValueError, match="strength is nan"):
        shift(strength=float("nan"))


@pytest.mark.parametrize(
    "name", [*DIVIDERS, "by_column", "by_column_values", "feature_shift"]
)
def test_classes_keep_their_names(name):
    numbers = np.arange(12) % 3
    names = ("ant", "bee", "cat")
    divide = {
        "by_column": lambda x, y, n: partition.by_column(x, y, np.arange(12)),
        "by_column_values": lambda x, y, n: partition.by_column(
            x, y, np.arange(12), n
        ),
        "feature_shift": lambda x, y, n: partition.feature_shift(
            x, y, n, "noise", 0.0
        ),
        # The coarse labels are numbers.
        "pachinko": lambda x, y, n: partition.pachinko(x, y, n, numbers // 2),
    }.get(name, DIVIDERS.get(name))
    x = np.arange(12.0)[:, None]
    texts = divide(x, np.array(names)[numbers], 3)
    plain = divide(x, numbers, 3)
    assert texts.class_names == names
    assert plain.class_names is None
    for i in plain:
        assert texts[i][1].tolist() == plain[i][1].tolist()
        assert (
            texts[i][1].tolist()
            == numbers[texts[i][0][:, 0].astype(int)].tolist()
        )
