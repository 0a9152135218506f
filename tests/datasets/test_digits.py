import numpy as np
import pytest

from fedlearn.datasets import digits

pytestmark = pytest.mark.backend_free

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def data():
    return digits.load_data()


def test_every_digit_is_in_train_or_test(data):
    train, test = data
    assert len(train) == 50
    assert train.client_ids == test.client_ids
    (x, y), (test_x, test_y) = train.pooled(), test.pooled()
    assert len(x) == len(y) == 1437
    assert len(test_x) == len(test_y) == 360
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    got = np.concatenate([x, test_x]).reshape(-1, 64) * 16
    got = np.column_stack([got, np.concatenate([y, test_y])])
    want = np.column_stack([images, labels])
    np.testing.assert_array_equal(
        got[np.lexsort(got.T)], want[np.lexsort(want.T)]
    )


def test_shapes_and_dtypes(data):
    for ds in data:
        x, y = ds["07"]
        assert x.shape == (len(y), 8, 8, 1)
        assert x.dtype == np.float32
        assert x.min() == 0
        assert x.max() == 1
        assert y.dtype == np.int64
        assert min(ds.num_examples(i) for i in ds) >= 1


def test_arguments():
    train, test = digits.load_data(
        num_clients=5, alpha=100, test_fraction=0.5, seed=3
    )
    assert len(train) == 5
    sizes = [sum(map(ds.num_examples, ds)) for ds in (train, test)]
    assert abs(sizes[0] - sizes[1]) <= 5
    again = digits.load_data(5, 100, 0.5, seed=3)[0]
    np.testing.assert_array_equal(train["0"][0], again["0"][0])
    other = digits.load_data(5, 100, 0.5, seed=4)[0]
    assert not np.array_equal(train["0"][1][:99], other["0"][1][:99])
    with pytest.raises(ValueError, match="`test_fraction` must be"):
        digits.load_data(test_fraction=1)
    with pytest.raises(ValueError, match="num_clients"):
        digits.load_data(num_clients=2000)
