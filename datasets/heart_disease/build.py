"""Makes the hospitals' CSV files of the heart disease data from UCI's files.

Reads processed.cleveland.data and so on; patients with missing values are left
out, categories become columns of 0 and 1, and a column `split` says who is for
testing. Writes cleveland.csv and so on. See README.md.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from federated_file import (
    add_seed,
    argument_parser,
    finished_files,
    note,
    run,
)

from fedlearn.datasets import heart_disease

_HEADER = (*heart_disease.COLUMNS, "target", "split")


def _cell(number: np.generic) -> str:
    # Shortest text that reads back as the same number, without ".0".
    return str(number).removesuffix(".0")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argument_parser(
        __doc__ or "",
        "--source uci --output heart_disease",
        output="the folder to write the hospitals' files to",
        limit="how many patients of each hospital to write in each split",
    )
    add_seed(parser)
    args = parser.parse_args(argv)
    first = heart_disease.SITES[0]
    if not (args.source / f"processed.{first}.data").is_file():
        raise FileNotFoundError(
            f"There is no processed.{first}.data in {args.source}. Expected "
            "UCI's files of the four hospitals."
        )
    with finished_files(args.output, f"{first}.csv") as folder:
        parts = heart_disease.load_data(
            normalize=False, seed=args.seed, source=args.source
        )
        for site in heart_disease.SITES:
            counts = []
            with open(
                folder / f"{site}.csv", "w", encoding="utf-8", newline=""
            ) as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(_HEADER)
                for split, part in zip(("train", "test"), parts, strict=True):
                    x, y = (array[: args.limit] for array in part[site])
                    for row, ill in zip(x, y, strict=True):
                        writer.writerow([*map(_cell, row), ill, split])
                    counts.append(len(y))
            note(f"{site}: {counts[0]:,} to train, {counts[1]:,} to test")


if __name__ == "__main__":
    run(main)
