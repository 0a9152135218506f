import math

import numpy as np

from fedlearn import checks, seeds
from fedlearn.conditions.availability import DAY, Availability


class Diurnal(Availability):
    """More clients by night than by day.

    Time is cut into pieces of `check_in` seconds. In each, a client that is
    available asks once, at any moment of it. The share of clients that are
    follows a cosine over 24 hours::

        low + (high - low) * (1 + cos(2 pi (hour - peak_hour) / 24)) / 2

    Args:
        high: The share at `peak_hour`, from 0 to 1.
        low: The share twelve hours later.
        peak_hour: From 0 to 24.
        habit: How far it is always the same clients, from 0, everyone as
            likely, to 1: in this share of the pieces a client does what it
            always does at that hour. With 1, all but the share `high` never
            take part.
        check_in: How long a piece is, in seconds; it must divide a day.
        seed: Of who is available when.

    Example:

    >>> diurnal = Diurnal(high=0.4, low=0.1)
    >>> [round(diurnal.share(hour * 3600), 3) for hour in (2, 8, 14)]
    [0.4, 0.25, 0.1]
    >>> diurnal.check_ins("anna", 0) == diurnal.check_ins("anna", 0)
    True
    """

    def __init__(
        self,
        high: float = 0.4,
        low: float = 0.1,
        peak_hour: float = 2.0,
        habit: float = 0.5,
        check_in: float = 1800.0,
        seed: int = 0,
    ):
        self.high = checks.number("high", high, most=1)
        self.low = checks.number("low", low, most=self.high)
        self.peak_hour = checks.number("peak_hour", peak_hour, most=24)
        self.habit = checks.number("habit", habit, most=1)
        self.check_in = checks.positive("check_in", check_in)
        if DAY % self.check_in:
            raise ValueError(
                f"`check_in` must divide a day of 86,400 seconds, such as 600 "
                f"or 1800. Received: {check_in!r}."
            )
        self.seed = checks.whole("seed", seed, least=0)

    def share(self, seconds: float) -> float:
        """The share of all clients that is available at a time.

        Args:
            seconds: Since midnight of day 0.
        """
        return float(self._share(seconds / 3600))

    def check_ins(self, client_id: str, day: int) -> list[float]:
        own = seeds.uniform(1, self.seed, "habit", client_id)
        pieces = round(DAY / self.check_in)
        as_always, anew, moment = seeds.uniform(
            3 * pieces, self.seed, "check_ins", client_id, day
        ).reshape(3, pieces)
        hours = (np.arange(pieces) + 0.5) * self.check_in / 3600
        # Either way a uniform number, so that it is the share.
        number = np.where(as_always < self.habit, own, anew)
        there = number < self._share(hours)
        times = (np.arange(pieces) + moment) * self.check_in
        return times[there].tolist()

    def _share(self, hour):
        wave = np.cos(2 * math.pi * (hour - self.peak_hour) / 24)
        return self.low + (self.high - self.low) * (1 + wave) / 2
