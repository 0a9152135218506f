"""The clock, who is there, and who counts, without training anybody."""

import functools
import heapq
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedlearn as fl
from fedlearn import conditions, samplers, seeds
from fedlearn.conditions.simulated_rounds import SimulatedRounds
from fedlearn.messages.server_state import ServerState

pytestmark = pytest.mark.backend_free

DAY = 86_400.0


class Untrained:
    """What a process is to a schedule, without a model."""

    def __init__(
        self, noise=None, num_required=1, adds_noise=False, rejected=0
    ):
        def check_cohort(num_clients):
            if num_clients < num_required:
                raise ValueError("too few")

        self.aggregator = SimpleNamespace(
            noise=noise, num_required=num_required, check_cohort=check_cohort
        )
        self.client = SimpleNamespace(
            adds_noise=adds_noise, num_trained=lambda n: 5 * n
        )
        self.program = SimpleNamespace(bytes_up=lambda: 500_000)
        self.rejected = rejected
        self.cohorts = []

    def build(self, spec):
        pass

    def broadcast(self, state):
        pass

    def bytes_down(self, broadcast):
        return 2_000_000

    def next(self, state, clients):
        self.cohorts.append(list(clients))
        state = state._replace(round_num=state.round_num + 1)
        number = float(len(clients))
        return state, {
            "num_clients": number - self.rejected,
            "num_rejected": float(self.rejected),
            "bytes_up": 100_000 * number,  # in fact they are shorter
            "bytes_down": 2_000_000 * number,
        }


def clients(total, sizes=(1, 2, 3)):
    arrays = [np.zeros((n, 1), "float32") for n in sizes]
    return fl.FederatedDataset.from_clients(
        {f"{i:03d}": (arrays[i % len(sizes)],) * 2 for i in range(total)}
    )


DATA = clients(40)


def run(given, sampler, rounds=5, data=DATA, kept=None, first=0, **process):
    """The cohorts, metrics by round and attendance of some rounds."""
    process = Untrained(**process)
    schedule = SimulatedRounds(given, sampler, process, data)
    kept = schedule.initialize() if kept is None else kept
    state = ServerState(*[()] * 5, first, 7, schedule=kept)
    logs = []
    for _ in range(rounds):
        state, metrics, _ = schedule.next(process, state, data)
        logs.append(metrics)
    return SimpleNamespace(
        cohorts=process.cohorts,
        kept=state.schedule,
        attendance=schedule.facts(state)["attendance"],
        **{n: [m[n] for m in logs] for n in logs[0]},
    )


def uniform(goal, data=DATA):
    return samplers.Uniform(data, goal, seed=3)


@pytest.mark.parametrize(
    "sampler",
    [
        uniform(5),
        uniform(30),
        samplers.RoundRobin(DATA, 7),
        samplers.MinSeparation(DATA, 5, min_separation=3),
        None,
    ],
)
def test_without_conditions_it_is_what_the_sampler_draws(sampler):
    found = run(conditions.Conditions(), sampler)
    drawn = [
        list(DATA.client_ids) if sampler is None else sampler.sample(r)
        for r in range(5)
    ]
    assert found.cohorts == drawn
    assert found.sim_hours == [0.0] * 5
    assert found.num_asked == [float(len(d)) for d in drawn]
    assert found.bytes_down == [2e6 * n for n in found.num_asked]
    zero = [0.0] * 5
    for name in ("num_dropped", "num_late", "num_abandoned", "wasted_hours"):
        assert getattr(found, name) == zero


@functools.cache
def day_of(habit, day):
    availability = conditions.Diurnal(0.5, 0.1, habit=habit, check_in=3600.0)
    return [
        (day * DAY + t, 0, i)
        for i in DATA.client_ids
        for t in availability.check_ins(i, day)
    ]


