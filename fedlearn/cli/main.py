"""Finds the command, reads its flags, runs it, and reports mistakes."""

import contextlib
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from absl import app, flags

import fedlearn
from fedlearn.cli import help_text
from fedlearn.cli.command import Command, Values
from fedlearn.cli.errors import UsageError, did_you_mean

COMMANDS = ("train", "evaluate", "report")
_HELP = ("-h", "-?", "-help", "--help", "-helpshort", "--helpshort")
_HELP_FULL = ("-helpfull", "--helpfull")


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
    argv = list(sys.argv if argv is None else argv)
    words = argv[1:]
    if not words or words[0] in (*_HELP, *_HELP_FULL, "help"):
        if len(words) == 2 and words[0] == "help" and words[1] in COMMANDS:
            words = [words[1], "--help"]
        else:
            print(help_text.of_program(map(_command, COMMANDS)))
            sys.exit(0)
    if words[0] == "--version":
        print(f"fedlearn {fedlearn.__version__}")
        sys.exit(0)
    if words[0] not in COMMANDS:
        what = "flag" if words[0].startswith("-") else "command"
        _fail(
            "fedlearn",
            f"there is no {what} {words[0]}."
            + (
                did_you_mean(words[0], COMMANDS)
                or f" Commands are {', '.join(COMMANDS)}."
            ),
        )
    command = _command(words[0])
    parsed: list[Values] = []

    def parse(arguments):
        values, rest = _parse(command, arguments)
        parsed.append(values)
        return rest

    app.run(
        lambda rest: _call(command, parsed[-1], rest[1:]),
        argv=[argv[0], *words[1:]],
        flags_parser=parse,
    )


def _command(name: str) -> Command:
    return importlib.import_module(f"fedlearn.cli.{name}").COMMAND


def _parse(command: Command, argv: Sequence[str]) -> tuple[Values, list[str]]:
    program = f"fedlearn {command.name}"
    own = flags.FlagValues()
    groups = command.define(own)
    app.define_help_flags()
    everything = flags.FLAGS
    try:
        # Of an earlier call in this process, absl remembers values.
        everything.unparse_flags()
        everything.append_flag_values(own)
        # So that flags may follow the run's folder.
        everything.set_gnu_getopt(True)
        before = argv[: argv.index("--")] if "--" in argv else argv
        if any(word in (*_HELP, *_HELP_FULL) for word in before):
            print(help_text.of_command(command, own, groups))
            if any(word in _HELP_FULL for word in before):
                print("\n" + help_text.of_absl(everything, own))
            sys.exit(0)
        try:
            rest = everything(argv)
        except flags.UnrecognizedFlagError as error:
            _fail(
                program,
                f"there is no flag --{error.flagname}."
                + (
                    did_you_mean(error.flagname, list(own), "--")
                    or f" {program} --help lists them."
                ),
            )
        except flags.Error as error:
            _fail(program, str(error).removeprefix("flag "))
    finally:
        with contextlib.suppress(flags.UnrecognizedFlagError, KeyError):
            everything.remove_flag_values(own)
    values = Values(
        {name: own[name].value for name in own},
        {name for name in own if own[name].present},
    )
    num_expected, num_given = len(command.arguments), len(rest) - 1
    if num_given != num_expected:
        extra = " ".join(rest[1 + num_expected :])
        _fail(
            program,
            f"unexpected {extra!r}. Flags are written --name=value."
            if extra
            else f"{' '.join(command.arguments[num_given:])} is missing: "
            f"{help_text.usage(command)}",
        )
    return values, rest


def _call(command: Command, values: Any, rest: Sequence[str]) -> int | None:
    try:
        return command.main(values, rest)
    except KeyboardInterrupt:
        print(file=sys.stderr)  # ends the line of a progress bar
        return 130
    except UsageError as error:
        if values.debug:
            raise
        _fail(f"fedlearn {command.name}", str(error))
    except (ValueError, TypeError, OSError, ImportError) as error:
        # What the library raises about arguments. Should it be a fault of
        # the library after all, --debug shows where.
        if values.debug:
            raise
        _fail("fedlearn", f"{error}\n(--debug shows where this comes from.)")
    return None


def _fail(program: str, text: str) -> None:
    print(f"{program}: error: {text}", file=sys.stderr)
    sys.exit(2)
