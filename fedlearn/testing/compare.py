"""Pytrees of arrays on the host: their shapes, and how they differ."""

from typing import Any

import keras
import numpy as np

from fedlearn import backend
from fedlearn.aggregators.aggregator import layout
from fedlearn.testing.rule import Broken


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


def require_same(actual: Any, expected: Any, what: str) -> None:
    """Raises `Broken` if two pytrees aren't the same, bit for bit."""
    require_same_layout(actual, expected, what)
    for a, b in _pairs(actual, expected):
        if a.tobytes() != b.tobytes():
            raise Broken(f"{what}: {_first_difference(a, b)}")


def require_close(
    actual: Any, expected: Any, tolerance: float, what: str
) -> None:
    """Raises `Broken` if two pytrees differ by more than rounding.

    `tolerance` is of the largest magnitude in all of `expected`: encoders may
    join arrays to one vector.
    """
    require_same_layout(actual, expected, what)
    pairs = list(_pairs(actual, expected))
    largest = max((_magnitude(b) for _, b in pairs), default=0.0)
    for a, b in pairs:
        if not _is_close(a, b, tolerance * largest):
            raise Broken(f"{what}: {_first_difference(a, b)}")


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


def _pairs(actual, expected):
    return zip(
        keras.tree.flatten(host(actual)),
        keras.tree.flatten(host(expected)),
        strict=True,
    )


def _wide(a: np.ndarray) -> np.ndarray:
    # bfloat16 and its like know few of NumPy's functions.
    return a.astype(np.float64)


def _magnitude(a: np.ndarray) -> float:
    if a.dtype.kind in "iub":
        return 0.0
    wide = _wide(a)
    return float(abs(wide[np.isfinite(wide)]).max(initial=0))


def _is_close(a: np.ndarray, b: np.ndarray, margin: float) -> bool:
    if a.dtype.kind in "iub":
        return np.array_equal(a, b)
    a, b = _wide(a), _wide(b)
    seen = np.isfinite(b)
    if not np.array_equal(np.isfinite(a), seen):
        return False
    return bool(abs(a[seen] - b[seen]).max(initial=0) <= margin)


def _first_difference(a: np.ndarray, b: np.ndarray) -> str:
    a, b = _wide(a).ravel(), _wide(b).ravel()
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    at = int(np.argmin(same))
    return (
        f"number {at} of {a.size} is {a[at]:.7g} instead of {b[at]:.7g}, and "
        f"{np.count_nonzero(~same)} in all differ."
    )
