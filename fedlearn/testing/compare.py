"""Pytrees of arrays on the host: their shapes, and how they differ."""

from typing import Any

import keras
import numpy as np

from fedlearn import backend
from fedlearn.aggregators.aggregator import layout


class Broken(Exception):  # noqa: N818 (it is the rule that is broken)
    """What was seen that a rule doesn't allow, in a sentence or two."""


def host(tree: Any) -> Any:
    """Copies of all arrays, as NumPy arrays, in the same structure."""
    return keras.tree.map_structure(
        lambda a: np.array(a, copy=True), backend.to_numpy(tree)
    )


def require_same_layout(actual: Any, expected: Any, what: str) -> None:
    """Raises `Broken` if structures, shapes or dtypes differ."""
    found, wanted = layout(actual), layout(expected)
    if type(found) is not type(wanted) or found != wanted:
        raise Broken(f"{what}: expected {wanted}, found {found}.")


def require_same(
    actual: Any, expected: Any, what: str, tolerance: float | None = None
) -> None:
    """Raises `Broken` if two pytrees differ, in bits or by a tolerance.

    It is of the largest magnitude in all of `expected`: encoders may join
    arrays to one vector. Integers must be the same.
    """
    require_same_layout(actual, expected, what)
    actual, expected = (keras.tree.flatten(host(t)) for t in (actual, expected))
    largest = max(map(_magnitude, expected), default=0.0)
    for a, b in zip(actual, expected, strict=True):
        wide, known = _wide(a).ravel(), _wide(b).ravel()
        same = (wide == known) | (np.isnan(wide) & np.isnan(known))
        if tolerance is None:
            ok = a.tobytes() == b.tobytes()
        else:
            margin = 0 if a.dtype.kind in "iub" else tolerance * largest
            ok = np.isclose(wide, known, 0, margin, equal_nan=True).all()
        if not ok:
            at = int(np.argmin(same))
            raise Broken(
                f"{what}: number {at} of {a.size} is {wide[at]:.7g} instead of "
                f"{known[at]:.7g}, and {np.count_nonzero(~same)} in all differ."
            )


def all_finite(tree: Any) -> bool:
    """Whether no number of a pytree of arrays is NaN or infinite."""
    return all(
        np.isfinite(_wide(a)).all() for a in keras.tree.flatten(host(tree))
    )


def l2_norm(tree: Any) -> float:
    """The L2 norm of all arrays together, in float64."""
    return float(
        np.sqrt(sum((_wide(a) ** 2).sum() for a in keras.tree.flatten(tree)))
    )


def _wide(a: np.ndarray) -> np.ndarray:
    # bfloat16 and its like know few of NumPy's functions.
    return a.astype(np.float64)


def _magnitude(a: np.ndarray) -> float:
    if a.dtype.kind in "iub":
        return 0.0
    return float(abs(_wide(a)).max(initial=0, where=np.isfinite(_wide(a))))
