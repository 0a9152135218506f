"""`fedlearn datasets`."""

from collections.abc import Iterator, Sequence
from typing import Any

from fedlearn import datasets
from fedlearn.advice.did_you_mean import did_you_mean
from fedlearn.advice.units import in_bytes
from fedlearn.cli import data as cli_data
from fedlearn.cli.flags import (
    DEBUG_HELP,
    PLACES_HELP,
    VARIANTS,
    VARIANTS_HELP,
    UsageError,
)
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
  --summary           describe: also count clients, examples and labels.
{DEBUG_HELP}
Which data, with describe --summary; --cache_dir also with list and fetch:
{PLACES_HELP}{VARIANTS_HELP}"""


def main(flags: Any, arguments: Sequence[str]) -> None:
    """Lists, describes or fetches data sets."""
    action, name, *_ = [*arguments, *["list", ""][len(arguments) :], ""]
    if action not in _ACTIONS:
        raise UsageError(
            f"there is no fedlearn datasets {action}. Expected one of "
            f"{', '.join(_ACTIONS)}; describe and fetch with a data set's "
            f"name.{did_you_mean(action, _ACTIONS)}"
        )
    if (action == "list") == bool(name):
        what = f"unexpected {name!r}" if name else "NAME is missing"
        raise UsageError(
            f"{what}. Say fedlearn datasets list, or fedlearn datasets "
            "describe NAME, or fetch NAME."
        )
    used = {"debug", "summary"} if action == "describe" else {"cache_dir"}
    odd = flags.given - used - ({*VARIANTS} if flags.summary else {"debug"})
    if odd:
        raise UsageError(
            f"--{min(odd)} is for fedlearn datasets describe NAME --summary, "
            "which loads the data."
        )
    if action == "list":
        print("\n".join(_table(flags.cache_dir)))
        return
    module = cli_data.find(name)
    if action == "fetch":
        _fetch(flags, name)
        return
    datasets.describe(name)
    if flags.summary:
        flags.dataset = name
        parts = module.load_data(**cli_data.arguments(flags))
        names = ("train", *["heldout"] * (len(parts) - 2), "test")
        for part, data in zip(names, parts, strict=True):
            print(f"\n{cli_data.title(vars(flags))}, {part}:")
            data.summary()


def _table(cache_dir: str | None) -> Iterator[str]:
    cache = cache_folder(cache_dir)
    for name in datasets.list():
        module = cli_data.find(name)
        sizes = [file.size for file in module.FILES]
        there = [(cache / name / f.name).is_file() for f in module.FILES]
        cost = "unknown" if None in sizes else in_bytes(sum(sizes))
        cached = "yes" if all(there) else "partly" if any(there) else "no"
        if not sizes:
            cost, cached = "nothing", "-"
        title = (module.__doc__ or "").partition(".\n")[0]
        yield f"  {name:14} {cost:8} {cached:7} {title}"
    yield f"\n  (name, bytes to fetch, whether they are in {cache})"
    yield "  More about one: fedlearn datasets describe NAME"


def _fetch(flags: Any, name: str) -> None:
    folder = datasets.fetch(name, flags.cache_dir)
    if folder is None:
        print(f"{name} needs no fetching.")
        return
    files = (path for path in folder.rglob("*") if path.is_file())
    taken = in_bytes(sum(path.stat().st_size for path in files))
    place = f" --cache_dir={flags.cache_dir}" if flags.cache_dir else ""
    print(f"{name} is in {folder} ({taken}).")
    print(f"To train on it: fedlearn train --dataset={name}{place}")
