"""What an epsilon costs is bounded, and who gave it is named."""

import math

import pytest

from fedlearn import privacy, samplers
from fedlearn.encoders import BandedMatrixNoise
from fedlearn.privacy.accountant import Accountant

pytestmark = pytest.mark.backend_free

IDS = [f"{i:03d}" for i in range(100)]


def composition(noise_multiplier, rounds=100, probability=0.1):
    sampler = samplers.Poisson(IDS, 100 * probability)
    mechanism = privacy.Gaussian(noise_multiplier)
    return privacy.Guarantee(mechanism, sampler).composition(rounds)


def gaussian_delta(epsilon, sigma):
    """Balle and Wang 2018, theorem 8."""
    normal = lambda x: 0.5 * math.erfc(-x / math.sqrt(2))  # noqa: E731
    return normal(0.5 / sigma - epsilon * sigma) - math.exp(epsilon) * normal(
        -0.5 / sigma - epsilon * sigma
    )


@pytest.mark.parametrize("noise_multiplier", [0.1, 1.0, 30.0])
def test_noise_without_sampling_is_one_gaussian(noise_multiplier):
    guarantee = privacy.Guarantee(
        privacy.Gaussian(noise_multiplier),
        privacy.Participation("full", 50),
        delta=1e-5,
    )
    spent = guarantee.epsilon(64, "pld")
    sigma = noise_multiplier / 8
    if spent < 500:  # exp doesn't overflow
        assert gaussian_delta(spent, sigma) == pytest.approx(1e-5, rel=1e-4)
    assert spent <= guarantee.epsilon(64, "rdp")


def test_coarser_points_are_nearly_as_good():
    dp = pytest.importorskip("dp_accounting")
    fine = dp.pld.PLDAccountant().compose(
        dp.PoissonSampledDpEvent(0.1, dp.GaussianDpEvent(0.25)), 20
    )
    ours = Accountant().epsilon(composition(0.25, 20), 1e-3, "pld")[0]
    assert ours == pytest.approx(fine.get_epsilon(1e-3), rel=1e-5)


@pytest.mark.parametrize("rounds", [1, 100, 100_000])
@pytest.mark.parametrize("noise_multiplier", [1e-8, 1e-3, 0.03, 0.3, 1.0])
def test_points_are_few_whatever_the_noise(noise_multiplier, rounds):
    """A bound on work and not on time: the number of points."""
    run = composition(noise_multiplier, rounds)
    interval = Accountant()._interval(run)
    loss = 1 / (2 * noise_multiplier**2) + 10 / noise_multiplier
    assert loss / interval <= 2**18 * 1.001
    by_rdp, _ = Accountant().epsilon(run, 1e-15, "rdp")
    assert 4 * by_rdp / interval <= 2**21 * 1.001
    assert interval >= 1e-4


def test_the_rdp_bound_is_given_and_named_where_pld_cannot_be_had():
    sampler = samplers.Poisson(IDS, 10)
    guarantee = privacy.Guarantee(privacy.Gaussian(1e-4), sampler, 1e-3)
    statement = guarantee.statement(100)
    assert statement.accountant == "rdp"
    assert "accountant RDP" in str(statement)
    assert statement.epsilon == guarantee.epsilon(100, "rdp")
    with pytest.raises(ValueError, match=r"Use accountant=.rdp"):
        guarantee.epsilon(100, "pld")
    plan = dict(rounds=100, delta=1e-3, population=100, clients_per_round=10)
    assert (
        privacy.compute_epsilon(noise_multiplier=1e-4, **plan)
        == statement.epsilon
    )


@pytest.mark.parametrize(
    "guarantee",
    [
        lambda: privacy.Guarantee(
            privacy.Gaussian(0.03), samplers.Poisson(IDS, 10)
        ),
        lambda: privacy.Guarantee(
            BandedMatrixNoise(0.1, bands=4).dp_event(),
            samplers.RoundRobin(IDS, 10),
        ),
        lambda: privacy.Guarantee(
            BandedMatrixNoise(0.1, bands=1).dp_event(),
            privacy.Participation("full", 100),
        ),
    ],
    ids=["gaussian", "banded", "banded_everyone"],
)
def test_little_noise_has_its_statement(guarantee):
    """These took minutes and gigabytes."""
    statement = guarantee().statement(100)
    assert statement.accountant == "pld"
    assert 0 < statement.epsilon <= guarantee().epsilon(100, "rdp")
