import dataclasses

import keras
import numpy as np
import pytest

from benchmarks import audit
from fedlearn.privacy.audit import canary_epsilon

dp_accounting = pytest.importorskip("dp_accounting")
stats = pytest.importorskip("scipy.stats")

DIMENSION = 10_000
DELTA = 1e-5


def cosines(mean, deviation=1.0, number=400):
    """As evenly spread as a Gaussian; in deviations of those not there."""
    x = stats.norm.ppf((np.arange(number) + 0.5) / number)
    scaled = mean + deviation * x / x.std(ddof=1)
    return scaled / DIMENSION**0.5


@pytest.mark.backend_free
@pytest.mark.parametrize("noise", [0.5, 1.0, 4.0])
def test_the_estimate_is_the_gaussian_mechanism_s(noise):
    found = canary_epsilon(cosines(1 / noise), DIMENSION, DELTA)
    expected = dp_accounting.get_epsilon_gaussian(noise, DELTA)
    assert found.estimate == pytest.approx(expected, rel=1e-4)


@pytest.mark.backend_free
def test_the_estimate_of_a_wider_distribution():
    # A client that isn't there in every run: its cosines spread more.
    deviation = 1.5
    found = canary_epsilon(cosines(0.0, deviation), DIMENSION, DELTA).estimate
    # N(0, s^2) exceeds exp(epsilon) * N(0, 1) outside of [-x, x].
    x = np.sqrt(2 * (found + np.log(deviation)) / (1 - deviation**-2))
    inside, outside = stats.norm.sf(x), stats.norm.sf(x / deviation)
    left_over = 2 * (outside - np.exp(found) * inside)
    assert left_over == pytest.approx(DELTA, rel=1e-3)


@pytest.mark.backend_free
def test_the_lower_bound_by_hand():
    # In three dimensions a random direction's cosine is uniform: it is above
    # 0.8 once in 10 times, above 0.98 once in 100 times.
    def bound(cosine, number=50):
        return canary_epsilon([cosine] * number, 3, DELTA, 0.9).lower_bound

    right = (0.1 / 10) ** (1 / 50) - DELTA  # all of 50; ten thresholds
    assert bound(0.79) == 0
    assert bound(0.81) == pytest.approx(np.log(right / 0.1))
    assert bound(0.97) == pytest.approx(np.log(right / 0.1))
    assert bound(0.99) == pytest.approx(np.log(right / 0.01))
    assert bound(0.99, number=2) < bound(0.99)


@pytest.mark.statistical
@pytest.mark.backend_free
def test_the_lower_bound_holds():
    # Each of these is wrong with a probability of 1e-6 at most.
    rng = np.random.default_rng(0)
    for mu in (0.0, 0.5, 2.0):
        truth = dp_accounting.get_epsilon_gaussian(1 / mu, DELTA) if mu else 0
        for _ in range(20):
            sample = (mu + rng.normal(size=500)) / DIMENSION**0.5
            found = canary_epsilon(sample, DIMENSION, DELTA, 1 - 1e-6)
            assert found.lower_bound <= truth


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"cosines": [0.1]}, r"2 or more canaries.*\(1,\)"),
        ({"cosines": [[0.1, 0.2]]}, r"shape \(1, 2\)"),
        ({"cosines": [0.1, 1.5]}, r"contains 1\.5.*both lengths"),
        ({"cosines": [0.1, np.nan]}, "contains nan.*did not change"),
        ({"dimension": 1}, "`dimension` must be"),
        ({"delta": 0.0}, "delta"),
        ({"confidence": 1.0}, "`confidence` must be"),
    ],
)
def test_errors(changes, match):
    arguments = {"cosines": [0.1, 0.2], "dimension": 10, "delta": DELTA}
    with pytest.raises(ValueError, match=match):
        canary_epsilon(**arguments | changes)


@pytest.mark.statistical
@pytest.mark.backend_free
def test_the_estimate_is_too_high_with_few_canaries():
    # As the docstring says: a deviation fitted to few makes tails too long.
    truth = dp_accounting.get_epsilon_gaussian(1 / 1.5, DELTA)
    rng = np.random.default_rng(0)

    def mean_of_estimates(number):
        estimates = []
        for _ in range(10):
            sample = (1.5 + rng.normal(size=number)) / 1e6**0.5
            estimates.append(canary_epsilon(sample, 10**6, DELTA).estimate)
        return np.mean(estimates) / truth

    assert 1.04 < mean_of_estimates(400) < 1.2  # 1.11, deviation 0.025
    assert abs(mean_of_estimates(40_000) - 1) < 0.03


# The audit of benchmarks/audit.py, with fewer clients that learn. A right one
# is refuted with a probability of 1e-4 at most, see there.
# Noise is the same on both backends, and here it would mostly be compiled.
@pytest.mark.backend_free
@pytest.mark.statistical
@pytest.mark.slow
@pytest.mark.parametrize("name", audit.CASES)
def test_what_is_right_keeps_to_its_claim_and_bugs_are_caught(name):
    keras.utils.clear_session()
    case = audit.CASES[name]
    case = case._replace(plan=dataclasses.replace(case.plan, clients=5))
    found, claimed = audit.found(case)
    assert (found.lower_bound > claimed) == case.wrong
    # And the attack isn't blind.
    assert found.estimate > claimed / 4
