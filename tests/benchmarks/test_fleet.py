import numpy as np
import pytest

from benchmarks import fleet

pytestmark = pytest.mark.backend_free


@pytest.mark.statistical
def test_the_paper_says_what_the_simulator_does():
    """Some 200 rounds a day, so a standard error of 5 %, of three allowed."""
    phones = fleet.fleet(0.5, check_in=3600.0, drop_out=0.08)
    paper = [
        hour["rounds_per_hour"] for hour in fleet.by_the_day(phones, 600, 16)
    ]
    found = fleet.simulated(phones, 600, 16, days=1)
    assert sum(paper) == pytest.approx(found.sum(), rel=0.12)
    # More by night, on paper and in the simulator.
    for day in (paper, found):
        assert np.mean(day[:5]) > 1.2 * np.mean(day[12:17])


def test_a_billion_phones_are_as_quick_by_day_as_by_night():
    phones = fleet.fleet(0.1, check_in=3600.0, drop_out=0.08)
    day = fleet.by_the_day(
        phones, 10**9, 1000, draws=1000, bytes_down=4e6, bytes_up=4e6
    )
    # 1,000 of 1,300 that start at once and stay with probability 0.92: the
    # round lasts as long as that quantile of the phones.
    seconds = [phones.seconds(str(i), i, None, 4e6, 4e6) for i in range(1000)]
    quantile = np.quantile(seconds, 1000 / 1300 / 0.92)
    for hour in day:
        assert hour["round_seconds"] == pytest.approx(quantile, rel=0.02)
        up = 1000 * 4e6 / hour["round_seconds"]
        assert hour["up_per_second"] == pytest.approx(up)
        assert hour["down_per_second"] == pytest.approx(1.3 * up, rel=0.02)
    most = 10**9 * 0.1 / 3600
    assert max(h["check_ins_per_second"] for h in day) == pytest.approx(
        most, rel=0.01
    )


def test_tails_of_poisson_numbers():
    assert fleet.at_least(3.0, 0) == 1.0
    assert fleet.at_least(3.0, 2) == pytest.approx(1 - 4 * np.exp(-3.0))
    assert fleet.at_least(2000.0, 2000) == pytest.approx(0.5, abs=0.02)
