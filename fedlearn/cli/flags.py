"""Flags as tables, with errors that say what was expected."""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from absl import flags as absl_flags

from fedlearn.advice.did_you_mean import did_you_mean
from fedlearn.names import Name, normal, read


class UsageError(Exception):
    """A command line that can't be honoured; its text is all users see."""


class Kind(absl_flags.ArgumentParser):
    """What a flag's value is.

    Args:
        read: From the text of a value; raises ValueError for what isn't one.
        word: What stands for it in the help.
    """

    def __init__(self, read: Callable[[str], Any], word: str = "TEXT"):
        self._read = read
        self.word = word

    def parse(self, argument: str) -> Any:
        return self._read(argument)


class Flag(NamedTuple):
    """A flag: its name, what it does, what it takes (`bool` for none)."""

    name: str
    text: str
    kind: Any = Kind(str)
    default: Any = None


class Command(NamedTuple):
    """A command of `fedlearn`.

    Attributes:
        summary: One line, for the list of commands.
        description: A paragraph or more, for the command's own help.
        main: Runs it, with the flags' values and the arguments.
        flags: By the title under which the help shows them.
        examples: Pairs of a command line and what it does.
        arguments: Names of the arguments besides flags; those that may be
            left out are in brackets and come last.
    """

    summary: str
    description: str
    main: Callable[[Any, Sequence[str]], None]
    flags: Mapping[str, Sequence[Flag]]
    examples: Sequence[tuple[str, str]]
    arguments: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """Of all flags."""
        return [flag.name for group in self.flags.values() for flag in group]

    def define(self) -> absl_flags.FlagValues:
        """The flags, with their defaults."""
        values = absl_flags.FlagValues()
        for flag in (flag for group in self.flags.values() for flag in group):
            if flag.kind is bool:
                absl_flags.DEFINE_bool(
                    flag.name, flag.default, flag.text, flag_values=values
                )
            else:
                absl_flags.DEFINE(
                    flag.kind,
                    flag.name,
                    flag.default,
                    flag.text,
                    flag_values=values,
                    serializer=absl_flags.ArgumentSerializer(),
                )
        return values


class Values(SimpleNamespace):
    """Flags' values by name; `given` are those that somebody chose."""

    given: set[str]


def whole(least: int, most: float = math.inf) -> Kind:
    """A whole number, such as of rounds.

    >>> whole(1).parse("ten")
    Traceback (most recent call last):
    ValueError: expected a whole number of at least 1.
    """
    if most == math.inf:
        expected = f"expected a whole number of at least {least}."
    else:
        expected = f"expected a whole number from {least} to {most}."
    return Kind(
        lambda text: _number(int, text, lambda v: least <= v <= most, expected),
        "N",
    )


def positive(or_zero: bool = False) -> Kind:
    """A finite number, such as a learning rate."""
    limits = "of at least 0" if or_zero else "greater than 0"

    def fits(value: float) -> bool:
        return 0 < value < math.inf or (or_zero and value == 0)

    expected = f"expected a number {limits}."
    return Kind(lambda text: _number(float, text, fits, expected), "X")


def _number(
    kind: type, text: str, fits: Callable[[Any], bool], expected: str
) -> Any:
    try:
        value = kind(text)
    except ValueError:
        raise ValueError(expected) from None
    if not fits(value):
        raise ValueError(expected)
    return value


def choice(names: Iterable[str]) -> Kind:
    """One of some names, in upper or lower case.

    >>> choice(["fedavg", "fedprox"]).parse("FedPox")
    Traceback (most recent call last):
    ValueError: expected one of fedavg, fedprox. Did you mean fedprox?
    """
    names = tuple(names)

    def parse(text: str) -> str:
        if text.lower() not in names:
            raise ValueError(
                f"expected one of {', '.join(names)}."
                + did_you_mean(text, names)
            )
        return text.lower()

    return Kind(parse)


def place(words: Sequence[str] = ()) -> Kind:
    """A file or folder, as an absolute path: a run that goes on in another
    working folder finds it too. `words` and addresses are taken as they are.

    >>> place().parse("/data/../data/emnist/")
    '/data/emnist'
    """

    def parse(text: str) -> str:
        if not text:
            raise ValueError("expected a file or folder.")
        if text in words or "://" in text:
            return text
        return os.path.abspath(os.path.expanduser(text))

    return Kind(parse)


def named(names: Mapping[str, Name], joined: bool = False) -> Kind:
    """A string that stands for an object; several, if they are `joined`.

    >>> from fedlearn.names import ENCODERS
    >>> named(ENCODERS, joined=True).parse("Rotation + EDEN:2")
    'rotation+eden:2'
    """

    def parse(text: str) -> str:
        text = normal(text)
        for part in text.split("+") if joined else [text]:
            read(part, names)
        return text

    return Kind(parse)


DEBUG = Flag("debug", "show tracebacks and what backends log", bool, False)
DATA = Flag(
    "data",
    "train on this CSV file instead of a --dataset, or on a folder with a "
    ".csv file for each client; a fifth of each client's rows is kept for "
    "testing",
    place(),
)
SOURCE = Flag(
    "source",
    "read these data instead of the public ones: a file or folder, a file:// "
    "address, or synthetic, a stand-in that is drawn offline",
    place(words=("synthetic",)),
)
CACHE_DIR = Flag(
    "cache_dir",
    "where fetched data are kept (default: the environment variable "
    "FEDLEARN_CACHE, or ~/.keras/fedlearn)",
    place(),
)
# Where the data are: after a run they may have been moved.
PLACES = (SOURCE, CACHE_DIR, DATA)
# Those that only some data sets take, as arguments of `load_data`; None
# leaves the choice to the data set.
VARIANTS = (
    SOURCE,
    CACHE_DIR,
    Flag(
        "only_digits",
        "emnist: only the digits, or letters too (default: only digits)",
        bool,
    ),
    Flag(
        "task",
        "stackoverflow: predict the next of the words, or the tags of a post "
        "(default: words)",
        choice(("words", "tags")),
    ),
    Flag(
        "target",
        "celeba: the attribute to predict, such as eyeglasses (default: "
        "smiling)",
    ),
    Flag(
        "num_clients",
        "digits, synthetic: among how many clients they are divided (default: "
        "50, 30)",
        whole(1),
    ),
    Flag(
        "alpha",
        "digits: how alike clients are; small values give each client few "
        "digits. synthetic: how much they differ (default: 1.0)",
        positive(),
    ),
)
