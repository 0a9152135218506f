import math
import os
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np

from fedlearn import checks
from fedlearn.conditions.availability import DAY, Availability
from fedlearn.data.formats.csv_file import table
from fedlearn.data.formats.format_error import FormatError

_COLUMNS = ("client", "start", "end")


class Trace(Availability):
    """When clients were available once, again and again.

    Args:
        times: From a client's id to its `(start, end)`, in seconds since
            midnight of the first day. Who isn't in it is never available.
        repeat_days: After how many days it begins again; None for the whole
            days that it covers.
        check_in: While it is available a client asks at its start, and then
            every so many seconds.

    Raises:
        ValueError: If an `end` isn't after its `start`, or beyond the days.

    Example:

    >>> trace = Trace({"anna": [(3600, 7200)]}, check_in=1800)
    >>> trace.check_ins("anna", day=5)
    [3600.0, 5400.0]
    >>> trace.check_ins("ben", day=5)
    []
    """

    def __init__(
        self,
        times: Mapping[str, Sequence[Sequence[float]]],
        repeat_days: int | None = None,
        check_in: float = 1800.0,
    ):
        try:
            self.times = {
                str(client): [[float(a), float(b)] for a, b in windows]
                for client, windows in times.items()
            }
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                "`times` must be a dict from clients' ids to lists of (start, "
                f"end), such as {{'anna': [(3600, 7200)]}}: {error}."
            ) from error
        self.check_in = checks.positive("check_in", check_in)
        last = 0.0
        for client, windows in self.times.items():
            for start, end in windows:
                if not 0 <= start < end < math.inf:
                    raise ValueError(_not_a_window(client, start, end))
                last = max(last, end)
        if not last:
            raise ValueError(
                "The trace has nobody. Expected a client's times, such as "
                "{'anna': [(3600, 7200)]}."
            )
        covered = math.ceil(last / DAY)
        if repeat_days is not None:
            checks.whole(
                "repeat_days",
                repeat_days,
                least=covered,
                meaning=f"the trace's last second is {last:g}",
            )
        self.repeat_days = repeat_days
        self._days = repeat_days or covered

    @classmethod
    def from_csv(
        cls,
        path: str | os.PathLike[str],
        repeat_days: int | None = None,
        check_in: float = 1800.0,
    ) -> Self:
        """A trace from a CSV file: a line for each time of a client.

        Args:
            path: Its columns are `client`, `start` and `end`, in seconds
                since midnight of the first day; others are passed over.
            repeat_days: As of `Trace`.
            check_in: As of `Trace`.

        Raises:
            fedlearn.data.FormatError: If it isn't such a file, with the line.
        """
        rows = table(path, ",")
        missing = [c for c in _COLUMNS if c not in rows.columns]
        if missing:
            raise FormatError(
                f"{path}, line 1: there is no column "
                f"{' and no column '.join(missing)}. Expected the columns "
                f"client,start,end. Received: {rows.columns}."
            )
        times: dict[str, list[tuple[float, float]]] = {}
        cells = zip(*map(rows.read, _COLUMNS), rows.lines, strict=True)
        for client, start, end, line in cells:
            try:
                fits = client and 0 <= float(start) < float(end) < math.inf
            except ValueError:
                fits = False
            if not fits:
                raise FormatError(
                    f"{path}, line {line}: expected a client's id and seconds "
                    f"with 0 <= start < end. Received: {client=}, {start=}, "
                    f"{end=}."
                )
            times.setdefault(client, []).append((float(start), float(end)))
        return cls(times, repeat_days, check_in)

    def check_ins(self, client_id: str, day: int) -> list[float]:
        begins = day % self._days * DAY
        found: set[float] = set()
        for start, end in self.times.get(client_id, ()):
            first = max(0, math.ceil((begins - start) / self.check_in))
            until = min(end, begins + DAY)
            moments = np.arange(
                start + first * self.check_in, until, self.check_in
            )
            found.update(np.maximum(moments - begins, 0.0).tolist())
        return sorted(found)


def _not_a_window(client: str, start: float, end: float) -> str:
    return (
        f"{client!r} is available from {start:g} to {end:g}. Expected "
        "seconds with 0 <= start < end."
    )
