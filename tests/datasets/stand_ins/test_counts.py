import numpy as np
import pytest

from fedlearn.datasets.stand_ins.counts import check_count, client_size

pytestmark = pytest.mark.backend_free


def test_sizes_have_the_mean_and_keep_the_limits():
    sizes = [client_size(100, 0.5, 60, 300, 0, "test", k) for k in range(500)]
    assert min(sizes) == 60
    assert 200 < max(sizes) <= 300
    assert 95 < np.mean(sizes) < 115


@pytest.mark.parametrize("wrong", [0, -3, 1.0, "5", None, True])
def test_what_is_no_count_is_named(wrong):
    with pytest.raises(ValueError, match=r"rounds is .* Expected an integer"):
        check_count("rounds", wrong)


def test_numpys_integers_will_do():
    check_count("rounds", np.int64(1))
