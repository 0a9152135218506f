"""Finds the command, reads its flags, runs it, and reports mistakes."""

import importlib
import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import NoReturn

from absl import flags as absl_flags

import fedlearn
from fedlearn.advice.did_you_mean import did_you_mean
from fedlearn.cli.flags import Command, UsageError, Values

COMMANDS = ("train", "evaluate", "report", "datasets")
_HELP = ("-h", "-?", "-help", "--help", "-helpfull", "--helpfull")
_WIDTH, _COLUMN = 79, 32  # where explanations begin


def run(argv: Sequence[str] | None = None) -> None:
    """The program `fedlearn`. It ends in `SystemExit`, as programs do.

    The exit code is 0; 2 for a mistake of the user, which is told in one
    line; 130 after Ctrl-C.

    Args:
        argv: The command line; by default that of this process.

    Example:

    >>> run(["fedlearn", "trian"])
    Traceback (most recent call last):
    SystemExit: 2
    """
    _, *words = sys.argv if argv is None else argv
    if len(words) == 2 and words[0] == "help" and words[1] in COMMANDS:
        words = [words[1], "--help"]
    if not words or words[0] in (*_HELP, "help"):
        print(_help())
        sys.exit(0)
    if words[0] == "--version":
        print(f"fedlearn {fedlearn.__version__}")
        sys.exit(0)
    name = words[0]
    if name not in COMMANDS:
        what = "flag" if name.startswith("-") else "command"
        hint = did_you_mean(name, COMMANDS)
        hint = hint or f" Commands are {', '.join(COMMANDS)}."
        _fail("fedlearn", f"there is no {what} {name}.{hint}")
    command = _command(name)
    before = words[: words.index("--")] if "--" in words else words
    if any(word in _HELP for word in before):
        print(_help_of(name, command))
        sys.exit(0)
    values, arguments = parse(name, words)
    sys.exit(_call(name, command, values, arguments))


def _command(name: str) -> Command:
    return importlib.import_module(f"fedlearn.cli.{name}").COMMAND


def parse(name: str, words: Sequence[str]) -> tuple[Values, list[str]]:
    """The flags and arguments of a command; ends the program on mistakes.

    Args:
        name: Of the command.
        words: The command line, with the name.
    """
    command, program = _command(name), f"fedlearn {name}"
    found = command.define()
    found.set_gnu_getopt(True)  # flags may follow the run's folder
    try:
        _, *rest = found(list(words))
    except absl_flags.UnrecognizedFlagError as error:
        hint = did_you_mean(error.flagname, command.names(), "--")
        hint = hint or f" {program} --help lists them."
        _fail(program, f"there is no flag --{error.flagname}.{hint}")
    except absl_flags.Error as error:
        _fail(program, str(error).removeprefix("flag "))
    needed = [a for a in command.arguments if not a.startswith("[")]
    if extra := " ".join(rest[len(command.arguments) :]):
        _fail(program, f"unexpected {extra!r}. Flags are written --name=value.")
    if missing := " ".join(needed[len(rest) :]):
        _fail(program, f"{missing} is missing: {_usage(name, command)}")
    values = Values(**{n: found[n].value for n in command.names()})
    values.given = {n for n in command.names() if found[n].present}
    return values, rest


def _call(
    name: str, command: Command, values: Values, arguments: Sequence[str]
) -> int:
    try:
        command.main(values, arguments)
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        print(file=sys.stderr)  # ends the line of a progress bar
        return 130
    except BrokenPipeError:
        # Whoever read has had enough, as in `fedlearn datasets | head -1`.
        # What is left in the buffer must go somewhere when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except UsageError as error:
        if values.debug:
            raise
        _fail(f"fedlearn {name}", str(error))
    except (ValueError, TypeError, OSError, ImportError) as error:
        # What the library raises about arguments. Should it be a fault of
        # the library after all, --debug shows where.
        if values.debug:
            raise
        _fail("fedlearn", f"{error}\n(--debug shows where this comes from.)")


def _fail(program: str, text: str) -> NoReturn:
    print(f"{program}: error: {text}", file=sys.stderr)
    sys.exit(2)


# Help.


def _help() -> str:
    return "\n".join(
        [
            "fedlearn: federated learning for Keras models",
            "",
            "Usage: fedlearn COMMAND [FLAGS]",
            "",
            "Commands:",
            *(f"  {name:8}  {_command(name).summary}" for name in COMMANDS),
            "",
            "Start here:",
            "  fedlearn train                      # digits, about a minute",
            "  fedlearn report runs/digits-fedavg  # the run as a picture",
            "  fedlearn datasets                   # what else there is",
            "",
            "fedlearn COMMAND --help explains a command and its flags.",
            "fedlearn --version prints the version.",
            "The environment variable KERAS_BACKEND chooses what computes:",
            "tensorflow (the default) or jax.",
        ]
    )


def _help_of(name: str, command: Command) -> str:
    lines = [
        f"Usage: {_usage(name, command)}",
        "",
        *textwrap.wrap(command.description, _WIDTH),
        "",
        "Examples:",
    ]
    for line, what in command.examples:
        lines += [f"  # {what}", f"  {line}"]
    for title, group in command.flags.items():
        lines += ["", f"{title}:"]
        for flag in group:
            if flag.kind is bool:
                # Without a default, both ways say something.
                no = "" if flag.default is False else "[no]"
                left, text = f"  --{no}{flag.name}", flag.text
            else:
                left = f"  --{flag.name}={flag.kind.word}"
                text = flag.text
                if flag.default is not None:
                    text += f" (default: {flag.default})"
            lines += _in_columns(left, text)
    return "\n".join(lines)


def _in_columns(left: str, text: str) -> Iterable[str]:
    first, *rest = textwrap.wrap(
        text,
        _WIDTH - _COLUMN,
        break_long_words=False,
        break_on_hyphens=False,
    )
    if len(left) > _COLUMN - 2:
        yield left
        left = ""
    yield f"{left:{_COLUMN}}{first}"
    for line in rest:
        yield " " * _COLUMN + line


def _usage(name: str, command: Command) -> str:
    return " ".join(["fedlearn", name, *command.arguments, "[FLAGS]"])
