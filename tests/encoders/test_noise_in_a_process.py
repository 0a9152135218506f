import numpy as np
import pytest

import fedlearn as fl
from fedlearn import encoders as e
from fedlearn.aggregators import Mean
from tests import zoo

CHAINS = {
    "adaptive": lambda: [
        e.AdaptiveClip(clients_per_round=3),
        e.GaussianNoise(0.5),
    ],
    "tree": lambda: [e.Clip(1.0), e.TreeNoise(0.5), e.HadamardRotation()],
    "banded": lambda: [
        e.Clip(1.0, "per_layer"),
        e.BandedMatrixNoise(0.5, bands=2),
        e.UniformQuantization(8),
    ],
    "skellam": lambda: [
        e.Clip(1.0),
        e.HadamardRotation(),
        e.Skellam(0.5, 1.0, clients_per_round=3),
    ],
}


def process_of(chain, executor):
    return fl.FederatedAveraging(
        zoo.regression(),
        client=fl.LocalTraining(batch_size=4, shuffle=False),
        aggregator=Mean(CHAINS[chain](), "uniform", 3.0),
        executor=executor,
    )


@pytest.mark.integration
@pytest.mark.parametrize(
    "chain",
    [
        "adaptive",
        "skellam",
        pytest.param("tree", marks=pytest.mark.backend_free),
        pytest.param("banded", marks=pytest.mark.backend_free),
    ],
)
def test_noise_is_the_same_after_a_restart_and_in_every_executor(
    chain, tmp_path
):
    process = process_of(chain, "sequential")
    cohort = zoo.clients((4, 9, 2), make=zoo.line)
    states = [process.initialize()]
    for _ in range(3):
        states.append(process.next(states[-1], cohort)[0])
    process.save_state(states[2], tmp_path / "state")
    other = process_of(chain, "vectorized")
    resumed = other.load_state(tmp_path / "state")
    zoo.assert_equal(tuple(process.next(resumed, cohort)[0]), tuple(states[3]))
    state, _ = other.next(states[2], cohort)
    zoo.assert_close(
        zoo.numpy(state.trainable), zoo.numpy(states[3].trainable), rtol=1e-4
    )


@pytest.mark.backend_free
def test_a_share_of_the_noise_that_is_missing_is_an_error():
    process = process_of("skellam", "sequential")
    cohort = zoo.clients((4, 9, 2), make=zoo.line)
    x, y = cohort["client_1"]
    broken = {**cohort, "client_1": (np.nan * x, y)}
    with pytest.raises(ValueError, match="their share of the noise"):
        process.next(process.initialize(), broken)
