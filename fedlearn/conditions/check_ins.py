"""Who asks for work, in the order of time."""

from collections.abc import Iterator, Sequence

import numpy as np

from fedlearn.conditions.availability import DAY, Availability

MOST_DAYS = 8  # to look ahead
_AT_A_TIME = 1024


class CheckIns:
    """The check-ins of many clients, kept for the days around the clock."""

    def __init__(self, availability: Availability, client_ids: Sequence[str]):
        self._availability = availability
        self._ids = client_ids
        self._days: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def after(self, seconds: float) -> Iterator[tuple[float, int]]:
        """`(when, who)` from a time on, of the next days; `who` a position."""
        today = int(seconds // DAY)
        for day in range(today, today + MOST_DAYS):
            times, who = self._of(day)
            start = int(np.searchsorted(times, seconds))
            for at in range(start, len(times), _AT_A_TIME):
                part = slice(at, at + _AT_A_TIME)
                yield from zip(
                    times[part].tolist(), who[part].tolist(), strict=True
                )

    def _of(self, day: int) -> tuple[np.ndarray, np.ndarray]:
        if day not in self._days:
            found = [self._availability.check_ins(i, day) for i in self._ids]
            who = np.repeat(np.arange(len(found)), list(map(len, found)))
            times = np.array([t for ts in found for t in ts], float)
            self._check(times, who)
            times += day * DAY
            order = np.lexsort((who, times))
            # The day before may still be needed, by a run that is tried again.
            self._days = {d: v for d, v in self._days.items() if d >= day - 1}
            self._days[day] = times[order], who[order]
        return self._days[day]

    def _check(self, times: np.ndarray, who: np.ndarray) -> None:
        wrong = np.flatnonzero(~((times >= 0) & (times < DAY)))
        if len(wrong):
            raise ValueError(
                f"{type(self._availability).__name__}.check_ins gave "
                f"{times[wrong[0]]:g} for {self._ids[who[wrong[0]]]!r}. "
                "Expected seconds since the day's midnight, at least 0 and "
                "below 86,400."
            )
