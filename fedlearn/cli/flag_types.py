"""Kinds of flag values, with errors that say what was expected."""

import math
import os
from collections.abc import Mapping, Sequence

from absl import flags

from fedlearn.advice.did_you_mean import did_you_mean
from fedlearn.names import Name, normal, read


class Whole(flags.ArgumentParser):
    """A whole number, such as of rounds.

    Args:
        at_least: The smallest that is taken.
        at_most: The largest.

    Example:

    >>> Whole(at_least=1).parse("10")
    10
    >>> Whole(at_least=1).parse("ten")
    Traceback (most recent call last):
    ValueError: expected a whole number of at least 1.
    """

    def __init__(self, at_least: int, at_most: int | None = None):
        self._at_least = at_least
        self._at_most = at_most

    def parse(self, argument):
        try:
            value = int(argument)
        except (TypeError, ValueError):
            value = None
        if (
            value is None
            or value < self._at_least
            or (self._at_most is not None and value > self._at_most)
        ):
            if self._at_most is None:
                limits = f"of at least {self._at_least}"
            else:
                limits = f"from {self._at_least} to {self._at_most}"
            raise ValueError(f"expected a whole number {limits}.")
        return value

    def flag_type(self):
        return "int"


class Positive(flags.ArgumentParser):
    """A finite number, such as a learning rate.

    Args:
        or_zero: Whether 0 is taken too.

    Example:

    >>> Positive().parse("0.1")
    0.1
    """

    def __init__(self, or_zero: bool = False):
        self._or_zero = or_zero

    def parse(self, argument):
        try:
            value = float(argument)
        except (TypeError, ValueError):
            value = math.nan
        fits = value >= 0 if self._or_zero else value > 0
        if not fits or math.isinf(value):
            limits = "of at least 0" if self._or_zero else "greater than 0"
            raise ValueError(f"expected a number {limits}.")
        return value

    def flag_type(self):
        return "float"


class Choice(flags.ArgumentParser):
    """One of some names, in upper or lower case.

    Example:

    >>> Choice(["fedavg", "fedprox"]).parse("FedAvg")
    'fedavg'
    >>> Choice(["fedavg", "fedprox"]).parse("fedpox")
    Traceback (most recent call last):
    ValueError: expected one of fedavg, fedprox. Did you mean fedprox?
    """

    def __init__(self, names: Sequence[str]):
        self.names = tuple(names)

    def parse(self, argument):
        name = str(argument).lower()
        if name not in self.names:
            raise ValueError(
                f"expected one of {', '.join(self.names)}."
                + did_you_mean(name, self.names)
            )
        return name

    def flag_type(self):
        return "string"


class Place(flags.ArgumentParser):
    """A file or folder, as an absolute path: a run that goes on in another
    working folder finds it too.

    Args:
        words: What is taken as it is; addresses are too.

    Example:

    >>> Place(words=["synthetic"]).parse("synthetic")
    'synthetic'
    >>> Place().parse("/data/../data/emnist/")
    '/data/emnist'
    """

    def __init__(self, words: Sequence[str] = ()):
        self._words = tuple(words)

    def parse(self, argument):
        text = str(argument)
        if not text:
            raise ValueError("expected a file or folder.")
        if text in self._words or "://" in text:
            return text
        return os.path.abspath(os.path.expanduser(text))

    def flag_type(self):
        return "string"


class Named(flags.ArgumentParser):
    """One of some recipes by its name, with its numbers.

    Args:
        recipes: By name.
        joined: Whether several may be joined with `+`.

    Example:

    >>> recipes = {"eden": Name("fedlearn.encoders:Eden", (), ("bits",))}
    >>> Named(recipes).parse("EDEN:2")
    'eden:2'
    >>> Named(recipes).parse("edn:2")
    Traceback (most recent call last):
    ValueError: there is no 'edn'. Expected eden[:BITS]. Did you mean eden?
    """

    def __init__(self, recipes: Mapping[str, Name], joined: bool = False):
        self._recipes = recipes
        self._joined = joined

    def parse(self, argument):
        text = normal(str(argument))
        for part in text.split("+") if self._joined else [text]:
            read(part, self._recipes)
        return text

    def flag_type(self):
        return "string"


def define(
    values: flags.FlagValues,
    name: str,
    default: object,
    text: str,
    parser: flags.ArgumentParser | None = None,
) -> None:
    """Defines a flag of one of these kinds; without a parser, of text.

    Args:
        values: Where to.
        name: Without dashes.
        default: Its value where it isn't given; None where that depends.
        text: What it does, for the help.
        parser: One of these kinds.
    """
    flags.DEFINE(
        parser or flags.ArgumentParser(),
        name,
        default,
        text,
        flag_values=values,
        serializer=flags.ArgumentSerializer(),
    )
