import heapq
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlearn.conditions.attempt import attempt

pytestmark = pytest.mark.backend_free


def by_events(begins, works, gone, goal, deadline):
    """The same, an event at a time, as a server would see it."""
    last = np.inf if deadline is None else begins[0] + deadline
    events = [(begin, 0, k, "begins") for k, begin in enumerate(begins)]
    heapq.heapify(events)
    asked, counted, dropped = set(), set(), set()
    clock = 0.0
    while events and len(counted) < goal:
        clock, _, k, what = heapq.heappop(events)
        if clock > last:
            break
        if what == "begins":
            asked.add(k)
            if gone[k] < np.inf:
                heapq.heappush(events, (clock + gone[k], 1, k, "drops"))
            else:
                heapq.heappush(events, (clock + works[k], 2, k, "reports"))
        elif what == "drops":
            dropped.add(k)
        else:
            counted.add(k)
    if len(counted) < goal and deadline is not None:
        clock = last
    # Whoever begins or drops out at the very moment still does.
    for time, _, k, what in events:
        if time == clock and what == "drops":
            dropped.add(k)
        if time == clock and what == "begins":
            asked.add(k)
            if gone[k] == 0:
                dropped.add(k)
    late = asked - counted - dropped
    wasted = sum(
        min(gone[k] if gone[k] < np.inf else works[k], last - begins[k])
        for k in asked - counted
    )
    return clock, asked, counted, dropped, late, wasted


numbers = st.integers(0, 20).map(float)


@given(
    clients=st.lists(
        st.tuples(numbers, numbers, st.none() | numbers), min_size=1
    ),
    goal=st.integers(1, 6),
    deadline=st.none() | st.integers(1, 30).map(float),
)
def test_it_is_what_happens_event_by_event(clients, goal, deadline):
    clients = sorted(clients, key=lambda c: c[0])
    begins = np.array([c[0] for c in clients])
    works = np.array([c[1] for c in clients])
    gone = np.array(
        [np.inf if c[2] is None else min(c[2], c[1]) for c in clients]
    )
    found = attempt(begins, works, gone, goal, deadline)
    ends, *sets, wasted = by_events(begins, works, gone, goal, deadline)
    assert found.ends == ends
    masks = (found.asked, found.counted, found.dropped, found.late)
    assert [set(np.flatnonzero(m).tolist()) for m in masks] == sets
    assert found.wasted == pytest.approx(wasted)
    total = found.counted | found.dropped | found.late
    assert (total == found.asked).all()


def test_over_selection_ends_at_the_order_statistic():
    # Of 130 log-normal times the 100th has its median near exp of the normal
    # quantile of 100 / 131; waiting for all of 100, near that of 100 / 101.
    rng = np.random.default_rng(0)

    def median(asked):
        ends = [
            attempt(
                np.zeros(asked),
                60 * np.exp(rng.normal(size=asked)),
                np.full(asked, np.inf),
                100,
                None,
            ).ends
            for _ in range(400)
        ]
        return np.median(ends)

    quantile = statistics.NormalDist().inv_cdf
    expected = 60 * np.exp(quantile(100 / 131))
    assert median(130) == pytest.approx(expected, rel=0.03)
    # 60 times exp of the median of the largest of 100.
    expected = 60 * np.exp(quantile(0.5 ** (1 / 100)))
    assert median(100) == pytest.approx(expected, rel=0.06)
