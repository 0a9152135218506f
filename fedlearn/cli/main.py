"""Finds the command, reads its flags, runs it, and reports mistakes."""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from absl import flags as absl_flags

import fedlearn
from fedlearn.advice.did_you_mean import did_you_mean
from fedlearn.cli.flags import UsageError, Values, define

COMMANDS = ("train", "sweep", "evaluate", "report", "datasets")
_ASKS = ("-h", "-?", "-help", "--help", "-helpfull", "--helpfull")
_HELP = """\
fedlearn: federated learning for Keras models

Usage: fedlearn COMMAND [FLAGS]

Commands:
  train     train a model on the clients of a data set
  sweep     try several values of flags, and compare
  evaluate  evaluate a run's model on each test client
  report    draw a run as one picture, report.png
  datasets  list, describe or fetch the data sets

Start here:
  fedlearn train                      # handwritten digits, about a minute
  fedlearn report runs/digits-fedavg  # the run as a picture
  fedlearn datasets                   # what else there is to train on

fedlearn COMMAND --help explains a command and its flags.
fedlearn --version prints the version.
The environment variable KERAS_BACKEND chooses what computes:
tensorflow (the default) or jax."""


def run(argv: Sequence[str] | None = None) -> None:
    """The program `fedlearn`. It ends in `SystemExit`, as programs do.

    The exit code is 0; 2 for a mistake of the user, which is told in one
    line; 130 after Ctrl-C.
    """
    _, *words = sys.argv if argv is None else argv
    try:
        _run(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(file=sys.stderr)  # ends the line of a progress bar
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read has had enough, as in `fedlearn train --help | head`.
        # What is left in the buffer must go somewhere when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(0)


def _run(words: Sequence[str]) -> None:
    if len(words) == 2 and words[0] == "help" and words[1] in COMMANDS:
        words = [words[1], "--help"]
    if not words or words[0] in (*_ASKS, "help"):
        return print(_HELP)
    if words[0] == "--version":
        return print(f"fedlearn {fedlearn.__version__}")
    if words[0] not in COMMANDS:
        what = "flag" if words[0].startswith("-") else "command"
        hint = did_you_mean(words[0], COMMANDS)
        hint = hint or f" Commands are {', '.join(COMMANDS)}."
        _fail("fedlearn", f"there is no {what} {words[0]}.{hint}")
    command = importlib.import_module(f"fedlearn.cli.{words[0]}")
    before = words[: words.index("--")] if "--" in words else words
    if any(word in _ASKS for word in before):
        return print(command.HELP)
    values, arguments = parse(command, words)
    try:
        return command.main(values, arguments)
    except BrokenPipeError:
        raise
    except (UsageError, ValueError, TypeError, OSError, ImportError) as error:
        if values.debug:
            raise
        if isinstance(error, UsageError):
            _fail(f"fedlearn {words[0]}", str(error))
        # What the library raises about arguments. Should it be a fault of
        # the library after all, --debug shows where.
        _fail("fedlearn", f"{error}\n(--debug shows where this comes from.)")


def parse(command: Any, words: Sequence[str]) -> tuple[Values, list[str]]:
    """The flags and arguments of a command; ends the program on mistakes."""
    program, known = f"fedlearn {words[0]}", define(command.HELP)
    known.set_gnu_getopt(True)  # flags may follow the run's folder
    names = list(known)
    try:
        _, *rest = known(list(words))
    except absl_flags.UnrecognizedFlagError as error:
        hint = did_you_mean(error.flagname, names, "--")
        hint = hint or f" {program} --help lists them."
        _fail(program, f"there is no flag --{error.flagname}.{hint}")
    except absl_flags.Error as error:
        _fail(program, str(error).removeprefix("flag "))
    usage = command.HELP.splitlines()[0].removeprefix("Usage: ")
    _, _, *taken, _ = usage.split()
    needed = [name for name in taken if not name.startswith("[")]
    if extra := " ".join(rest[len(taken) :]):
        _fail(program, f"unexpected {extra!r}. Flags are written --name=value.")
    if missing := " ".join(needed[len(rest) :]):
        _fail(program, f"{missing} is missing: {usage}")
    values = Values(**{name: known[name].value for name in names})
    values.given = {name for name in names if known[name].present}
    return values, rest


def _fail(program: str, text: str) -> NoReturn:
    print(f"{program}: error: {text}", file=sys.stderr)
    sys.exit(2)
