"""The text of `--help`, grouped, with defaults and examples."""

import textwrap
from collections.abc import Iterable, Sequence

from absl import flags

from fedlearn.cli.command import Command, Group

_WIDTH = 79
_COLUMN = 32  # where explanations begin


def of_program(commands: Iterable[Command]) -> str:
    """What `fedlearn --help` prints."""
    commands = list(commands)
    width = max(len(c.name) for c in commands)
    lines = [
        "fedlearn: federated learning for Keras models",
        "",
        "Usage: fedlearn COMMAND [FLAGS]",
        "",
        "Commands:",
        *(f"  {c.name:{width}}  {c.summary}" for c in commands),
        "",
        "Start here:",
        *_examples(
            [
                ("fedlearn train", "handwritten digits, about a minute"),
                ("fedlearn report runs/digits-fedavg", "the run as a picture"),
                ("fedlearn datasets", "what else there is to train on"),
            ]
        ),
        "",
        "fedlearn COMMAND --help explains a command and its flags.",
        "fedlearn --version prints the version.",
        "The environment variable KERAS_BACKEND chooses what computes:",
        "tensorflow (the default) or jax.",
    ]
    return "\n".join(lines)


def of_command(
    command: Command, values: flags.FlagValues, groups: Sequence[Group]
) -> str:
    """What `fedlearn COMMAND --help` prints."""
    lines = [
        f"Usage: {usage(command)}",
        "",
        *command.description.strip().splitlines(),
        "",
        "Examples:",
        *_examples(command.examples),
    ]
    for group in groups:
        lines += ["", f"{group.title}:"]
        for name in group.names:
            lines += _flag(values[name])
    lines += ["", "--helpfull also lists absl's flags: logging, debugger."]
    return "\n".join(lines)


def of_absl(values: flags.FlagValues, own: Iterable[str]) -> str:
    """The flags that `--helpfull` adds: those of absl's modules."""
    own = set(own)
    lines = ["Flags of absl:"]
    for module, module_flags in sorted(values.flags_by_module_dict().items()):
        if not module.startswith("absl"):
            continue
        for flag in sorted(module_flags, key=lambda flag: flag.name):
            if flag.name not in own and flag.help:
                lines += _flag(flag)
    return "\n".join(lines)


def usage(command: Command) -> str:
    """The line that shows how a command is called."""
    return " ".join(["fedlearn", command.name, *command.arguments, "[FLAGS]"])


def _flag(flag: flags.Flag) -> list[str]:
    if flag.boolean:
        # Without a default, both ways say something.
        no = "" if flag.default is False else "[no]"
        left = f"  --{no}{flag.name}"
    else:
        kind = {"int": "N", "float": "X"}.get(flag.flag_type(), "TEXT")
        left = f"  --{flag.name}={kind}"
    text = " ".join(flag.help.split())
    if not flag.boolean and flag.default is not None:
        text += f" (default: {flag.default})"
    wrapped = textwrap.wrap(
        text,
        _WIDTH - _COLUMN,
        break_long_words=False,
        break_on_hyphens=False,
    )
    if len(left) > _COLUMN - 2:
        return [left, *(" " * _COLUMN + line for line in wrapped)]
    first, *rest = wrapped
    return [
        f"{left:{_COLUMN}}{first}",
        *(" " * _COLUMN + line for line in rest),
    ]


def _examples(examples: Iterable[tuple[str, str]]) -> list[str]:
    examples = list(examples)
    width = max(len(line) for line, _ in examples)
    if width + max(len(what) for _, what in examples) + 6 <= _WIDTH:
        return [f"  {line:{width}}  # {what}" for line, what in examples]
    lines = []
    for line, what in examples:
        lines += [f"  # {what}", f"  {line}"]
    return lines
