"""Makes the federated CIFAR-100 from the original's binary version.

The images are divided by Pachinko allocation among clients of 100 examples:
500 to train and 100 others to test. See README.md.
"""

import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from federated_file import (
    Clients,
    add_seed,
    argument_parser,
    finished_files,
    note,
    run,
    write_splits,
)

from fedlearn import partition
from fedlearn.data.formats.format_error import FormatError

_ARCHIVE = "cifar-100-binary.tar.gz"
_RECORD = np.dtype(
    [("coarse", "u1"), ("fine", "u1"), ("image", "u1", (3, 32, 32))]
)
_EXAMPLES_PER_CLIENT = 100
_ALPHA, _BETA = 0.1, 10.0

# The train file has 153,700,000 bytes.
_MAX_BYTES = 200_000_000


def read_part(source: Path, part: str) -> bytes:
    """The bytes of `train.bin` or `test.bin`, in a folder or in the tar."""
    name = f"{part}.bin"
    archive = source / _ARCHIVE if source.is_dir() else source
    for path in (source / name, source / "cifar-100-binary" / name):
        if path.is_file():
            return path.read_bytes()
    if not archive.is_file():
        raise FileNotFoundError(
            f"There is no {name} in {source}, and no {_ARCHIVE}. Expected "
            "CIFAR-100's binary version."
        )
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and Path(member.name).name == name:
                    if member.size > _MAX_BYTES:
                        break
                    opened = tar.extractfile(member)
                    assert opened is not None
                    return opened.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise FormatError(
            f"{archive} cannot be unpacked ({error}). It may be cut short."
        ) from error
    raise FormatError(
        f"{archive} has no {name} of up to {_MAX_BYTES:,} bytes. Expected "
        "CIFAR-100's binary version."
    )


def records(data: bytes, part: str) -> np.ndarray:
    """Labels and images; `(n,)` records.

    Raises:
        FormatError: If the last record is cut short, or a label too large.
    """
    if not data or len(data) % _RECORD.itemsize:
        raise FormatError(
            f"{part}.bin has {len(data):,} bytes. Expected records of "
            f"{_RECORD.itemsize:,} bytes: two labels and an image of 3 x 32 x "
            "32. It may be cut short, or be of CIFAR-10."
        )
    found = np.frombuffer(data, _RECORD)
    if found["coarse"].max() > 19 or found["fine"].max() > 99:
        raise FormatError(
            f"{part}.bin has labels beyond 19 and 99. Expected CIFAR-100's "
            "binary version."
        )
    return found


def divided(found: np.ndarray, part: str, seed: int) -> Clients:
    """Clients with ids from "0" on, of 100 examples each."""
    num_clients = len(found) // _EXAMPLES_PER_CLIENT
    if not num_clients:
        raise FormatError(
            f"{part}.bin has {len(found):,} images. Expected at least "
            f"{_EXAMPLES_PER_CLIENT}, those of one client."
        )
    dataset = partition.pachinko(
        np.ascontiguousarray(found["image"].transpose(0, 2, 3, 1)),
        found["fine"].astype(np.int64),
        num_clients,
        coarse_labels=found["coarse"].astype(np.int64),
        examples_per_client=_EXAMPLES_PER_CLIENT,
        alpha=_ALPHA,
        beta=_BETA,
        # Else the first clients of both parts would have the same mix.
        seed=2 * seed + (part == "test"),
    )
    above = dict(
        zip(found["fine"].tolist(), found["coarse"].tolist(), strict=True)
    )
    padded = {str(int(name)): name for name in dataset}

    def load(name: str) -> dict[str, np.ndarray]:
        image, label = dataset[padded[name]]
        coarse = np.array([above[k] for k in label.tolist()], np.int64)
        return {"coarse_label": coarse, "image": image, "label": label}

    return Clients(padded, load)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argument_parser(
        __doc__ or "",
        f"--source {_ARCHIVE} --output cifar100.sqlite",
    )
    add_seed(parser)
    args = parser.parse_args(argv)
    with finished_files(args.output.parent, args.output.name) as folder:
        splits = {}
        for part in ("train", "test"):
            found = records(read_part(args.source, part), part)
            note(f"{part}.bin: {len(found):,} images")
            clients = divided(found, part, args.seed)
            splits[part] = Clients(
                clients.ids[: args.limit], clients.__getitem__
            )
        write_splits(folder / args.output.name, splits)


if __name__ == "__main__":
    run(main)
