"""The real data sets that the benchmarks train on, from local files.

The files are in TensorFlow Federated's SQLite format. Their folder is given
by `--data` or the environment variable `FEDLEARN_TEST_DATA`; without either
it is `../shared/data`, as for the tests.
"""

import argparse
import os
import pathlib

import numpy as np

import fedlearn as fl

ROOT = pathlib.Path(__file__).resolve().parent.parent


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--data` to a benchmark's arguments."""
    default = os.environ.get("FEDLEARN_TEST_DATA", ROOT / "../shared/data")
    parser.add_argument(
        "--data", default=default, help="folder of the data files"
    )


def _ink_on_black(stored):
    # The files store 1.0 for paper; McMahan et al. fed ink as 1.0.
    images = 1.0 - np.asarray(stored["pixels"], "float32")
    return images.reshape(-1, 28, 28, 1), np.asarray(stored["label"])


def mnist_by_writer(folder):
    """MNIST's digits by their NIST writers: `(train, test)`."""
    path = pathlib.Path(folder) / "mnist_by_writer.sqlite.lzma"
    read = fl.FederatedDataset.from_tff_sqlite
    return tuple(
        read(path, split=f"digits_only_{part}").map(_ink_on_black)
        for part in ("train", "test")
    )


def mnist_100(folder, division):
    """MNIST on 100 clients, "iid" or "shards": `(train, test)`.

    `test` has one client with MNIST's 10,000 test images.
    """
    path = pathlib.Path(folder) / f"mnist_100_{division}.sqlite.lzma"
    read = fl.FederatedDataset.from_tff_sqlite
    return tuple(
        read(path, split=part).map(_ink_on_black) for part in ("train", "test")
    )
