"""Every backend, version and machine computes the same numbers.

Three rounds of a small model with BatchNormalization, from weights and data
that NumPy makes. `agreement.json` holds what came out when it was recorded;
when a change of the numbers is meant, record them anew and say so in
CHANGELOG.md:

    python -m tests.golden.test_agreement
"""

import json
import pathlib

import numpy as np
import pytest

from tests import zoo

FILE = pathlib.Path(__file__).with_name("agreement.json")


def compute():
    process = zoo.classifier_process()
    cohort = zoo.clients(zoo.RAGGED)
    state, rounds = process.initialize(seed=11), []
    for _ in range(3):
        state, metrics = process.next(state, cohort)
        rounds.append(metrics)
    return {
        "rounds": rounds,
        "evaluation": process.evaluate(state, cohort),
        "weights": [w.tolist() for w in zoo.weights_in(process, state)],
        "server_optimizer": [w.tolist() for w in zoo.numpy(state.optimizer)],
    }


@pytest.fixture(scope="module")
def computed():
    return compute()


@pytest.fixture(scope="module")
def recorded():
    return json.loads(FILE.read_text())


pytestmark = pytest.mark.golden


def test_weights(computed, recorded):
    weights = [np.array(w) for w in recorded["weights"]]
    zoo.assert_close(
        [np.array(w) for w in computed["weights"]], weights, rtol=5e-5
    )
    # They are far from where they started.
    start = zoo.weights_of(zoo.classifier())
    assert np.abs(weights[0] - start[0]).max() > 0.05


@pytest.mark.parametrize("round_num", [0, 1, 2])
def test_metrics_of_training(computed, recorded, round_num):
    expected = recorded["rounds"][round_num]
    assert computed["rounds"][round_num] == pytest.approx(expected, rel=5e-5)


def test_metrics_of_evaluation(computed, recorded):
    expected = recorded["evaluation"]
    assert computed["evaluation"] == pytest.approx(expected, rel=5e-5)


def test_the_servers_optimizer(computed, recorded):
    zoo.assert_close(
        [np.array(w) for w in computed["server_optimizer"]],
        [np.array(w) for w in recorded["server_optimizer"]],
    )


if __name__ == "__main__":
    FILE.write_text(json.dumps(compute(), indent=1) + "\n")
    print(f"wrote {FILE}")
