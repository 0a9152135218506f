import dataclasses
from collections.abc import Mapping

from fedlearn import checks


@dataclasses.dataclass(frozen=True)
class Attendance:
    """Who took part in a simulated run, and who never did.

    `history.attendance`, after `fit(..., conditions=...)`.

    Attributes:
        asked: How often each client got work, by its id.
        counted: How often its update was waited for and used.

    Example:

    >>> attendance = Attendance(
    ...     asked={"anna": 4, "ben": 2, "cleo": 0},
    ...     counted={"anna": 3, "ben": 1, "cleo": 0},
    ... )
    >>> attendance.never
    ('cleo',)
    >>> attendance.share_of_most_frequent(1 / 3)
    0.75
    >>> print(attendance)
    1 of 3 clients never took part; the most frequent 10 % did 75 % of the work
    """

    asked: Mapping[str, int]
    counted: Mapping[str, int]

    @property
    def never(self) -> tuple[str, ...]:
        """The clients none of whose updates was used."""
        return tuple(i for i, times in self.counted.items() if not times)

    def share_of_most_frequent(self, share: float = 0.1) -> float:
        """The share of all updates that so many of the clients sent.

        Equal to `share`, or little above it, where all take part alike.

        Args:
            share: Of the clients, those that sent most; at least one.
        """
        checks.number("share", share, most=1)
        times = sorted(self.counted.values(), reverse=True)
        most = sum(times[: max(1, round(share * len(times)))])
        return most / max(sum(times), 1)

    def __str__(self) -> str:
        done = 100 * self.share_of_most_frequent(0.1)
        return (
            f"{len(self.never):,} of {len(self.counted):,} clients never took "
            f"part; the most frequent 10 % did {done:.0f} % of the work"
        )
