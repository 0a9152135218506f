"""Finds the command, reads its flags, runs it, and reports mistakes."""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from absl import app, flags

import fedlearn
from fedlearn.advice.did_you_mean import did_you_mean
from fedlearn.cli import help_text
from fedlearn.cli.command import Command, Values
from fedlearn.cli.errors import UsageError

COMMANDS = ("train", "evaluate", "report", "datasets")
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
    values = flags.FlagValues()
    groups = command.define(values)
    own = list(values)
    # Flags of the command's own first, so that nothing else in the process
    # that defines flags, such as a model's module, gets in their way.
    app.define_help_flags()
    flags.FLAGS.unparse_flags()  # what an earlier call in this process set
    for module, absl_flags in flags.FLAGS.flags_by_module_dict().items():
        for flag in absl_flags if module.startswith("absl") else ():
            if flag.name not in values:
                values[flag.name] = flag
    flags.FLAGS.mark_as_parsed()
    values.set_gnu_getopt(True)  # flags may follow the run's folder
    before = argv[: argv.index("--")] if "--" in argv else argv
    if any(word in (*_HELP, *_HELP_FULL) for word in before):
        print(help_text.of_command(command, values, groups))
        if any(word in _HELP_FULL for word in before):
            print("\n" + help_text.of_absl(flags.FLAGS, own))
        sys.exit(0)
    try:
        rest = values(argv)
    except flags.UnrecognizedFlagError as error:
        _fail(
            program,
            f"there is no flag --{error.flagname}."
            + (
                did_you_mean(error.flagname, own, "--")
                or f" {program} --help lists them."
            ),
        )
    except flags.Error as error:
        _fail(program, str(error).removeprefix("flag "))
    needed = [a for a in command.arguments if not a.startswith("[")]
    num_given = len(rest) - 1
    if not len(needed) <= num_given <= len(command.arguments):
        extra = " ".join(rest[1 + len(command.arguments) :])
        _fail(
            program,
            f"unexpected {extra!r}. Flags are written --name=value."
            if extra
            else f"{' '.join(needed[num_given:])} is missing: "
            f"{help_text.usage(command)}",
        )
    parsed = Values(
        {name: values[name].value for name in own},
        {name for name in own if values[name].present},
    )
    return parsed, rest


def _call(command: Command, values: Any, rest: Sequence[str]) -> int | None:
    try:
        code = command.main(values, rest)
        sys.stdout.flush()
        return code
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
        _fail(f"fedlearn {command.name}", str(error))
    except (ValueError, TypeError, OSError, ImportError) as error:
        # What the library raises about arguments. Should it be a fault of
        # the library after all, --debug shows where.
        if values.debug:
            raise
        _fail("fedlearn", f"{error}\n(--debug shows where this comes from.)")
    return None


def _fail(program: str, text: str) -> NoReturn:
    print(f"{program}: error: {text}", file=sys.stderr)
    sys.exit(2)
