"""`fedlearn datasets`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags

from fedlearn.advice.did_you_mean import did_you_mean
from fedlearn.cli import data as cli_data
from fedlearn.cli.command import Command, Group
from fedlearn.cli.errors import UsageError
from fedlearn.cli.units import in_bytes

if TYPE_CHECKING:
    from fedlearn.datasets.card import Card

_ACTIONS = ("list", "describe", "fetch")


def _define(values: absl_flags.FlagValues) -> list[Group]:
    absl_flags.DEFINE_bool(
        "summary",
        False,
        "describe: also load the data, and count clients, examples and labels",
        flag_values=values,
    )
    cli_data.define_arguments(values)
    absl_flags.DEFINE_bool(
        "debug", False, "show tracebacks", flag_values=values
    )
    return [
        Group("Flags", ("summary", "cache_dir", "debug")),
        Group(
            "Which data, with describe --summary",
            tuple(n for n in cli_data.ARGUMENTS if n != "cache_dir"),
        ),
    ]


def main(flags: Any, arguments: Sequence[str]) -> None:
    """Lists, describes or fetches data sets.

    Args:
        flags: Values of the flags.
        arguments: The action, and the name of a data set.

    Raises:
        UsageError: If they don't go together.
        DownloadError: If a file cannot be fetched.
        FormatError: If a file is damaged.
    """
    action = arguments[0] if arguments else "list"
    name = arguments[1] if len(arguments) > 1 else None
    if action not in _ACTIONS:
        raise _unknown(action)
    _check(flags, action, name)
    if name is None:
        print("\n".join(_table(flags.cache_dir)))
    elif action == "describe":
        _describe(flags, name)
    else:
        _fetch(flags, name)


def _unknown(action: str) -> UsageError:
    from fedlearn import datasets

    if action in datasets.list():
        return UsageError(
            f"what about {action}? Say fedlearn datasets describe {action}, "
            f"or fedlearn datasets fetch {action}."
        )
    return UsageError(
        f"there is no fedlearn datasets {action}. Expected one of "
        f"{', '.join(_ACTIONS)}.{did_you_mean(action, _ACTIONS)}"
    )


def _check(flags: Any, action: str, name: str | None) -> None:
    if action == "list" and name is not None:
        raise UsageError(
            f"unexpected {name!r}. Say fedlearn datasets describe {name}."
        )
    if action != "list" and name is None:
        raise UsageError(
            f"NAME is missing: fedlearn datasets {action} NAME. fedlearn "
            "datasets lists them."
        )
    if name is not None:
        cli_data.find(name)
    if flags.summary and action != "describe":
        raise UsageError("--summary is for fedlearn datasets describe NAME.")
    if not flags.summary:
        for flag in cli_data.ARGUMENTS:
            if flag in flags.given and (
                flag != "cache_dir" or action == "describe"
            ):
                raise UsageError(
                    f"--{flag} is for fedlearn datasets describe NAME "
                    "--summary, which loads the data."
                )


def _table(cache_dir: str | None) -> list[str]:
    from fedlearn import datasets
    from fedlearn.data.fetching.cache_folder import cache_folder

    cache = cache_folder(cache_dir)
    rows = [("name", "fetch", "cached", "what")]
    for name in datasets.list():
        card = cli_data.find(name).CARD
        there = [(cache / name / file.name).is_file() for file in card.files]
        cached = "yes" if all(there) else "partly" if any(there) else "no"
        rows.append(
            (name, _cost(card), cached if card.files else "-", card.title)
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  "
        + "  ".join(
            f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
    return [
        *lines,
        "",
        f"  The cache: {cache}",
        "  More about one: fedlearn datasets describe NAME",
    ]


def _cost(card: "Card") -> str:
    """What fetching takes."""
    if not card.files:
        return "nothing"
    sizes = [file.size for file in card.files if file.size is not None]
    if len(sizes) < len(card.files):
        return "unknown"
    return in_bytes(sum(sizes))


def _describe(flags: Any, name: str) -> None:
    from fedlearn import datasets

    datasets.describe(name)
    if not flags.summary:
        return
    flags.dataset = name
    parts = cli_data.load_parts(flags)
    names = ("train", *(("heldout",) if len(parts) == 3 else ()), "test")
    for part, data in zip(names, parts, strict=True):
        print(f"\n{cli_data.title(vars(flags))}, {part}:")
        data.summary()


def _fetch(flags: Any, name: str) -> None:
    from fedlearn import datasets

    folder = datasets.fetch(name, flags.cache_dir)
    if folder is None:
        print(f"{name} needs no fetching.")
    else:
        files = (path for path in folder.rglob("*") if path.is_file())
        taken = sum(path.stat().st_size for path in files)
        print(f"{name} is in {folder} ({in_bytes(taken)}).")
    place = f" --cache_dir={flags.cache_dir}" if flags.cache_dir else ""
    print(
        f"To train on it: fedlearn train --dataset={name}"
        + (place if folder else "")
    )


COMMAND = Command(
    name="datasets",
    summary="list, describe or fetch the data sets",
    description=(
        "list says which data sets there are, what fetching them takes, and "
        "whether they\nare in the cache. describe NAME says what is in one, "
        "whose it is, and what\nsurprises people. fetch NAME gets its files "
        "and converts them, for use without\na network; fedlearn train would "
        "do so, too."
    ),
    arguments=("[list|describe|fetch]", "[NAME]"),
    define=_define,
    examples=(
        ("fedlearn datasets", "what there is"),
        ("fedlearn datasets describe emnist", "about one"),
        ("fedlearn datasets fetch shakespeare", "1.3 MB"),
        (
            "fedlearn datasets describe heart_disease --summary",
            "and what its clients have",
        ),
    ),
    main=main,
)