def by_events(habit, given, goal, rounds, data=DATA, seed=7):
    """Rounds as a server would live them, a check-in, a report at a time."""
    clock, at_work = 0.0, dict.fromkeys(data.client_ids, 0.0)
    for round_num in range(rounds):
        for number in range(100):
            key = (seed, "conditions", round_num, number)
            today = int(clock // DAY)
            events = [
                e
                for day in range(today, today + 3)
                for e in day_of(habit, day)
                if e[0] >= clock
            ]
            heapq.heapify(events)
            wanted = int(np.ceil(given.over_select * goal - 1e-9))
            asked, reported, last, dropped = {}, [], np.inf, set()
            while len(reported) < goal:
                time, kind, i = heapq.heappop(events)
                if time > last:
                    break
                clock = time
                if kind == 0:
                    if len(asked) == wanted or i in asked:
                        continue
                    if at_work[i] > time:
                        continue
                    if not asked:
                        last = time + given.deadline
                    asked[i] = time
                    work = given.durations.seconds(
                        i, seeds.fold(*key, i), 5 * data.num_examples(i)
                    )
                    drop, moment = seeds.uniform(
                        2, seeds.fold(*key, i), "drop_out"
                    )
                    stays = drop >= given.drop_out
                    end = time + (work if stays else moment * work)
                    at_work[i] = min(end, last)
                    heapq.heappush(events, (end, 1 if stays else 2, i))
                elif kind == 1:
                    reported.append(i)
                else:
                    dropped.add(i)
            if len(reported) < goal:
                clock = last
            closed = len(reported) >= given.at_least * goal
            in_vain = set(asked) - (set(reported) if closed else set())
            wasted = sum(at_work[i] - asked[i] for i in in_vain)
            yield number, clock, asked, dropped, set(reported), wasted
            if closed:
                break


@given(
    goal=st.integers(1, 12),
    over_select=st.sampled_from([1.0, 1.3, 2.0]),
    drop_out=st.sampled_from([0.0, 0.3]),
    deadline=st.sampled_from([900.0, 5000.0, 20_000.0]),
    at_least=st.sampled_from([0.1, 0.4]),
    habit=st.sampled_from([0.0, 0.9]),
)
@settings(max_examples=25)
def test_it_is_what_happens_event_by_event(goal, habit, **arguments):
    availability = conditions.Diurnal(0.5, 0.1, habit=habit, check_in=3600.0)
    given_ = conditions.Conditions(
        availability,
        conditions.LogNormal(60.0, num_examples=10),
        **arguments,
    )
    rounds = list(by_events(habit, given_, goal, rounds=4))
    found = run(given_, uniform(goal), rounds=4)
    closed = [r for r in rounds if len(r[4]) >= given_.at_least * goal]
    assert [set(c) for c in found.cohorts] == [r[4] for r in closed]
    np.testing.assert_allclose(
        np.array(found.sim_hours) * 3600, [r[1] for r in closed]
    )
    assert found.num_abandoned == [float(r[0]) for r in closed]
    assert sum(found.num_asked) == sum(len(r[2]) for r in rounds)
    assert sum(found.num_dropped) == sum(len(r[3]) for r in rounds)
    assert sum(found.wasted_hours) * 3600 == pytest.approx(
        sum(r[5] for r in rounds)
    )
    times = sum(found.attendance.asked.values())
    assert times == sum(found.num_asked)


def test_it_goes_on_from_any_round():
    whole = run(conditions.Phones(seed=2), uniform(6), rounds=6)
    for first in (1, 4):
        one = run(conditions.Phones(seed=2), uniform(6), rounds=first)
        two = run(
            conditions.Phones(seed=2),
            uniform(6),
            rounds=6 - first,
            kept=one.kept,
            first=first,
        )
        assert one.cohorts + two.cohorts == whole.cohorts
        assert one.sim_hours + two.sim_hours == whole.sim_hours
        assert two.attendance == whole.attendance


def test_what_a_client_does_depends_on_no_other():
    # Those that are in both data sets ask at the same times and take as long.
    given_ = conditions.Conditions(
        conditions.Diurnal(seed=1), conditions.LogNormal(60.0), drop_out=0.2
    )
    few = clients(20)
    everyone = run(given_, None, rounds=1, data=few)
    some = run(given_, None, rounds=1, data=few.select(few.client_ids[::-2]))
    assert set(some.cohorts[0]) == set(everyone.cohorts[0]) & set(
        few.client_ids[::-2]
    )


def test_as_many_drop_out_as_it_says():
    found = run(
        conditions.Conditions(durations=60.0, drop_out=0.1, over_select=1.3),
        uniform(20),
        rounds=100,
    )
    # Of 26 asked so many are gone before the rest reports, at 60 s: all of
    # them. 2,600 coins: a standard error of 0.006.
    assert sum(found.num_dropped) / 2600 == pytest.approx(0.1, abs=0.025)
    np.testing.assert_allclose(np.diff([0, *found.sim_hours]), 1 / 60)
    # They are gone at a uniform moment, so after half their work; and those
    # that are left beyond 20 worked in vain.
    late = sum(found.num_late)
    half = sum(found.num_dropped) / 2
    assert sum(found.wasted_hours) == pytest.approx(
        (late + half) / 60, rel=0.05
    )


def test_a_round_with_too_few_is_tried_again_with_others():
    given_ = conditions.Conditions(
        durations=60.0, drop_out=0.5, deadline=100.0, at_least=0.7
    )
    found = run(given_, uniform(10), rounds=30)
    assert sum(found.num_abandoned) > 5
    assert min(found.num_clients) >= 7
    number = int(np.argmax(found.num_abandoned))
    attempts = 1 + found.num_abandoned[number]
    assert found.num_asked[number] == 10 * attempts
    took = np.diff([0, *found.sim_hours])[number] * 3600
    # All but the last lasted until the deadline.
    assert took >= 100 * (attempts - 1)
    asked = found.attendance.asked.values()
    assert sum(asked) == sum(found.num_asked)
    # As if the rule that adds up needed so many.
    given_ = conditions.Conditions(durations=60.0, drop_out=0.5, deadline=100.0)
    needed = run(given_, uniform(10), rounds=30, num_required=7)
    assert needed.cohorts == found.cohorts


def test_who_is_still_at_work_is_not_asked_again():
    slow, quick = "slow", "quick"

    class Durations(conditions.Durations):
        def seconds(self, client_id, seed, num_examples):
            return 100.0 if client_id == slow else 30.0

    one = np.zeros((1, 1), "float32")
    data = fl.FederatedDataset.from_clients(
        {slow: (one, one), quick: (one, one)}
    )
    found = run(
        conditions.Conditions(durations=Durations(), over_select=2.0),
        samplers.Uniform(data, 1),
        rounds=5,
        data=data,
    )
    assert found.cohorts == [[quick]] * 5
    # Both at 0; quick alone at 30 and 60; at 90, and slow again at 100.
    assert found.num_asked == [2.0, 1.0, 1.0, 2.0, 1.0]
    assert found.attendance.never == (slow,)


def test_the_network_is_as_slow_as_what_is_sent():
    network = conditions.Network(download=16, upload=4, sigma=0)
    given_ = conditions.Conditions(durations=10.0, network=network)
    found = run(given_, uniform(5), rounds=3)
    # 16 Mbit down, and 4 Mbit up; then 0.8, as the round before has measured.
    seconds = np.diff([0, *found.sim_hours]) * 3600
    np.testing.assert_allclose(seconds, [10 + 1 + 1, 10 + 1.2, 10 + 1.2])
    # Rejected updates were as long; behind noise nothing shows how long.
    rejected = run(given_, uniform(5), rounds=3, rejected=1)
    assert rejected.sim_hours == found.sim_hours
    noisy = run(given_, uniform(5), rounds=3, noise="server")
    seconds = np.diff([0, *noisy.sim_hours]) * 3600
    np.testing.assert_allclose(seconds, [10 + 1 + 1] * 3)
    logs = [
        np.log(conditions.Network(16, 4, sigma=0.7).seconds(str(i), 1e6, 1e5))
        for i in range(1000)
    ]
    assert np.median(logs) == pytest.approx(np.log(0.7), abs=0.07)
    assert np.std(logs) == pytest.approx(0.7, abs=0.05)


def test_whoever_was_asked_has_downloaded():
    given_ = conditions.Conditions(drop_out=0.3, over_select=1.5)
    found = run(given_, uniform(10))
    assert found.num_asked == [15.0] * 5
    assert found.bytes_down == [30e6] * 5
    assert found.bytes_up == [1e5 * n for n in found.num_clients]


ALIKE = conditions.LogNormal(60.0, sigma=0, spread=0, num_examples=100)


def test_training_takes_as_long_as_a_client_has_examples():
    # 8 clients of 10, 20, ..., 80 examples, in 5 epochs: 0.6 s for each time
    # that an example is trained on.
    sizes = np.arange(10, 90, 10)
    data, seconds = clients(8, sizes), 0.6 * 5 * sizes
    given_ = conditions.Conditions(durations=ALIKE)
    found = run(given_, None, rounds=1, data=data)
    np.testing.assert_allclose(found.sim_hours, [240 / 3600])
    # Of eight the first four count, which is those that have least.
    given_ = conditions.Conditions(durations=ALIKE, over_select=2.0)
    found = run(given_, uniform(4, data), rounds=1, data=data)
    np.testing.assert_allclose(found.sim_hours, [120 / 3600])
    assert found.attendance.never == data.client_ids[4:]
    assert found.num_late == [4.0]
    np.testing.assert_allclose(found.wasted_hours, [seconds[4:].sum() / 3600])
    # With a deadline those that have much never count.
    given_ = conditions.Conditions(durations=ALIKE, deadline=100.0)
    found = run(given_, None, rounds=3, data=data)
    assert found.cohorts == [list(data.client_ids[:3])] * 3
    np.testing.assert_allclose(found.wasted_hours, [5 * 100 / 3600] * 3)
    # What noise hides must not show in who the others are.
    found = run(given_, None, rounds=1, data=data, noise="server")
    assert found.cohorts == [list(data.client_ids)]
    np.testing.assert_allclose(found.sim_hours, [60 / 3600])


def test_without_training_clients_have_as_many_examples_as_one_says():
    given_ = conditions.Conditions(durations=ALIKE, over_select=2.0)
    data = clients(8, np.arange(10, 90, 10))
    told = {i: 5 * data.num_examples(i) for i in data}
    for who, hours in ((data, 24), (told, 120), (list(told), 60)):
        found = conditions.simulate(given_, who, 1, 4)
        np.testing.assert_allclose(found.history["sim_hours"], [hours / 3600])


def test_bias_shows():
    times = {
        i: [(3600.0 * k, 3600.0 * (k + 1))]
        for k, i in enumerate(DATA)
        if k < 20
    }
    given_ = conditions.Conditions(
        conditions.Trace(times, check_in=600.0), durations=60.0
    )
    found = run(given_, uniform(1), rounds=240)
    assert found.attendance.never == DATA.client_ids[20:]
    # Each of the twenty hours has one client, and six check-ins of it.
    assert sum(found.attendance.counted.values()) == 240
    assert set(list(found.attendance.counted.values())[:20]) == {12}
    assert found.attendance.share_of_most_frequent(0.5) == 1.0
    assert "20 of 40 clients never took part" in str(found.attendance)


def test_the_clock_moves_on_to_when_somebody_is_there():
    trace = conditions.Trace({"003": [(3600 * 30, 3600 * 31)]}, repeat_days=7)
    found = run(conditions.Conditions(trace), uniform(1), rounds=3)
    assert found.cohorts == [["003"]] * 3
    assert found.sim_hours == [30.0, 30.0, 30.0]
    slow = conditions.Conditions(trace, durations=7200.0)
    found = run(slow, uniform(1), rounds=2)
    assert found.sim_hours == [32.0, 30.0 + 7 * 24 + 2]


def test_conditions_of_rounds_so_far_go_on_with_other_clients():
    given_ = conditions.Conditions(durations=60.0)
    first = run(given_, uniform(5), rounds=3)
    fewer = DATA.select(DATA.client_ids[:10])
    found = run(
        given_, uniform(5, fewer), rounds=1, data=fewer, kept=first.kept
    )
    assert found.sim_hours == pytest.approx([4 / 60])
    assert sum(found.attendance.counted.values()) == 5


def test_noise_of_clients_is_asked_for_once_a_round():
    given_ = conditions.Conditions(
        durations=60.0, drop_out=0.3, deadline=60.0, at_least=0.8
    )
    found = run(given_, uniform(5), rounds=5, adds_noise=True)
    assert max(found.num_abandoned) >= 1
    assert max(found.attendance.asked.values()) <= 5
    with pytest.raises(ValueError, match="each is asked once a round"):
        run(given_, uniform(38), rounds=5, adds_noise=True)


class Late(conditions.Availability):
    def check_ins(self, client_id, day):
        return [90_000.0]


@pytest.mark.parametrize(
    ("given_", "sampler", "process", "words"),
    [
        (
            conditions.Conditions(durations=60.0, deadline=30.0),
            uniform(5),
            {},
            r"Round 1 was abandoned 1,000 times.*1 clients must report.*"
            r"quickest takes 60 s of a deadline of 30 s",
        ),
        (conditions.Conditions(drop_out=1.0), uniform(5), {}, "5 dropped out"),
        (
            conditions.Conditions(conditions.Trace({"nobody": [(0, 1)]})),
            uniform(5),
            {},
            "has nobody: within 8 days after hour 0.0.*must be those of `data`",
        ),
        (
            conditions.Conditions(),
            samplers.Poisson(DATA, 5),
            {},
            "a fixed number; Poisson draws a varying one",
        ),
        (
            conditions.Conditions(at_least=0.9),
            uniform(20),
            {"noise": "clients"},
            r"all of its 20 clients. Set at_least=1\.0",
        ),
        (conditions.Conditions(), uniform(2), {"num_required": 3}, "too few"),
        (
            conditions.Conditions(Late()),
            uniform(5),
            {},
            "Late.check_ins gave 90000 for '000'.*below 86,400",
        ),
        (
            conditions.Conditions(durations={"001": 60.0}),
            None,
            {},
            "`seconds of '000'` must be a number of at least 0",
        ),
    ],
)
def test_what_cannot_be(given_, sampler, process, words):
    with pytest.raises(ValueError, match=words):
        run(given_, sampler, **process)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"drop_out": 1.5}, "drop_out"),
        ({"over_select": 0.9}, "over_select"),
        ({"over_select": 130}, "from 1 to 10: 1.3 asks 130 clients where 100"),
        ({"durations": {"anna": -1}}, r"durations\['anna'\]"),
        ({"deadline": 0}, "deadline"),
        ({"at_least": 2}, "at_least"),
        ({"durations": -1}, "durations"),
        ({"network": 3}, "network"),
        ({"availability": 0.5}, "availability"),
    ],
)
def test_arguments(arguments, words):
    with pytest.raises((ValueError, TypeError), match=words):
        conditions.Conditions(**arguments)
