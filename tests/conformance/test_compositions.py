"""Each cell of the table in docs/compositions.md."""

import pathlib

import numpy as np
import pytest

from fedlearn.aggregators import Median, SecureSum
from tests import zoo
from tests.conformance import compositions

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "compositions.md"
# What is said where a letter stands.
REASONS = {
    "n": "noise",
    "d": "`dp` guarantees|how often it comes back",
    "x": "would make its steps longer",
    "l": r"changes what is sent \(put it into ErrorFeedback",
    "e": r"changes what is sent\. Use",
    "r": "leaves some of them out",
    "s": "sets `server_optimizer` itself|a server optimizer would take",
    "b": "averaged over all clusters",
    "a": "the client's Adam",
    "m": "would add what it left out",
    "w": "weighs updates by their staleness",
}


def table():
    rows = [
        [cell.strip(" `") for cell in line.strip("|\n").split("|")]
        for line in PAGE.read_text().splitlines()
        if line.startswith("|")
    ]
    (_, *partners), _, *rows = rows
    return {
        (name, partner): cell
        for name, *cells in rows
        for partner, cell in zip(partners, cells, strict=True)
    }


TABLE = table()


def test_the_table_is_whole():
    cells = {(a, w) for a in compositions.ALGORITHMS for w in compositions.WITH}
    assert set(TABLE) == cells


# What is refused doesn't depend on the backend, and what isn't is tried on
# JAX with each algorithm's own tests.
@pytest.mark.backend_free
@pytest.mark.parametrize("algorithm", compositions.ALGORITHMS)
def test_it_is_as_the_table_says(algorithm):
    for partner in compositions.WITH:
        cell = TABLE[algorithm, partner]
        if cell != "yes":
            with pytest.raises((ValueError, TypeError), match=REASONS[cell]):
                compositions.process(algorithm, partner)
            continue
        process = compositions.process(
            algorithm, partner, executor="sequential"
        )
        start = process.initialize()
        state, metrics = process.next(start, compositions.CLIENTS)
        assert metrics["num_rejected"] == 0
        after = zoo.numpy(state.trainable)
        assert all(np.isfinite(a).all() for a in after)
        before = zoo.numpy(start.trainable)
        assert any(
            not np.array_equal(a, b) for a, b in zip(after, before, strict=True)
        )
        assert isinstance(process.aggregator, Median) == (partner == "median")
        assert isinstance(process.aggregator, SecureSum) == (
            partner == "secure sum"
        )
