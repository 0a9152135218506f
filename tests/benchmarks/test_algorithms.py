"""The program that compares algorithms, made small."""

import importlib
import pathlib

import numpy as np
import pytest

import fedlearn as fl

pytestmark = [pytest.mark.backend_free, pytest.mark.integration]

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def program():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield importlib.import_module("algorithms")


def test_the_best_of_a_grid_is_what_is_compared(program):
    task = program.TASKS["synthetic"]
    entry = task.entries["FedNova, stragglers' part"]
    task = task._replace(
        data=lambda folder, seed: fl.datasets.synthetic.load_data(
            num_clients=3, seed=seed
        ),
        client={"batch_size": 50},
        per_round=2,
        rounds=(2, 1),
        entries={
            "it": entry._replace(
                grid=program.grid(rate=[1e-6, 0.1], nova=[True])
            )
        },
    )
    (found,) = program.compared(task, None, range(2), "")
    assert found["rate"] == 0.1
    assert found["scores"][0] < found["scores"][1]
    assert np.shape(found["found"]["worst_tenth"]) == (2,)


def test_stragglers_do_a_part(program):
    whole = list(range(100))
    algorithm = program.Stragglers()
    lengths = [
        len(algorithm.batches(lambda n, seed: whole, 1000, seed))
        for seed in range(500)
    ]
    assert np.mean(np.array(lengths) < 100) == pytest.approx(0.9, abs=0.05)
    assert set(lengths) == {*range(5, 101, 5)}


def test_the_first_round_counts(program):
    reached = {2: 0.85, 4: 0.96, 6: 0.94, 8: 0.95, 10: 0.951, 12: 0.953}
    found = program.rounds_to(None, None, reached, None)
    assert (found["to_0.9"], found["to_0.95"], found["to_0.97"]) == (4, 4, None)
    assert (found["late"], found["best"]) == (0.953, 0.96)
