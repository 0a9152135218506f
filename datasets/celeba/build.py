"""Makes the federated CelebA from the aligned images and their lists.

A client is a person with at least five photographs, each scaled to 84 x 84.
Both schemes are written: 10 % of the people for testing, and 10 % of each
person's photographs. See README.md.
"""

import contextlib
import io
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from federated_file import (
    Clients,
    add_seed,
    argument_parser,
    finished_files,
    note,
    rows_for_test,
    run,
    write_splits,
)

from fedlearn import seeds
from fedlearn.data.formats.format_error import FormatError
from fedlearn.datasets.celeba import ATTRIBUTES

_SIDE = 84
_MIN_PHOTOGRAPHS = 5
_IMAGES = "img_align_celeba"

# The images have 178 x 218 pixels and some 8,000 bytes.
_MAX_BYTES = 1 << 22
_MAX_PIXELS = 10**6


def _cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    with open(path, encoding="utf-8") as file:
        try:
            for number, line in enumerate(file, 1):
                if cells := line.split():
                    yield number, cells
        except UnicodeDecodeError as error:
            raise FormatError(f"{path} is not UTF-8: {error}.") from error


def read_attributes(path: Path) -> dict[str, np.ndarray]:
    """The 40 attributes of each image, `(40,)` of 0 and 1, by file name.

    In the order of `ATTRIBUTES`. The file begins with a count and the names.
    """
    lines = _cells(path)
    _, count = next(lines, (1, []))
    _, header = next(lines, (2, []))
    names = [name.lower() for name in header]
    if sorted(names) != sorted(ATTRIBUTES) or len(count) != 1:
        raise FormatError(
            f"{path} does not begin with a count and the names of the 40 "
            "attributes. Expected CelebA's list_attr_celeba.txt."
        )
    places = [1 + names.index(name) for name in ATTRIBUTES]
    attributes = {}
    for number, cells in lines:
        if len(cells) != 41 or set(cells[1:]) - {"1", "-1"}:
            raise FormatError(
                f"{path}, line {number}: expected the name of an image and 40 "
                "numbers, each 1 or -1."
            )
        has = [cells[place] == "1" for place in places]
        attributes[cells[0]] = np.array(has, np.uint8)
    if count != [str(len(attributes))]:
        raise FormatError(
            f"{path} has {len(attributes):,} images and states {count[0]}. It "
            "may be cut short."
        )
    return attributes


def read_people(path: Path) -> dict[str, list[str]]:
    """The file names of each person's images, by the person's number."""
    people: dict[str, list[str]] = {}
    for number, cells in _cells(path):
        # A name with a slash could lead out of the folder of images.
        if (
            len(cells) != 2
            or not cells[1].isdecimal()
            or Path(cells[0]).name != cells[0]
        ):
            raise FormatError(
                f"{path}, line {number}: {' '.join(cells)[:60]!r}. Expected "
                "the name of an image and the number of a person."
            )
        people.setdefault(cells[1], []).append(cells[0])
    return people


@contextlib.contextmanager
def open_images(source: Path) -> Iterator[Callable[[str], bytes]]:
    """Gives the bytes of an image, out of the folder or the zip.

    Raises:
        FileNotFoundError: If there is neither, or no such image in it.
        FormatError: If the zip is damaged, or an image too large.
    """
    folder, archive = source / _IMAGES, source / f"{_IMAGES}.zip"

    def check(size: int, name: str) -> None:
        if size > _MAX_BYTES:
            raise FormatError(
                f"{name} has {size:,} bytes. Expected a small JPEG image."
            )

    def read_file(name: str) -> bytes:
        path = folder / name
        check(path.stat().st_size, str(path))
        return path.read_bytes()

    if folder.is_dir():
        yield read_file
        return
    if not archive.is_file():
        raise FileNotFoundError(
            f"There is no folder {_IMAGES} and no {_IMAGES}.zip in {source}. "
            "Expected CelebA's aligned and cropped images."
        )
    try:
        with zipfile.ZipFile(archive) as opened:

            def read_member(name: str) -> bytes:
                try:
                    info = opened.getinfo(f"{_IMAGES}/{name}")
                except KeyError as error:
                    raise FileNotFoundError(
                        f"{archive} has no {_IMAGES}/{name}."
                    ) from error
                check(info.file_size, f"{archive}: {name}")
                return opened.read(info)

            yield read_member
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise FormatError(
            f"{archive} cannot be unpacked ({error}). It may be cut short."
        ) from error


