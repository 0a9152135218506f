import numpy as np
import pytest

from fedlearn.conditions import HalfNormal, LogNormal

pytestmark = pytest.mark.backend_free

IDS = [f"client {i}" for i in range(4000)]


def test_half_normal_has_its_mean_and_is_the_trips():
    durations = HalfNormal(scale=3.0)
    times = [durations.seconds("anna", seed, 10) for seed in range(4000)]
    # The mean is scale * sqrt(2 / pi), with a standard error of 0.03.
    assert np.mean(times) == pytest.approx(3.0 * np.sqrt(2 / np.pi), abs=0.12)
    assert min(times) > 0


def test_log_normal_has_slow_and_fast_clients():
    durations = LogNormal(median=60.0, sigma=0.5, spread=0.2)
    logs = np.log([durations.seconds(i, 7, 10) for i in IDS])
    assert np.median(logs) == pytest.approx(
        np.log(60.0) + 0.2 * _drawn(7), abs=0.04
    )
    assert np.std(logs) == pytest.approx(0.5, abs=0.03)
    one = np.log([durations.seconds("anna", seed, 10) for seed in range(4000)])
    assert np.std(one) == pytest.approx(0.2, abs=0.01)
    other = LogNormal(median=60.0, sigma=0.5, spread=0.2, seed=1)
    assert other.seconds("anna", 7, 10) != durations.seconds("anna", 7, 10)


def _drawn(seed):
    steady = LogNormal(sigma=0.0, spread=1.0)
    return np.log(steady.seconds("anyone", seed, 10))


@pytest.mark.parametrize("scale", [0, -1, float("nan"), "a"])
def test_a_scale_is_positive(scale):
    with pytest.raises(ValueError, match="scale"):
        HalfNormal(scale)


def test_however_slow_clients_are_their_times_are_numbers():
    durations = LogNormal(sigma=2000.0)
    assert np.isfinite([durations.seconds(i, 0, 10) for i in IDS[:100]]).all()


def test_who_has_more_takes_longer_at_its_own_speed():
    durations = LogNormal(median=60.0, spread=0.3, num_examples=100)
    alike = LogNormal(median=60.0, spread=0.3)
    for i in IDS[:20]:
        few, many = (durations.seconds(i, 5, n) for n in (10, 1000))
        assert many == pytest.approx(100 * few)
        assert few == pytest.approx(alike.seconds(i, 5, 10) / 10)
        # As for 100 where nobody knows, or may know.
        assert durations.seconds(i, 5, None) == alike.seconds(i, 5, 10)
    with pytest.raises(ValueError, match="num_examples"):
        LogNormal(num_examples=0)
