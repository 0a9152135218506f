import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlearn import partition

pytestmark = pytest.mark.backend_free

DIVIDERS = {
    "iid": lambda x, y, n, seed=0: partition.iid(x, y, n, seed),
    "shards": lambda x, y, n, seed=0: partition.shards(x, y, n, 2, seed),
    "dirichlet": lambda x, y, n, seed=0: partition.dirichlet(
        x, y, n, 1.0, 0, seed
    ),
}

# Recorded once; see the last test.
RECORDED = {
    "iid": [[1, 6, 10, 11], [2, 4, 5, 8], [0, 3, 7, 9]],
    "shards": [[1, 4, 7, 10], [2, 3, 9, 11], [0, 5, 6, 8]],
    "dirichlet": [[5, 8, 9, 11], [7, 10], [0, 1, 2, 3, 4, 6]],
}


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
    if name != "iid":
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
    draws = partition._dirichlet_draws(concentration, 20_000, 0, "test")
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
    draws = partition._log_gamma_draws(np.full(40_000, shape), 0, "test")
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
