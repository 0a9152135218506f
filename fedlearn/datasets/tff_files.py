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
from collections.abc import Mapping
from pathlib import Path

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
from fedlearn.datasets.public_file import PublicFile, fingerprint, locate

BASE_URL = "https://storage.googleapis.com/tff-datasets-public/"

# Below this many bytes, a conversion is over before one could wonder.
_QUICK_BYTES = 20_000_000


@dataclasses.dataclass(frozen=True)
class TffFiles:
    """The files of one set.

    Attributes:
        folder: Where in the cache its files go.
        sqlite: The SQLite file, under LZMA.
        archive: The older tar; None where there was none.
        splits: From part (`"train"`) to the splits of the SQLite file that
            may hold it; the first that is there does.
        members: From part to the end of the name of its file in the tar
            (`"train"` for `<name of the tar>_train.h5`).
    """

    folder: str
    sqlite: PublicFile
    archive: PublicFile | None
    splits: Mapping[str, tuple[str, ...]]
    members: Mapping[str, str]

    def load(
        self,
        source: str | os.PathLike[str] | None,
        cache_dir: str | os.PathLike[str] | None,
    ) -> dict[str, FederatedDataset]:
        """The stored features of each part.

        Args:
            source: None for the public file; or see `locate`.
            cache_dir: See `cache_folder`.

        Raises:
            DownloadError: If the public file could not be had.
            FileNotFoundError: If `source` is not there.
            FormatError: If it is damaged, or not of this set.
        """
        folder = cache_folder(cache_dir) / self.folder
        path = None
        if source is not None:
            path = locate(source, self.names, self.folder)
            stem = path.name.split(".")[0]
            folder /= f"{stem}-{fingerprint(path)[:16]}"
        targets = {p: folder / f"{s[0]}.h5" for p, s in self.splits.items()}
        if not all(target.exists() for target in targets.values()):
            folder.mkdir(parents=True, exist_ok=True)
            if path is None:
                path = self.sqlite.fetch(folder)
            self._convert(path, targets)
        return {
            part: FederatedDataset.load(target)
            for part, target in targets.items()
        }

    @property
    def names(self) -> list[str]:
        """Public names of the files, those that are quickest first."""
        plain = self.sqlite.name.removesuffix(".lzma")
        names = [plain, self.sqlite.name]
        if self.archive is not None:
            stem = self.archive.name.split(".")[0]
            first = next(iter(self.members.values()))
            names += [self.archive.name, f"{stem}_{first}.h5"]
        return names

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
        if head.startswith(b"\x89HDF"):
            self._convert_hdf5(path, targets)
        elif head.startswith((b"BZh", b"\x1f\x8b")):
            self._convert_tar(path, targets)
        else:
            self._convert_sqlite(path, targets)

    def _convert_sqlite(self, path: Path, targets: dict[str, Path]) -> None:
        scratch = next(iter(targets.values())).parent
        with open_tff_sqlite(path, scratch) as file:
            for part, target in targets.items():
                split = file.split(_first(self.splits[part], file.names, path))
                write_compact_file(target, split.counts, split.chunks)

    def _convert_tar(self, path: Path, targets: dict[str, Path]) -> None:
        stem = path.name.split(".")[0]
        names = {p: f"{stem}_{self.members[p]}.h5" for p in targets}
        folder = next(iter(targets.values())).parent
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            files = unpack_tar(path, names.values(), scratch)
            for part, target in targets.items():
                clients = read_tff_hdf5(files[names[part]])
                save_clients(target, clients, clients.client_ids)

    def _convert_hdf5(self, path: Path, targets: dict[str, Path]) -> None:
        """One part is given; the others lie beside it."""
        stem = path.stem
        for member in self.members.values():
            stem = stem.removesuffix(f"_{member}")
        paths = {
            part: path.with_name(f"{stem}_{self.members[part]}.h5")
            for part in targets
        }
        missing = [p.name for p in paths.values() if not p.exists()]
        if missing:
            raise FileNotFoundError(
                f"{path} has no {', '.join(missing)} beside it. Expected one "
                f"file for each of {', '.join(targets)}."
            )
        for part, target in targets.items():
            clients = read_tff_hdf5(paths[part])
            save_clients(target, clients, clients.client_ids)


def _first(wanted: tuple[str, ...], names: list[str], path: Path) -> str:
    for name in wanted:
        if name in names:
            return name
    raise FormatError(
        f"{path} has the splits {', '.join(map(repr, names))}. Expected "
        f"{' or '.join(map(repr, wanted))}."
    )
