"""The clock of asynchronous rounds, without training anybody."""

import heapq
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlearn import conditions, samplers, seeds
from fedlearn.conditions.fleet import Fleet
from fedlearn.conditions.trips import Trips

pytestmark = pytest.mark.backend_free

IDS = [f"{i:02d}" for i in range(30)]
DAY = 86_400.0


def num_trained(client_id):
    return 1 + int(client_id) % 3


def made(given_, size=3, concurrency=6, max_staleness=None, ids=IDS):
    fleet = Fleet(given_, samplers.MinSeparation(ids, size, 1), ids)
    return Trips(fleet, size, concurrency, max_staleness)


def run(trips, rounds, kept=None, first=0):
    kept = trips.initialize() if kept is None else kept
    found = []
    for round_num in range(first, first + rounds):
        one = trips.round(kept, round_num, 7, num_trained)
        kept = one.kept
        found.append(one)
    return found


def by_events(given_, size, concurrency, max_staleness, rounds):
    """As a server would live it: a check-in, or an end of a trip, at a time."""
    events, days, starts, version = [], itertools.count(), 0, 0
    away, buffer = {}, {}

    def another_day():
        day = next(days)
        for n, i in enumerate(IDS):
            for t in given_.availability.check_ins(i, day):
                heapq.heappush(events, (day * DAY + t, 1, n, i))
        return (day + 1) * DAY

    known, came = another_day(), 0
    told = {"asked": 0, "gone": 0, "late": 0, "wasted": 0}
    while version < rounds:
        while events[0][0] >= known - 1 if events else True:
            known = another_day()
        clock, kind, _, i = heapq.heappop(events)
        if kind == 1:
            if i in away or i in buffer or len(away) == concurrency:
                continue
            key = seeds.fold(7, "start", starts)
            work = given_.durations.seconds(i, key, num_trained(i))
            drops, moment = seeds.uniform(2, key, "drop_out")
            end, how = clock + work, "back"
            if drops < given_.drop_out:
                end, how = clock + moment * work, "gone"
            if end > clock + given_.deadline:
                end, how = clock + given_.deadline, "late"
            away[i] = how, clock, version
            heapq.heappush(events, (end, 0, starts, i))
            starts += 1
            told["asked"] += 1
            continue
        how, began, then = away.pop(i)
        came += how == "back"
        if how == "back" and version - then > max_staleness:
            how = "late"
        if how == "back":
            buffer[i] = then
        else:
            told[how] += 1
            told["wasted"] += clock - began
        if len(buffer) == size:
            yield clock, buffer, {**told, "came": came}
            version, buffer = version + 1, {}
            told = dict.fromkeys(told, 0)


@given(
    size=st.integers(1, 6),
    concurrency=st.integers(1, 12),
    drop_out=st.sampled_from([0.0, 0.4]),
    deadline=st.sampled_from([500.0, 5000.0, 10**9]),
    max_staleness=st.sampled_from([1, 10**9]),
    habit=st.sampled_from([0.0, 0.9]),
)
@settings(max_examples=40)
def test_it_is_what_happens_event_by_event(
    size, concurrency, drop_out, deadline, max_staleness, habit
):
    given_ = conditions.Conditions(
        conditions.Diurnal(0.4, 0.1, habit=habit, check_in=3600.0),
        conditions.LogNormal(600.0, num_examples=2),
        drop_out=drop_out,
        deadline=deadline,
    )
    trips = made(given_, size, concurrency, max_staleness)
    found = run(trips, 8)
    slow = list(by_events(given_, size, concurrency, max_staleness, 8))
    for one, (clock, buffer, told) in zip(found, slow, strict=True):
        assert one.buffer == buffer
        figures = one.figures
        assert figures["sim_hours"] == pytest.approx(clock / 3600)
        assert figures["num_asked"] == told["asked"]
        assert figures["num_dropped"] == told["gone"]
        assert figures["num_late"] == told["late"]
        assert one.in_vain == told["gone"] + told["late"]
        assert int(one.kept["client_trips"]) == told["came"]
        assert figures["wasted_hours"] == pytest.approx(told["wasted"] / 3600)
    counted = trips.fleet.attendance(found[-1].kept).counted
    assert counted == {i: sum(i in b for _, b, _ in slow) for i in IDS}
    # From any round.
    again = run(trips, 5, found[2].kept, first=3)
    assert [a.buffer for a in again] == [b for _, b, _ in slow[3:]]
    assert again[-1].figures == found[-1].figures


def test_where_all_are_there_who_starts_is_drawn_by_the_starts_number():
    given_ = conditions.Conditions(durations=conditions.LogNormal(60.0))
    found = run(made(given_, 20, 8), 4)
    ends, away, starts, clock = [], set(), 0, 0.0
    for one in found:
        buffer = set()
        while len(buffer) < 20:
            while len(away) < min(8, len(IDS) - len(buffer)):
                key = seeds.fold(7, "start", starts)
                drawn = (
                    IDS[seeds.fold(key, "who", n) % len(IDS)]
                    for n in itertools.count()
                )
                i = next(i for i in drawn if i not in away | buffer)
                work = given_.durations.seconds(i, key, num_trained(i))
                heapq.heappush(ends, (clock + work, starts, i))
                away.add(i)
                starts += 1
            clock, _, i = heapq.heappop(ends)
            away.remove(i)
            buffer.add(i)
        assert set(one.buffer) == buffer
        assert one.figures["sim_hours"] == pytest.approx(clock / 3600)


def test_who_takes_long_counts_seldom():
    # With all under way a client of 3 s is back three times as often as one
    # of 9 s.
    ids = ["00", "01", "02"]
    alike = conditions.LogNormal(3.0, sigma=0, spread=0, num_examples=1)
    found = run(made(conditions.Conditions(durations=alike), 1, 3, ids=ids), 22)
    kept = found[-1].kept
    assert float(kept["seconds"]) == 36.0
    assert kept["counted"].tolist() == [12, 6, 4]
    np.testing.assert_array_equal(kept["asked"] - kept["counted"], [0, 1, 1])


def test_other_clients_begin_anew_at_the_same_hour():
    trips = made(conditions.Conditions(durations=60.0))
    kept = run(trips, 3)[-1].kept
    fewer = made(conditions.Conditions(durations=60.0), ids=IDS[:10])
    (one,) = run(fewer, 1, kept, first=3)
    assert one.figures["sim_hours"] > float(kept["seconds"]) / 3600
    assert sum(one.kept["counted"]) == 3


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        (
            conditions.Conditions(drop_out=1.0),
            "only 0 came back.*3,000 dropped",
        ),
        (
            conditions.Conditions(durations=9.0, deadline=1.0),
            "raise `deadline`",
        ),
        (
            conditions.Conditions(conditions.Trace({"nobody": [(0, 1)]})),
            "Round 1 has nobody",
        ),
    ],
)
def test_what_cannot_be(given_, words):
    with pytest.raises(ValueError, match=words):
        run(made(given_), 1)