def scaled(data: bytes, name: str) -> np.ndarray:
    """An image as `(84, 84, 3)`, `uint8`, by bicubic interpolation.

    Raises:
        FormatError: If it is no JPEG image.
        ImportError: If Pillow is missing.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "Reading JPEG images takes Pillow, which is not installed. "
            "Install it with: pip install pillow"
        ) from error
    broken = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise FormatError(
                    f"{name} has {image.width} x {image.height} pixels. "
                    "Expected 178 x 218."
                )
            colours = image.convert("RGB")
            return np.asarray(
                colours.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
            )
    except FormatError:
        raise
    except broken as error:
        raise FormatError(f"{name} is no whole JPEG image: {error}") from error


def splits(
    people: dict[str, list[str]],
    load: Callable[[list[str]], dict[str, Any]],
    limit: int | None,
    seed: int,
) -> dict[str, Clients]:
    """The clients of the four splits, by its public name.

    Args:
        people: The file names of each person's images.
        load: Gives the features of some images.
        limit: How many people in each split.
        seed: Of both divisions.
    """
    everyone = list(people)
    order = seeds.permutation(len(everyone), seed, "celeba", "clients")
    num_train = 9 * len(everyone) // 10
    trains = {everyone[k] for k in order[:num_train].tolist()}

    def of(ids: list[str]) -> Clients:
        return Clients(ids[:limit], lambda person: load(people[person]))

    def examples(test: bool) -> Clients:
        def load_some(person: str) -> dict[str, Any]:
            names = people[person]
            is_test = rows_for_test(len(names), seed, "celeba", person)
            rows = np.flatnonzero(is_test == test).tolist()
            return load([names[k] for k in rows])

        return Clients(everyone[:limit], load_some)

    return {
        "split_by_clients_train": of([p for p in everyone if p in trains]),
        "split_by_clients_test": of([p for p in everyone if p not in trains]),
        "split_by_examples_train": examples(False),
        "split_by_examples_test": examples(True),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argument_parser(
        __doc__ or "", "--source celeba --output celeba.sqlite"
    )
    add_seed(parser)
    args = parser.parse_args(argv)
    attributes = read_attributes(args.source / "list_attr_celeba.txt")
    people = read_people(args.source / "identity_CelebA.txt")
    kept = {
        person: sorted(names)
        for person, names in sorted(people.items())
        if len(names) >= _MIN_PHOTOGRAPHS
    }
    note(
        f"{len(kept):,} of {len(people):,} people have {_MIN_PHOTOGRAPHS} "
        "photographs or more"
    )
    for name in (n for names in kept.values() for n in names):
        if name not in attributes:
            raise FormatError(
                f"{name} is in identity_CelebA.txt and not in "
                "list_attr_celeba.txt. Expected the lists of one release."
            )
    with (
        finished_files(args.output.parent, args.output.name) as folder,
        open_images(args.source) as read,
    ):

        def load(names: list[str]) -> dict[str, Any]:
            images = [scaled(read(name), name) for name in names]
            has = np.stack([attributes[name] for name in names])
            columns = zip(ATTRIBUTES, has.T.astype(np.int64), strict=True)
            return {**dict(columns), "image": np.stack(images)}

        write_splits(
            folder / args.output.name, splits(kept, load, args.limit, args.seed)
        )


if __name__ == "__main__":
    run(main)
