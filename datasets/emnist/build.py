"""Makes the federated EMNIST from NIST Special Database 19, second edition.

A client is a writer, an example a character that the writer wrote, cut out
and scaled as for EMNIST. 10 % of a writer's characters, one at least, are for
testing; writers with fewer than two are left out. See README.md.
"""

import contextlib
import dataclasses
import hashlib
import io
import itertools
import string
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from federated_file import (
    Clients,
    add_seed,
    argument_parser,
    finished_files,
    note,
    progress,
    rows_for_test,
    run,
    write_splits,
)

from fedlearn.data.formats.format_error import FormatError

CLASSES = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SIDE = 128
_SMALL = 28
_BORDER = 2
_BLUR_RADIUS = 4

# The images have some 1,500 bytes.
_MAX_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Tree:
    """The images of `by_class` or `by_write`.

    Attributes:
        names: Their paths below that folder, in order.
        read: Gives the bytes of one.
    """

    names: tuple[str, ...]
    read: Callable[[str], bytes]


@contextlib.contextmanager
def open_tree(source: Path, top: str) -> Iterator[Tree]:
    """The images under `source/<top>`, or in `source/<top>.zip`.

    Raises:
        FileNotFoundError: If there is neither.
        FormatError: If the zip is damaged.
    """
    folder, archive = source / top, source / f"{top}.zip"
    if folder.is_dir():
        names = (p.relative_to(folder) for p in folder.glob("*/**/*.png"))
        yield Tree(
            tuple(sorted(p.as_posix() for p in names)),
            lambda name: _read(folder / name),
        )
        return
    if not archive.is_file():
        raise FileNotFoundError(
            f"There is no {top}.zip and no folder {top} in {source}. Expected "
            "those of NIST Special Database 19, second edition."
        )
    try:
        with zipfile.ZipFile(archive) as opened:
            prefix = f"{top}/"
            members = {
                info.filename.removeprefix(prefix): info
                for info in opened.infolist()
                if info.filename.startswith(prefix)
                and info.filename.endswith(".png")
            }

            def read(name: str) -> bytes:
                info = members[name]
                _check_size(info.file_size, f"{archive}: {info.filename}")
                return opened.read(info)

            yield Tree(tuple(sorted(members)), read)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise FormatError(
            f"{archive} cannot be unpacked ({error}). It may be cut short."
        ) from error


def _read(path: Path) -> bytes:
    _check_size(path.stat().st_size, str(path))
    return path.read_bytes()


def _check_size(size: int, name: str) -> None:
    if size > _MAX_BYTES:
        raise FormatError(
            f"{name} has {size:,} bytes. Expected a small PNG image."
        )


def label_of(folder: str, where: str) -> int:
    """`"30"` gives 0, `"41"` 10: classes are named by hexadecimal ASCII."""
    try:
        return CLASSES.index(chr(int(folder, 16)))
    except ValueError as error:
        raise FormatError(
            f"{where} is in the class {folder!r}. Expected the hexadecimal "
            "ASCII code of a digit or a letter, 30 to 7a."
        ) from error


def labels_by_hash(tree: Tree) -> dict[bytes, int]:
    """The label of each image, by the MD5 of its file.

    An image that is in two classes counts for the one that comes first.
    """
    labels: dict[bytes, int] = {}
    ambiguous = 0
    # by_class/<class>/hsf_<part>/<image>; the folders train_<class> beside
    # hsf_<part> have the same images again.
    places = ((n.split("/"), n) for n in tree.names)
    names = [
        name
        for place, name in places
        if len(place) == 3 and place[1].startswith("hsf_")
    ]
    for name in progress(names, "by_class"):
        label = label_of(name.split("/")[0], name)
        known = labels.setdefault(_digest(tree.read(name)), label)
        ambiguous += known != label
    if ambiguous:
        note(f"{ambiguous:,} images are in two classes; the first counts")
    return labels


