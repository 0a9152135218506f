"""Flags: the help that lists them defines them."""

import math
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from absl import flags as absl_flags

from fedlearn.advice.did_you_mean import did_you_mean
from fedlearn.names import (
    AGGREGATORS,
    ALGORITHMS,
    ENCODERS,
    EXECUTORS,
    OPTIMIZERS,
    Name,
    normal,
    read,
)


class UsageError(Exception):
    """A command line that can't be honoured; its text is all users see."""


class Values(SimpleNamespace):
    """Flags' values by name; `given` are those that somebody chose."""

    given: set[str]


def define(help_text: str) -> absl_flags.FlagValues:
    """The flags that a help lists: `--name=DEFAULT`, `--name=WHAT`, `--name`.

    What is in capitals is no default, but what to write; `--[no]name` is
    neither true nor false by default.

    Example:

    >>> values = define('''
    ...   --rounds=50   how many
    ...   --debug       show tracebacks
    ... ''')
    >>> values.mark_as_parsed()
    >>> values.rounds, values.debug
    (50, False)
    """
    values = absl_flags.FlagValues()
    for no, name, word in re.findall(
        r"^  --(\[no\])?(\w+)(?:=(\S+))?", help_text, re.MULTILINE
    ):
        if not word:
            absl_flags.DEFINE_bool(
                name, None if no else False, "", flag_values=values
            )
            continue
        absl_flags.DEFINE(
            KINDS.get(name, Kind(str)),
            name,
            None if word.isupper() else word,
            "",
            flag_values=values,
            serializer=absl_flags.ArgumentSerializer(),
        )
    return values


class Kind(absl_flags.ArgumentParser):
    """What a flag's value is, by what reads its text."""

    def __init__(self, read: Callable[[str], Any]):
        self._read = read

    def parse(self, argument: Any) -> Any:
        return self._read(str(argument))


def whole(least: int, most: float = math.inf) -> Kind:
    """A whole number, such as of rounds.

    >>> whole(1).parse("ten")
    Traceback (most recent call last):
    ValueError: expected a whole number of at least 1.
    """
    limits = f"of at least {least}"
    if most < math.inf:
        limits = f"from {least} to {most}"
    return _number(int, lambda v: least <= v <= most, f"whole number {limits}")


def positive(or_zero: bool = False) -> Kind:
    """A finite number, such as a learning rate."""
    limits = "of at least 0" if or_zero else "greater than 0"
    return _number(
        float,
        lambda v: 0 < v < math.inf or (or_zero and v == 0),
        f"number {limits}",
    )


def _number(kind: type, fits: Callable[[Any], bool], expected: str) -> Kind:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not fits(value):
            raise ValueError(f"expected a {expected}.")
        return value

    return Kind(parse)


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

    >>> named(ENCODERS, joined=True).parse("Rotation + EDEN:2")
    'rotation+eden:2'
    """

    def parse(text: str) -> str:
        text = normal(text)
        for part in text.split("+") if joined else [text]:
            read(part, names)
        return text

    return Kind(parse)


def wrapped(text: str) -> str:
    """A sentence as lines of a help."""
    lines = textwrap.wrap(text + ".", 73, break_on_hyphens=False)
    return "\n      ".join(lines)


KINDS = {
    "aggregator": named(AGGREGATORS),
    "algorithm": choice(ALGORITHMS),
    "alpha": positive(),
    "batch_size": whole(1),
    "cache_dir": place(),
    "client_learning_rate": positive(),
    "client_optimizer": choice(OPTIMIZERS),
    "clients_per_round": whole(1),
    "compress": named(ENCODERS, joined=True),
    "data": place(),
    "dp_accountant": choice(("rdp", "pld")),
    "dp_clip_norm": positive(),
    "dp_delta": positive(),
    "dp_epsilon": positive(),
    "epochs": whole(1),
    "executor": choice(EXECUTORS),
    "missing": choice(("mean", "median", "zero")),
    "num_clients": whole(1),
    "proximal": positive(or_zero=True),
    "rounds": whole(1),
    "seed": whole(0, 2**63 - 1),
    "server_learning_rate": positive(),
    "server_optimizer": choice(OPTIMIZERS),
    "source": place(words=("synthetic",)),
    "statistics": choice(("average", "local", "frozen")),
    "task": choice(("words", "tags")),
    "validation_freq": whole(0),
    "verbose": whole(0, 2),
}

# Where the data are: after a run they may have been moved.
PLACES = ("source", "cache_dir", "data")
PLACES_HELP = """\
  --source=PLACE
      Read these data instead of the public ones: a file or folder, a file://
      address, or synthetic, a stand-in that is drawn offline.
  --cache_dir=FOLDER
      Where fetched data are kept. By default the environment variable
      FEDLEARN_CACHE, or ~/.keras/fedlearn.
"""
DATA_HELP = """\
  --data=FILE
      Train on this CSV file instead of a --dataset, or on a folder with a
      .csv file for each client; a fifth of each client's rows is for testing.
"""
# What only some data sets take, as arguments of `load_data`.
VARIANTS = (
    "source",
    "cache_dir",
    "only_digits",
    "task",
    "target",
    "num_clients",
    "alpha",
)
VARIANTS_HELP = """\
  --[no]only_digits
      emnist: only the digits, or letters too. By default only digits.
  --task=TASK
      stackoverflow: predict the next of the words, or the tags of a post. By
      default words.
  --target=ATTRIBUTE
      celeba: what to predict, such as eyeglasses. By default smiling.
  --num_clients=N
      digits, synthetic: among how many clients they are divided. By default
      50 and 30.
  --alpha=X
      digits: how alike clients are; small values give each client few digits.
      synthetic: how much they differ. By default 1.0.
"""
DEBUG_HELP = """\
  --debug
      Show tracebacks and what backends log.
"""
