import hashlib

import numpy as np
import pytest

from fedlearn.datasets import synthetic

pytestmark = pytest.mark.backend_free

# Recorded once; see the golden test.
DIGEST = "d8b0885791fb396b"


def all_of(train, test):
    for i in train:
        (x, y), (test_x, test_y) = train[i], test[i]
        yield np.concatenate([x, test_x]), np.concatenate([y, test_y])


def test_shapes_and_dtypes():
    train, test = synthetic.load_data(num_clients=12, test_fraction=0.25)
    assert train.client_ids == test.client_ids
    assert train.client_ids == tuple(f"{k:02d}" for k in range(12))
    for client_id in train:
        x, y = train[client_id]
        assert x.shape == (len(y), 60)
        assert x.dtype == np.float32
        assert y.dtype == np.int64
        assert 0 <= y.min() <= y.max() <= 9
        total = len(y) + test.num_examples(client_id)
        assert total >= 50
        assert abs(len(y) - 0.75 * total) <= 0.5


@pytest.mark.golden
def test_data_are_those_of_earlier_versions():
    # On every machine, to the bit.
    digest = hashlib.sha256()
    for ds in synthetic.load_data(num_clients=4, seed=2):
        for client_id in ds:
            x, y = ds[client_id]
            digest.update(x.astype("<f4").tobytes())
            digest.update(y.astype("<i8").tobytes())
    assert digest.hexdigest()[:16] == DIGEST


def test_the_seed_decides():
    one, same, other = (
        synthetic.load_data(num_clients=2, seed=seed)[0]["0"][0]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert one[0].tolist() != other[0].tolist()


def transfer(pairs):
    """How well least squares on the largest client does on the others."""
    largest = max(range(len(pairs)), key=lambda k: len(pairs[k][1]))
    features = [
        np.column_stack([x, np.ones(len(x))]).astype(np.float64)
        for x, _ in pairs
    ]
    weights = np.linalg.lstsq(
        features[largest], np.eye(10)[pairs[largest][1]], rcond=None
    )[0]
    return np.mean(
        [
            ((features[k] @ weights).argmax(axis=1) == pairs[k][1]).mean()
            for k in range(len(pairs))
            if k != largest
        ]
    )


def test_iid_clients_share_one_model():
    shared = list(all_of(*synthetic.load_data(iid=True, seed=1)))
    own = list(all_of(*synthetic.load_data(0, 0, seed=1)))
    assert transfer(shared) > 0.6 > 0.4 > transfer(own)
    # alpha and beta do nothing there.
    other = list(all_of(*synthetic.load_data(5, 5, iid=True, seed=1)))
    np.testing.assert_array_equal(shared[3][0], other[3][0])
    np.testing.assert_array_equal(shared[3][1], other[3][1])


@pytest.mark.statistical
def test_points_have_their_covariance():
    data = synthetic.load_data(num_clients=8, iid=True, seed=3)
    x = np.concatenate([x for x, _ in all_of(*data)])
    deviations = np.arange(1, 61) ** -0.6
    z = x / deviations
    # Of n draws a mean has a deviation of 1 / sqrt(n), and a correlation too:
    # 1,830 times 6e-7 is 1e-3.
    bound = 5 / np.sqrt(len(z))
    assert np.abs(z.mean(axis=0)).max() < bound
    covariance = z.T @ z / len(z)
    assert (
        np.abs(covariance - np.eye(60))[~np.eye(60, dtype=bool)].max() < bound
    )
    assert np.abs(np.diag(covariance) - 1).max() < bound * np.sqrt(2)


@pytest.mark.statistical
def test_beta_is_the_deviation_of_the_centres():
    # The mean of a client's points, over its 60 features, has the variance
    # beta ** 2 + 1 / 60 (and what sampling adds, some 1e-4).
    data = synthetic.load_data(0, 2.0, num_clients=100, seed=4)
    means = [x.mean() for x, _ in all_of(*data)]
    # A deviation of 100 draws is known to 7%; five of these are 6e-7.
    assert np.std(means) == pytest.approx(np.sqrt(4 + 1 / 60), rel=0.35)


@pytest.mark.statistical
def test_sizes_are_log_normal():
    data = synthetic.load_data(num_clients=60, seed=5)
    logs = np.log([len(y) - 50 + 0.5 for _, y in all_of(*data)])
    # A mean of 60 draws is known to 2 / sqrt(60), their deviation to 9%; five
    # of each are 6e-7. Rounding down moves neither by as much as 0.1.
    assert abs(logs.mean() - 4) < 5 * 0.26 + 0.1
    assert abs(logs.std() / 2 - 1) < 5 * 0.09 + 0.05


def test_errors():
    with pytest.raises(ValueError, match="`alpha` must be"):
        synthetic.load_data(alpha=-1)
    with pytest.raises(ValueError, match="`beta` must be"):
        synthetic.load_data(beta=float("nan"))
    with pytest.raises(ValueError, match="`num_clients` must be"):
        synthetic.load_data(num_clients=0)
    with pytest.raises(ValueError, match="`test_fraction` must be"):
        synthetic.load_data(test_fraction=1)
