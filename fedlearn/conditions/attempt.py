"""A round under conditions: who is in time, from who was asked when."""

from typing import NamedTuple

import numpy as np


class Attempt(NamedTuple):
    """What became of those that could be asked in a round.

    All in seconds, or masks over them; each of those that were `asked` is
    counted, dropped or late.

    Attributes:
        ends: When the round was closed.
        asked: Who asked for work before that.
        counted: Whose update is used.
        dropped: Who was gone before the round ended.
        late: Who was still at work.
        free: When each is through: an end of its work, or of its lease.
        wasted: The work of those that weren't counted, until they were through.
    """

    ends: float
    asked: np.ndarray
    counted: np.ndarray
    dropped: np.ndarray
    late: np.ndarray
    free: np.ndarray
    wasted: float


def attempt(
    begins: np.ndarray,
    works: np.ndarray,
    gone: np.ndarray,
    goal: int,
    deadline: float | None,
) -> Attempt:
    """The first `goal` of the clients to report, in time.

    Args:
        begins: When each gets work, in seconds, ascending.
        works: How long each takes.
        gone: After how long each is gone; infinite for who stays.
        goal: How many reports are waited for.
        deadline: In seconds after the first began; None for none.
    """
    last = np.inf if deadline is None else begins[0] + deadline
    stays = np.isinf(gone)
    reports = np.where(stays, begins + works, np.inf)
    through = np.minimum(begins + np.where(stays, works, gone), last)
    order = np.argsort(reports, kind="stable")
    first = order[:goal]
    first = first[stays[first] & (reports[first] <= last)]
    if len(first) == goal:
        ends = reports[first[-1]]
    elif deadline is None:
        ends = through.max()
    else:
        ends = last
    asked = begins <= ends
    counted = np.zeros(len(begins), bool)
    counted[first] = True
    dropped = asked & ~stays & (begins + gone <= ends)
    late = asked & ~counted & ~dropped
    wasted = float((through - begins)[asked & ~counted].sum())
    return Attempt(float(ends), asked, counted, dropped, late, through, wasted)
