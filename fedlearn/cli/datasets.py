"""`fedlearn datasets`."""

from collections.abc import Iterator, Sequence
from typing import Any

from fedlearn import datasets
from fedlearn.advice.did_you_mean import did_you_mean
from fedlearn.cli import data as cli_data
from fedlearn.cli.flags import (
    DEBUG_HELP,
    PLACES_HELP,
    VARIANTS,
    VARIANTS_HELP,
    UsageError,
)
from fedlearn.cli.units import in_bytes
from fedlearn.data.fetching.cache_folder import cache_folder

_ACTIONS = ("list", "describe", "fetch")
HELP = f"""\
Usage: fedlearn datasets [list|describe|fetch] [NAME] [FLAGS]

list says which data sets there are, what fetching them takes, and whether they
are in the cache. describe NAME says what is in one, whose it is, and what
surprises people. fetch NAME gets its files and converts them, for use without
a network; fedlearn train would do so, too.

Examples:
  fedlearn datasets                                    # what there is
  fedlearn datasets describe emnist                    # about one
  fedlearn datasets fetch shakespeare                  # 1.3 MB
  fedlearn datasets describe heart_disease --summary   # and its clients

Flags:
  --summary
      describe: also load the data, and count clients, examples and labels.
{DEBUG_HELP}
Which data, with describe --summary; --cache_dir also with list and fetch:
{PLACES_HELP}{VARIANTS_HELP}"""


def main(flags: Any, arguments: Sequence[str]) -> None:
    """Lists, describes or fetches data sets."""
    action = arguments[0] if arguments else "list"
    name = arguments[1] if len(arguments) > 1 else None
    _check(flags, action, name)
    if name is None:
        print("\n".join(_table(flags.cache_dir)))
    elif action == "describe":
        datasets.describe(name)
        if flags.summary:
            flags.dataset = name
            parts = cli_data.find(name).load_data(**cli_data.arguments(flags))
            names = ("train", *["heldout"] * (len(parts) - 2), "test")
            for part, data in zip(names, parts, strict=True):
                print(f"\n{cli_data.title(vars(flags))}, {part}:")
                data.summary()
    else:
        _fetch(flags, name)


def _check(flags: Any, action: str, name: str | None) -> None:
    if action in datasets.list():
        raise UsageError(
            f"what about {action}? Say fedlearn datasets describe {action}, or "
            f"fedlearn datasets fetch {action}."
        )
    if action not in _ACTIONS:
        raise UsageError(
            f"there is no fedlearn datasets {action}. Expected one of "
            f"{', '.join(_ACTIONS)}.{did_you_mean(action, _ACTIONS)}"
        )
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
    for flag in VARIANTS:
        fits = flags.summary or (flag == "cache_dir" and action != "describe")
        if flag in flags.given and not fits:
            raise UsageError(
                f"--{flag} is for fedlearn datasets describe NAME --summary, "
                "which loads the data."
            )


def _table(cache_dir: str | None) -> Iterator[str]:
    cache = cache_folder(cache_dir)
    rows = [("name", "fetch", "cached", "what")]
    for name in datasets.list():
        module = cli_data.find(name)
        sizes = [file.size for file in module.FILES]
        there = [(cache / name / f.name).is_file() for f in module.FILES]
        if not sizes:
            cost, cached = "nothing", "-"
        else:
            cost = "unknown" if None in sizes else in_bytes(sum(sizes))
            cached = "yes" if all(there) else "partly" if any(there) else "no"
        title = (module.__doc__ or "").partition(".\n")[0]
        rows.append((name, cost, cached, title))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        yield "  " + "  ".join(f"{c:{w}}" for c, w in cells).rstrip()
    yield f"\n  The cache: {cache}"
    yield "  More about one: fedlearn datasets describe NAME"


def _fetch(flags: Any, name: str) -> None:
    folder, place = datasets.fetch(name, flags.cache_dir), ""
    if folder is None:
        print(f"{name} needs no fetching.")
    else:
        files = (path for path in folder.rglob("*") if path.is_file())
        taken = in_bytes(sum(path.stat().st_size for path in files))
        print(f"{name} is in {folder} ({taken}).")
        place = f" --cache_dir={flags.cache_dir}" if flags.cache_dir else ""
    print(f"To train on it: fedlearn train --dataset={name}{place}")
