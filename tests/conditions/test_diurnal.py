import itertools

import numpy as np
import pytest

from fedlearn.conditions import Diurnal, Phones

pytestmark = pytest.mark.backend_free

IDS = [f"client {i}" for i in range(1500)]


def by_hour(diurnal, days=1):
    """Which share of the clients asks, for each hour."""
    found = [h for i in IDS for d in range(days) for h in hours(diurnal, i, d)]
    return np.bincount(found, minlength=24) / len(IDS) / days


def hours(diurnal, client_id, day):
    return [int(t // 3600) for t in diurnal.check_ins(client_id, day)]


@pytest.mark.parametrize("habit", [0.0, 0.7, 1.0])
def test_as_many_ask_as_it_says(habit):
    diurnal = Diurnal(0.5, 0.1, 4.0, habit=habit, check_in=3600.0)
    expected = [diurnal.share(3600 * (h + 0.5)) for h in range(24)]
    # A standard error of 0.013 at most.
    np.testing.assert_allclose(by_hour(diurnal), expected, atol=0.05)
    assert max(expected) == pytest.approx(0.5, abs=0.01)


def test_habits_leave_clients_out():
    def took_part(habit):
        diurnal = Diurnal(0.4, 0.1, habit=habit, seed=3)
        return np.mean([any(diurnal.check_ins(i, 0)) for i in IDS])

    assert took_part(0.0) > 0.99
    assert took_part(1.0) == pytest.approx(0.4, abs=0.05)


def test_a_day_is_cut_into_pieces_in_each_of_which_a_client_asks_once():
    diurnal = Diurnal(1.0, 1.0, check_in=600.0)
    times = diurnal.check_ins("anna", 2)
    assert [int(t // 600) for t in times] == list(range(144))
    assert times == Diurnal(1.0, 1.0, check_in=600.0).check_ins("anna", 2)
    others = [diurnal.check_ins(i, d) for i, d in [("anna", 3), ("ben", 2)]]
    others.append(
        Diurnal(1.0, 1.0, check_in=600.0, seed=1).check_ins("anna", 2)
    )
    for a, b in itertools.combinations([times, *others], 2):
        assert not set(a) & set(b)


def test_phones_are_four_times_as_many_by_night():
    phones = Phones().availability
    assert phones.share(2 * 3600) / phones.share(14 * 3600) == pytest.approx(4)
    assert Phones(seed=1) != Phones(seed=2)
    assert Phones.from_config(Phones(at_least=0.5).get_config()).at_least == 0.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"high": 1.5}, "high"),
        ({"high": 0.2, "low": 0.3}, "low"),
        ({"habit": 2}, "habit"),
        ({"check_in": 7000}, "divide a day"),
        ({"peak_hour": 25}, "peak_hour"),
    ],
)
def test_errors(arguments, words):
    with pytest.raises(ValueError, match=words):
        Diurnal(**arguments)
