"""What the build scripts share: arguments, progress, and the file written."""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedlearn.data.formats.tff_sqlite import write_tff_sqlite

Features = dict[str, np.ndarray]


class Clients(Mapping[str, Features]):
    """Clients whose examples are made when they are asked for."""

    def __init__(
        self, ids: Iterable[str], load: Callable[[str], Features]
    ) -> None:
        self.ids = tuple(ids)
        self._load = load

    def __getitem__(self, client_id: str) -> Features:
        return self._load(client_id)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)


class _Reported(Clients):
    """The same clients; going through them is shown."""

    def __init__(self, clients: Clients, what: str) -> None:
        super().__init__(clients.ids, clients.__getitem__)
        self._what = what

    def __iter__(self) -> Iterator[str]:
        return progress(self.ids, self._what)


def progress(items: Sequence[Any], what: str) -> Iterator[Any]:
    """Yields the items, and says on one line of stderr how far it is.

    Where stderr is a file, only the end of it is said.
    """
    shown = sys.stderr.isatty()
    last = time.monotonic()
    for done, item in enumerate(items):
        if shown and time.monotonic() - last > 0.5:
            last = time.monotonic()
            print(
                f"\r{what}: {done:,} of {len(items):,}",
                end="",
                file=sys.stderr,
                flush=True,
            )
        yield item
    start = "\r" if shown else ""
    total = f"{len(items):,}"
    print(f"{start}{what}: {total} of {total}", file=sys.stderr, flush=True)


def note(text: str) -> None:
    """Says something about the data that are being made."""
    print(text, file=sys.stderr, flush=True)


def positive(text: str) -> int:
    """An argument that counts something."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def argument_parser(
    module: str,
    example: str,
    output: str = "the SQLite file to write",
    limit: str = "how many clients to write in each split; the first by id",
) -> argparse.ArgumentParser:
    """The arguments that all build scripts take.

    Args:
        module: The docstring of the script.
        example: Its arguments in an example.
        output: What `--output` names.
        limit: What `--limit` counts.
    """
    parser = argparse.ArgumentParser(
        description=module,
        epilog=f"example:\n  python build.py {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--source",
        type=Path,
        required=True,
        help="where the original files are (see README.md)",
    )
    parser.add_argument("--output", type=Path, required=True, help=output)
    parser.add_argument("--limit", type=positive, help=limit)
    return parser


def add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed", type=int, default=0, help="of what is drawn at random; 0"
    )


@contextlib.contextmanager
def finished_files(folder: Path, main: str) -> Iterator[Path]:
    """A folder whose files move to `folder` when all of them are written.

    If the block raises, nothing appears there.

    Args:
        folder: Where the files go; made if it is missing.
        main: Name of the file that stands for all of them.

    Raises:
        FileExistsError: If one of the files is there already.
    """

    def refuse(name: str) -> None:
        if (folder / name).exists():
            raise FileExistsError(
                f"{folder / name} is there already. Choose another output, "
                "or remove it first."
            )

    refuse(main)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{main}.", dir=folder) as scratch:
        yield Path(scratch)
        names = sorted(os.listdir(scratch))
        for name in names:
            refuse(name)
        # The main file last: where it is, the others are too.
        for name in sorted(names, key=lambda n: n == main):
            os.replace(Path(scratch, name), folder / name)


def write_splits(path: Path, splits: Mapping[str, Clients]) -> None:
    """Writes clients in the layout of TensorFlow Federated's SQLite files.

    Args:
        path: A file that is not there yet.
        splits: Clients by the name of the split.

    Raises:
        ValueError: If a split has no clients.
    """
    for split, clients in splits.items():
        if not clients:
            raise ValueError(
                f"The source has no clients for the split {split!r}. Expected "
                "at least one in each; take more of the original data."
            )
        write_tff_sqlite(_Reported(clients, split), path, split)


def rows_for_test(total: int, *key: int | str) -> np.ndarray:
    """Which of a client's examples are for testing: 10 %, one at least.

    Args:
        total: How many examples, 2 or more, so that one is left to train.
        *key: What the draw is for; see `fedlearn.seeds`.

    Returns:
        `(total,)` booleans.
    """
    from fedlearn import seeds

    is_test = np.ones(total, bool)
    is_test[seeds.permutation(total, *key)[: max(1, 9 * total // 10)]] = False
    return is_test


def run(main: Callable[[Sequence[str] | None], None]) -> None:
    """Runs a script; what is wrong with its files is one line on stderr."""
    try:
        main(None)
    except (OSError, ValueError, ImportError) as error:
        sys.exit(f"error: {error}")