def _digest(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def decoded(data: bytes, name: str) -> np.ndarray:
    """The ink of an image: `(128, 128)`, `float64`, 0 to 1.

    Raises:
        FormatError: If it is no PNG of that size.
        ImportError: If Pillow is missing.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "Reading PNG images takes Pillow, which is not installed. Install "
            "it with: pip install pillow"
        ) from error
    broken = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.size != (_SIDE, _SIDE):
                raise FormatError(
                    f"{name} has {image.size[0]} x {image.size[1]} pixels. "
                    f"Expected {_SIDE} x {_SIDE}."
                )
            grey = np.asarray(image.convert("L"))
    except FormatError:
        raise
    except broken as error:
        raise FormatError(f"{name} is no whole PNG image: {error}") from error
    return 1 - grey / 255


def _cut(image: np.ndarray) -> np.ndarray | None:
    """The least rectangle that has all that is not 0; None if all is."""
    rows, columns = (np.flatnonzero(image.any(axis=k)) for k in (1, 0))
    if not len(rows):
        return None
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _blurred(ink: np.ndarray) -> np.ndarray:
    """A Gaussian blur of deviation 1, larger by 4 on each side."""
    steps = np.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1)
    weights = np.exp(-(steps**2) / 2)
    weights /= weights.sum()
    for _ in range(2):
        length, width = ink.shape
        spread = np.zeros((length + 2 * _BLUR_RADIUS, width))
        for start, weight in enumerate(weights):
            spread[start : start + length] += weight * ink
        ink = spread.T
    return ink


def shrunk(ink: np.ndarray) -> np.ndarray | None:
    """An image as in EMNIST: `(28, 28)`, `uint8`, 255 for ink.

    Cohen et al. 2017, section II: blurred, cut to what is written, put in the
    middle of a square with a border of 2 pixels, scaled down by bicubic
    interpolation, and stretched to the range of 8 bits.

    Args:
        ink: `(128, 128)`, 0 to 1.

    Returns:
        None if there is no ink.
    """
    from PIL import Image

    # Cut first: most of an image is paper, and the blur takes most time.
    ink_only = _cut(ink)
    if ink_only is None:
        return None
    cut = _cut(np.round(255 * _blurred(ink_only)).astype(np.uint8))
    assert cut is not None
    height, width = cut.shape
    side = max(height, width) + 2 * _BORDER
    square = np.zeros((side, side), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = cut
    small = np.asarray(
        Image.fromarray(square).resize(
            (_SMALL, _SMALL), Image.Resampling.BICUBIC
        )
    )
    return np.round(small * (255 / max(1, small.max()))).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class Writer:
    """One writer's characters.

    Attributes:
        labels: `(n,)`, 0 to 61.
        is_test: `(n,)` booleans.
        start: Where in the file of pixels the writer's begin.
    """

    labels: np.ndarray
    is_test: np.ndarray
    start: int

    def rows(self, only_digits: bool, test: bool) -> np.ndarray:
        """Which of the examples belong to a split."""
        wanted = self.labels < 10 if only_digits else True
        return np.flatnonzero((self.is_test == test) & wanted)

    def belongs(self, only_digits: bool) -> bool:
        """Whether there is something to train with and to test."""
        return all(len(self.rows(only_digits, t)) for t in (False, True))


def divided(labels: np.ndarray, *key: int | str) -> np.ndarray:
    """Which of a writer's characters are for testing.

    Digits and letters are divided one by one, so that the splits of digits
    are parts of those of all characters.
    """
    is_test = np.zeros(len(labels), bool)
    for kind, chosen in (("digits", labels < 10), ("letters", labels >= 10)):
        rows = np.flatnonzero(chosen)
        if len(rows) > 1:
            is_test[rows] = rows_for_test(len(rows), *key, kind)
    if not is_test.any():
        is_test[-1] = True
    return is_test


def read_writers(
    tree: Tree,
    labels: dict[bytes, int],
    pixels: IO[bytes],
    limit: int | None,
    seed: int,
) -> dict[str, Writer]:
    """The writers with two characters or more, by id.

    Args:
        tree: `by_write`.
        labels: By the MD5 of an image.
        pixels: Gets the 784 bytes of each image, writer after writer.
        limit: How many writers to read.
        seed: Of the division.
    """
    # by_write/hsf_<part>/<writer>/<kind>/<image>
    places = ((n.split("/"), n) for n in tree.names)
    owned = sorted((place[1], n) for place, n in places if len(place) == 4)
    groups = [
        (writer, [name for _, name in group])
        for writer, group in itertools.groupby(owned, lambda pair: pair[0])
    ][:limit]
    writers: dict[str, Writer] = {}
    blank = unknown = 0
    for writer, names in progress(groups, "by_write"):
        found = []
        start = pixels.tell()
        for name in names:
            data = tree.read(name)
            label = labels.get(_digest(data))
            if label is None:
                unknown += 1
                continue
            small = shrunk(decoded(data, name))
            if small is None:
                blank += 1
                continue
            found.append(label)
            pixels.write(small.tobytes())
        if len(found) > 1:
            ours = np.array(found, np.int64)
            is_test = divided(ours, seed, "emnist", writer)
            writers[writer] = Writer(ours, is_test, start)
    if unknown:
        note(f"{unknown:,} images are in no class; left out")
    if blank:
        note(f"{blank:,} images have no ink; left out")
    if not writers:
        raise FormatError(
            "No writer has two characters whose images are in by_class too. "
            "Expected by_write and by_class of the same edition."
        )
    return writers


def splits(writers: dict[str, Writer], pixels: IO[bytes]) -> dict[str, Clients]:
    """The clients of the four splits, by its public name."""

    def clients(only_digits: bool, test: bool) -> Clients:
        def load(name: str) -> dict[str, Any]:
            writer = writers[name]
            rows = writer.rows(only_digits, test)
            pixels.seek(writer.start)
            data = pixels.read(len(writer.labels) * _SMALL**2)
            ink = np.frombuffer(data, np.uint8).reshape(-1, _SMALL**2)[rows]
            # As published, paper is 1 and ink is 0.
            return {
                "label": writer.labels[rows],
                "pixels": 1 - ink.astype(np.float32) / np.float32(255),
            }

        ids = (n for n, w in writers.items() if w.belongs(only_digits))
        return Clients(ids, load)

    return {
        f"{kind}_{part}": clients(only_digits, part == "test")
        for kind, only_digits in (("digits_only", True), ("all", False))
        for part in ("train", "test")
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argument_parser(
        __doc__ or "", "--source sd19 --output emnist_all.sqlite"
    )
    add_seed(parser)
    args = parser.parse_args(argv)
    with finished_files(args.output.parent, args.output.name) as folder:
        with open_tree(args.source, "by_class") as tree:
            labels = labels_by_hash(tree)
        with tempfile.TemporaryFile(dir=args.output.parent) as pixels:
            with open_tree(args.source, "by_write") as tree:
                writers = read_writers(
                    tree, labels, pixels, args.limit, args.seed
                )
            write_splits(folder / args.output.name, splits(writers, pixels))


if __name__ == "__main__":
    run(main)
