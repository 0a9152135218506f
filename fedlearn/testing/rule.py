"""Rules, and what is said when one is broken."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Broken(Exception):  # noqa: N818 (it is the rule that is broken)
    """What was seen that a rule doesn't allow, in a sentence or two."""


class Rule(NamedTuple):
    """Something that holds for every component of a kind.

    Attributes:
        name: A word or two.
        mend: How to mend what breaks it.
        check: Raises `Broken`, or whatever the component raises, if the
            component on trial breaks it.
    """

    name: str
    mend: str
    check: Callable[[Any], None]


def check_rules(
    subject: Any,
    rules: Sequence[Rule],
    skip: Sequence[str],
    make_trial: Callable[[], Any],
) -> None:
    """Gives each rule's `check` what `make_trial` makes, one after another.

    Raises AssertionError at the first rule that is broken; ValueError if
    `skip` names no rule.

    >>> def positive(number):
    ...     if number <= 0:
    ...         raise Broken(f"It is {number}.")
    >>> rules = [Rule("positive", "Take its magnitude.", positive)]
    >>> check_rules(-3, rules, (), lambda: -3)
    Traceback (most recent call last):
        ...
    AssertionError: int breaks the rule 'positive'. It is -3. Take its
    magnitude.
    """
    names = [rule.name for rule in rules]
    for name in skip:
        if name not in names:
            raise ValueError(
                f"There is no rule {name!r} to skip. Rules are {names}."
            )
    trial = make_trial()
    for rule in rules:
        if rule.name in skip:
            continue
        try:
            rule.check(trial)
        except Exception as error:
            what = str(error)
            if not isinstance(error, Broken):
                what = f"It raised {type(error).__name__}: {error}"
            raise AssertionError(
                f"{type(subject).__name__} breaks the rule {rule.name!r}. "
                f"{what} {rule.mend}"
            ) from error
