"""The hyper-parameters that a search tries."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedlearn import checks, seeds

Candidate = dict[str, Any]
"""Values of hyper-parameters by name, for `build(**candidate)`."""


def candidates(
    space: Any, num_candidates: int | None, seed: int
) -> list[Candidate]:
    """All combinations of a space's values, or so many that are drawn.

    >>> candidates({"epochs": [1, 5], "momentum": [0.9]}, None, seed=0)
    [{'epochs': 1, 'momentum': 0.9}, {'epochs': 5, 'momentum': 0.9}]
    """
    if not space or not isinstance(space, Mapping | list):
        raise ValueError(
            "`space` must be a dict from hyper-parameters to lists of values "
            "or (low, high, 'log') ranges, or a list of dicts, and not empty. "
            f"Received: {space!r}."
        )
    if isinstance(space, list):
        found = [dict(candidate) for candidate in space]
    else:
        values = {name: _values(name, v) for name, v in space.items()}
        if any(isinstance(v, tuple) for v in values.values()):
            return _drawn(values, num_candidates, seed)
        found = [
            dict(zip(values, combination, strict=True))
            for combination in itertools.product(*values.values())
        ]
    if num_candidates is None:
        return found
    order = seeds.permutation(len(found), seed, "search", "candidates")
    kept = order[: checks.whole("num_candidates", num_candidates)]
    return [found[i] for i in sorted(kept)]


def _values(name: str, values: Any) -> list[Any] | tuple[Any, Any, str]:
    """A list of values, or a range as a tuple."""
    if isinstance(values, tuple) and values[-1:] in (("log",), ("linear",)):
        if len(values) == 3 and all(map(checks.is_real, values[:2])):
            low, high, scale = values
            if low < high and (low > 0 or scale == "linear"):
                return values
        raise ValueError(
            f"The range of {name!r} must be (low, high, 'log') or (low, high, "
            "'linear') with low < high, and above 0 for 'log'. Received: "
            f"{values!r}."
        )
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ValueError(
            f"The values of {name!r} must be a list, such as [{values!r}], or "
            f"a range such as (0.001, 1.0, 'log'). Received: {values!r}."
        )
    if not values:
        raise ValueError(f"There are no values of {name!r} to try.")
    return list(values)


def _drawn(
    values: Mapping[str, Any], num_candidates: int | None, seed: int
) -> list[Candidate]:
    if num_candidates is None:
        raise ValueError(
            "A space with a range has no end of candidates. Say how many to "
            "draw: `num_candidates=20`; for a grid give lists of values."
        )
    count = checks.whole("num_candidates", num_candidates)
    columns = {}
    for name, choices in values.items():
        shares = seeds.uniform(count, seed, "search", name)
        if isinstance(choices, list):
            columns[name] = [choices[int(s * len(choices))] for s in shares]
        else:
            columns[name] = [_at(float(share), *choices) for share in shares]
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _at(share: float, low: float, high: float, scale: str) -> float:
    """A share of the way from low to high; whole between whole numbers."""
    if scale == "log":
        value = low * math.exp(share * math.log(high / low))
    else:
        value = low + share * (high - low)
    if isinstance(low, int) and isinstance(high, int):
        return round(value)
    # More digits than make a difference are hard to read.
    return min(max(float(f"{value:.3g}"), low), high)
