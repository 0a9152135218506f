"""Flags: the help that lists them defines them."""

import contextlib
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from absl import flags as absl_flags

from fedlearn import checks
from fedlearn.names import (
    AGGREGATORS,
    ALGORITHMS,
    CONDITIONS,
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
    neither true nor false by default; `--name=DEFAULT,...` takes several
    values, a list.

    >>> values = define("  --rounds=50   how many")
    >>> values.mark_as_parsed()
    >>> values.rounds
    50
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
        kind = KINDS.get(name, Kind(str))
        if word.endswith(",..."):
            word, kind = word.removesuffix(",..."), several(kind)
        absl_flags.DEFINE(
            kind,
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


def several(kind: Kind) -> Kind:
    """Values separated by commas, a list."""
    return Kind(lambda text: [kind.parse(part) for part in text.split(",")])


def number(name: str, check: Callable[..., Any], **limits: Any) -> Kind:
    """A number, by one of `fedlearn.checks`."""

    def parse(text: str) -> Any:
        value: Any = text
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                value = kind(text)
                break
        return check(name, value, **limits)

    return Kind(parse)


def choice(name: str, choices: Iterable[str]) -> Kind:
    """One of some words, in upper or lower case."""
    words = tuple(choices)
    return Kind(lambda text: checks.one_of(name, text.lower(), words))


def place(text: str) -> str:
    """A file or folder, absolute: a run goes on in another working folder."""
    if not text:
        raise ValueError("expected a file or folder.")
    if text == "synthetic" or "://" in text:
        return text
    return os.path.abspath(os.path.expanduser(text))


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


_POSITIVE = "alpha client_learning_rate dp_clip_norm dp_delta dp_epsilon"
_WHOLE = "batch_size clients_per_round epochs num_clients rounds"
_WORDS: Mapping[str, Iterable[str]] = {
    "client_optimizer": OPTIMIZERS,
    "dp_accountant": ("rdp", "pld"),
    "executor": EXECUTORS,
    "missing": ("mean", "median", "zero"),
    "server_optimizer": OPTIMIZERS,
    "statistics": ("average", "local", "frozen"),
    "task": ("words", "tags"),
}
KINDS = {
    "aggregator": named(AGGREGATORS),
    "algorithm": named(ALGORITHMS),
    "conditions": named(CONDITIONS),
    "compress": named(ENCODERS, joined=True),
    "proximal": number("proximal", checks.number),
    "seed": number("seed", checks.whole, least=0),
    "server_learning_rate": number("server_learning_rate", checks.positive),
    "validation_freq": number("validation_freq", checks.whole, least=0),
    "verbose": number("verbose", checks.one_of, choices=(0, 1, 2)),
    **{name: Kind(place) for name in ("cache_dir", "data", "source")},
    **{name: number(name, checks.positive) for name in _POSITIVE.split()},
    **{name: number(name, checks.whole) for name in _WHOLE.split()},
    **{name: choice(name, words) for name, words in _WORDS.items()},
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
    *("source", "cache_dir", "only_digits", "task", "target"),
    *("num_clients", "alpha"),
)
VARIANTS_HELP = """\
  --[no]only_digits   emnist: only the digits (the default), or letters too.
  --task=TASK         stackoverflow: predict the next of the words, or tags.
  --target=ATTRIBUTE  celeba: what to predict, such as eyeglasses; or smiling.
  --num_clients=N     digits, synthetic: among how many they are divided.
  --alpha=X           digits: how alike clients are; small: few digits each.
                      synthetic: how much they differ. By default 1.0.
"""
DEBUG_HELP = """\
  --debug             Show tracebacks and what backends log.
"""
