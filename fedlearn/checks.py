"""Checks of arguments, and what is said when one is out of range."""

import math
import numbers
from collections.abc import Iterable
from typing import Any

from fedlearn.advice.did_you_mean import did_you_mean


def number(
    name: str,
    value: Any,
    least: float = 0.0,
    meaning: str = "",
    most: float = math.inf,
) -> float:
    """A finite number from `least` to `most`, as a float; else a ValueError.

    >>> number("noise", -1, meaning="its deviation over the clip norm")
    Traceback (most recent call last):
    ValueError: `noise` must be a number of at least 0: its deviation over the \
    clip norm. Received: -1.
    """
    if not (is_real(value) and least <= value <= most and value < math.inf):
        _refuse(name, value, "a number " + _limits(least, most), meaning)
    return float(value)


def positive(name: str, value: Any, meaning: str = "") -> float:
    """A finite number above 0, as a float; as `number`."""
    if not (is_real(value) and 0 < value < math.inf):
        _refuse(name, value, "a finite number above 0", meaning)
    return float(value)


def whole(
    name: str,
    value: Any,
    least: int = 1,
    meaning: str = "",
    most: float = math.inf,
) -> int:
    """A whole number from `least` to `most`, as an int; as `number`.

    >>> whole("bits", 9, most=8)
    Traceback (most recent call last):
    ValueError: `bits` must be a whole number from 1 to 8. Received: 9.
    """
    finite = is_real(value) and value < math.inf
    if not (finite and least <= value <= most and value % 1 == 0):
        _refuse(name, value, "a whole number " + _limits(least, most), meaning)
    return int(value)


def fraction(
    name: str, value: Any, one: bool = True, meaning: str = ""
) -> float:
    """A number above 0 and at most 1 (or below, without `one`), as a float.

    >>> fraction("fraction", 1, one=False)
    Traceback (most recent call last):
    ValueError: `fraction` must be above 0 and below 1. Received: 1.
    """
    if not (is_real(value) and 0 < value <= 1 and (one or value < 1)):
        end = "at most 1" if one else "below 1"
        _refuse(name, value, f"above 0 and {end}", meaning)
    return float(value)


def one_of(
    name: str, value: Any, choices: Iterable[Any], meaning: str = ""
) -> Any:
    """One of some values; as `number`.

    >>> one_of("kind", "means", ("mean", "sum"))
    Traceback (most recent call last):
    ValueError: `kind` must be 'mean' or 'sum'. Received: 'means'. Did you \
mean mean?
    """
    choices = tuple(choices)
    shown = [repr(choice) for choice in choices]
    if repr(value) not in shown:
        *others, last = shown
        either = ", ".join(others) + " or " + last if others else last
        hint = did_you_mean(str(value), map(str, choices))
        _refuse(name, value, either, meaning, hint)
    return value


def instance(name: str, value: Any, kind: type, none: bool = False) -> Any:
    """An instance of a class, or None if `none`; else a TypeError."""
    if not isinstance(value, kind) and not (none and value is None):
        package, _, _ = kind.__module__.rpartition(".")
        raise TypeError(
            f"`{name}` must be a {package}.{kind.__name__}"
            f"{', or None' if none else ''}. Received: {value!r}."
        )
    return value


def is_real(value: Any) -> bool:
    """Whether it is a real number, and no bool."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _limits(least: float, most: float) -> str:
    if most == math.inf:
        return f"of at least {least:g}"
    return f"from {least:g} to {most:g}"


def _refuse(
    name: str, value: Any, expected: str, meaning: str, hint: str = ""
) -> None:
    raise ValueError(
        f"`{name}` must be {expected}{meaning and ': ' + meaning}. "
        f"Received: {value!r}.{hint}"
    )
