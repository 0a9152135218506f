import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fedlearn import seeds
from fedlearn.conditions.fleet import Fleet

_GONE, _BACK, _LATE = range(3)
_MOST = 1000  # trips, for each that a round waits for


class Trip(NamedTuple):
    """A client that is under way.

    Attributes:
        due: When it comes back, is gone, or is given up.
        start: Its number among all starts.
        round_num: Of the round in which it started.
        began: When that was.
        end: Which of the three it will be.
    """

    due: float
    start: int
    round_num: int
    began: float = 0.0
    end: int = _BACK


class TripsRound(NamedTuple):
    """A round of trips.

    Attributes:
        kept: What they remember after it.
        buffer: Who came back, each with the round in which it started.
        figures: What is logged of it.
        in_vain: How many trips ended without counting.
    """

    kept: Any
    buffer: dict[str, int]
    figures: dict[str, float]
    in_vain: int


class Trips:
    """Clients that start one by one: the clock of asynchronous rounds.

    Args:
        fleet: Who they are, and under which conditions.
        buffer_size: How many a round waits for.
        concurrency: How many are under way at most.
        max_staleness: After how many rounds whoever comes back doesn't count.
    """

    def __init__(
        self,
        fleet: Fleet,
        buffer_size: int,
        concurrency: int,
        max_staleness: int | None = None,
    ):
        self.fleet = fleet
        self.buffer_size = buffer_size
        self.concurrency = concurrency
        self.max_staleness = max_staleness

    def initialize(self) -> Any:
        """What they remember at midnight of the first day."""
        return {
            **self.fleet.initialize(),
            "starts": np.zeros((), np.int64),
            "client_trips": np.zeros((), np.int64),
            "under_way": {},
        }

    def round(
        self,
        kept: Any,
        round_num: int,
        seed: int,
        num_trained: Callable[[str], int | None],
        bytes_down: float = 0.0,
        bytes_up: float = 0.0,
    ) -> TripsRound:
        """The round that follows; what is given isn't changed.

        Raises:
            ValueError: If nobody asks for work, or too few come back.
        """
        kept = self.fleet.of_these_clients(kept)
        ids, places = self.fleet.ids, self.fleet.positions
        clock = float(kept["seconds"])
        first = starts = int(kept["starts"])
        came = int(kept["client_trips"])
        asked, counted = kept["asked"].copy(), kept["counted"].copy()
        under_way = {
            i: Trip(*(part.item() for part in trip))
            for i, trip in kept["under_way"].items()
            if i in places  # else it doesn't come back
        }
        buffer: dict[str, int] = {}
        lost, wasted = {_GONE: 0, _LATE: 0}, 0.0

        def begin(client_id: str, key: int) -> None:
            nonlocal starts
            seconds, end = self._work(
                client_id, key, num_trained(client_id), bytes_down, bytes_up
            )
            under_way[client_id] = Trip(
                clock + seconds, starts, round_num, clock, end
            )
            asked[places[client_id]] += 1
            starts += 1

        def fill() -> None:
            nonlocal clock
            if self.fleet.check_ins is None:
                free = len(ids) - len(buffer)
                while len(under_way) < min(self.concurrency, free):
                    key = seeds.fold(seed, "start", starts)
                    begin(self._drawn({*under_way, *buffer}, key), key)
                return
            # Until there is no room, or one comes back before the next asks.
            for when, place in self.fleet.check_ins.after(clock):
                next_due = min(
                    (t.due for t in under_way.values()), default=when
                )
                if len(under_way) == self.concurrency or (
                    under_way and when >= next_due
                ):
                    return
                if ids[place] not in under_way and ids[place] not in buffer:
                    clock = when
                    begin(ids[place], seeds.fold(seed, "start", starts))

        fill()
        for _ in range(_MOST * self.buffer_size):
            if not under_way:
                raise ValueError(self.fleet.nobody(round_num, clock))
            client_id = min(under_way, key=lambda i: under_way[i][:2])
            trip = under_way.pop(client_id)
            clock = trip.due
            came += trip.end == _BACK
            is_fresh = (
                self.max_staleness is None
                or round_num - trip.round_num <= self.max_staleness
            )
            if trip.end == _BACK and is_fresh:
                buffer[client_id] = trip.round_num
                counted[places[client_id]] += 1
            else:
                lost[_GONE if trip.end == _GONE else _LATE] += 1
                wasted += clock - trip.began
            if len(buffer) == self.buffer_size:
                break
            # All that come back at a moment do so before anyone starts anew.
            if all(other.due != clock for other in under_way.values()):
                fill()
        else:
            raise ValueError(
                f"Round {round_num + 1} waits for {self.buffer_size:,} clients,"
                f" and of {_MOST * self.buffer_size:,} only {len(buffer):,} "
                f"came back in time; {lost[_GONE]:,} dropped out. Lower "
                "`drop_out`, or raise `deadline` or `max_staleness`."
            )
        kept = {
            **kept,
            "seconds": np.asarray(clock),
            "starts": np.asarray(starts, np.int64),
            "client_trips": np.asarray(came, np.int64),
            "asked": asked,
            "counted": counted,
            "under_way": {
                i: tuple(map(np.asarray, trip)) for i, trip in under_way.items()
            },
        }
        figures = {
            "sim_hours": clock / 3600,
            "num_asked": float(starts - first),
            "num_dropped": float(lost[_GONE]),
            "num_late": float(lost[_LATE]),
            "wasted_hours": wasted / 3600,
        }
        return TripsRound(kept, buffer, figures, sum(lost.values()))

    def _work(self, client_id: str, key: int, *task: Any) -> tuple[float, int]:
        """After how many seconds a trip ends, and how."""
        conditions = self.fleet.conditions
        seconds = conditions.seconds(client_id, key, *task)
        ends = [
            conditions.leaves_after(seconds, key),
            seconds,
            math.inf if conditions.deadline is None else conditions.deadline,
        ]
        return min(ends), ends.index(min(ends))

    def _drawn(self, busy: set[str], seed: int) -> str:
        """One of the clients that aren't busy, each as likely."""
        ids = self.fleet.ids
        for attempt in itertools.count():
            client_id = ids[seeds.fold(seed, "who", attempt) % len(ids)]
            if client_id not in busy:
                break
        return client_id
