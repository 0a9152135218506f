import pytest

from fedlearn import privacy

pytestmark = pytest.mark.backend_free

PLAN = {
    "rounds": 1000,
    "delta": 1e-5,
    "population": 10_000,
    "clients_per_round": 100,
}


def test_published_figure():
    found = privacy.calibrate_noise_multiplier(
        epsilon=2.0, accountant="rdp", **PLAN
    )
    assert found == pytest.approx(1.0224, abs=2e-4)


@pytest.mark.parametrize(
    ("accountant", "epsilon", "extra"),
    [
        ("rdp", 2.0, {}),
        ("rdp", 0.1, {}),
        ("rdp", 3.0, {"sampler": "uniform"}),
        ("rdp", 3.0, {"mechanism": privacy.Tree, "sampler": "round_robin"}),
        ("pld", 3.0, {"sampler": "round_robin"}),
        (
            "pld",
            1.0,
            {
                "sampler": "min_separation",
                "min_separation": 100,
                "mechanism": lambda z: privacy.BandedMatrix(z, [0.8, 0.6]),
            },
        ),
    ],
)
def test_inverts_compute_epsilon(accountant, epsilon, extra):
    arguments = PLAN | extra | {"accountant": accountant}
    least = privacy.calibrate_noise_multiplier(epsilon=epsilon, **arguments)
    spent = privacy.compute_epsilon(noise_multiplier=least, **arguments)
    assert epsilon * (1 - 1e-3) < spent <= epsilon
    less = privacy.compute_epsilon(noise_multiplier=least - 1e-5, **arguments)
    assert less > epsilon


@pytest.mark.slow
def test_sampled_pld():
    plan = PLAN | {"rounds": 1, "population": 200}
    least = privacy.calibrate_noise_multiplier(epsilon=1.0, **plan)
    spent = privacy.compute_epsilon(noise_multiplier=least, **plan)
    assert 0.999 < spent <= 1.0
    assert least < privacy.calibrate_noise_multiplier(
        epsilon=1.0, accountant="rdp", **plan
    )


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"epsilon": 0.0}, "`epsilon` must be a finite number above 0"),
        ({"epsilon": float("inf")}, "`epsilon` must be a finite"),
        ({"rounds": 0}, "`rounds` must be a whole"),
        ({"delta": 2.0}, r"`delta` .* 2\.0"),
        ({"accountant": "gdp"}, "`accountant` .* 'gdp'"),
        ({"clients_per_round": 10_001}, "population has 10,000"),
        (
            {"sampler": "uniform", "accountant": "pld"},
            "doesn't support uniform",
        ),
        (
            {"mechanism": lambda z: privacy.Gaussian(1.0)},
            r"No noise was found.*tried up to",
        ),
    ],
)
def test_errors(changes, match):
    with pytest.raises(ValueError, match=match):
        privacy.calibrate_noise_multiplier(**{"epsilon": 1.0} | PLAN | changes)
