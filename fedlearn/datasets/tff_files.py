"""The public files of TensorFlow Federated's data sets, made quick to read.

A set is one SQLite file under LZMA with a row an example; in older days a tar
of HDF5 files. Reading a client out of either is slow, so each part of a set
is converted once to a compact file in the cache
(`fedlearn.data.formats.compact_file`), from which a client is one slice.
"""

import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.data.fetching.archive import unpack_tar
from fedlearn.data.fetching.cache_folder import cache_folder
from fedlearn.data.formats.compact_file import (
    save_clients,
    write_compact_file,
)
from fedlearn.data.formats.format_error import FormatError
from fedlearn.data.formats.tff_hdf5 import read_tff_hdf5
from fedlearn.data.formats.tff_sqlite import open_tff_sqlite
from fedlearn.datasets import stand_in
from fedlearn.datasets.public_file import PublicFile, fingerprint, locate

BASE_URL = "https://storage.googleapis.com/tff-datasets-public/"

# Below this many bytes, a conversion is over before one could wonder.
_QUICK_BYTES = 20_000_000


@dataclasses.dataclass(frozen=True)
class TffFiles:
    """The files of one set.

    Attributes:
        name: Of the set, and of its folder in the cache.
        sqlite: The SQLite file, under LZMA.
        archive: The name of the older tar; None where there was none.
        splits: From part (`"train"`) to the splits of the SQLite file that
            may hold it; the first that is there does.
        stand_in: What `"synthetic"` draws, if not `name`.
    """

    name: str
    sqlite: PublicFile
    archive: str | None
    splits: Mapping[str, tuple[str, ...]] = dataclasses.field(
        default_factory=lambda: {"train": ("train",), "test": ("test",)}
    )
    stand_in: str | None = None

    def load(
        self,
        source: str | os.PathLike[str] | None,
        cache_dir: str | os.PathLike[str] | None,
        fn: Callable[[Any], Any],
        same_length: bool = True,
    ) -> tuple[FederatedDataset, FederatedDataset]:
        """Train and test, of examples that `fn` makes of stored features.

        `same_length` says whether it keeps their number.
        """
        train, test = self.open(source, cache_dir)
        return train.map(fn, same_length), test.map(fn, same_length)

    def open(
        self,
        source: str | os.PathLike[str] | None,
        cache_dir: str | os.PathLike[str] | None,
    ) -> list[FederatedDataset]:
        """The parts, in the order of `splits`, with the stored features."""
        if source == "synthetic":
            return list(stand_in.draw(self.stand_in or self.name).values())
        folder = cache_folder(cache_dir) / self.name
        path = None
        if source is not None:
            path = locate(source, self.names, self.name)
            stem = path.name.split(".")[0]
            folder /= f"{stem}-{fingerprint(path)[:16]}"
        targets = {p: folder / f"{s[0]}.h5" for p, s in self.splits.items()}
        if not all(target.exists() for target in targets.values()):
            folder.mkdir(parents=True, exist_ok=True)
            self._convert(path or self.sqlite.fetch(folder), targets)
        return [FederatedDataset.load(target) for target in targets.values()]

    @property
    def names(self) -> list[str]:
        """Public names of the files, those that are quickest first."""
        names = [self.sqlite.name.removesuffix(".lzma"), self.sqlite.name]
        return names if self.archive is None else [*names, self.archive]

    def _convert(self, path: Path, targets: dict[str, Path]) -> None:
        if path.stat().st_size > _QUICK_BYTES:
            print(
                f"Converting {path.name} for quick access, once. This may "
                "take minutes.",
                file=sys.stderr,
                flush=True,
            )
        with open(path, "rb") as file:
            head = file.read(8)
        folder = next(iter(targets.values())).parent
        if head.startswith((b"BZh", b"\x1f\x8b")):
            stem = path.name.split(".")[0]
            names = {
                part: f"{stem}_{part.replace('heldout', 'held_out')}.h5"
                for part in targets
            }
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                found = unpack_tar(path, names.values(), scratch)
                for part, target in targets.items():
                    clients = read_tff_hdf5(found[names[part]])
                    save_clients(target, clients, clients.client_ids)
        else:
            with open_tff_sqlite(path, folder) as file:
                for part, target in targets.items():
                    name = _first(self.splits[part], file.names, path)
                    write_compact_file(target, *file.read(name))


def _first(wanted: tuple[str, ...], names: list[str], path: Path) -> str:
    if found := [name for name in wanted if name in names]:
        return found[0]
    raise FormatError(
        f"{path} has the splits {', '.join(map(repr, names))}. Expected "
        f"{' or '.join(map(repr, wanted))}."
    )
