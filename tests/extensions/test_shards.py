import concurrent.futures
import multiprocessing

import keras
import pytest

import fedlearn as fl
from fedlearn import aggregators as ag
from fedlearn import encoders as en
from tests import zoo
from tests.extensions.shards import Shards

CLIENTS = zoo.clients((8, 5, 0, 9, 7), make=zoo.line)

KINDS = {
    "mean": lambda **k: fl.FederatedAveraging(**k),
    "memory": lambda **k: fl.FederatedAveraging(
        aggregator=ag.Mean([en.ErrorFeedback([en.TopK(0.5)])]), **k
    ),
    "median": lambda **k: fl.FederatedAveraging(aggregator="median", **k),
    "scaffold": lambda **k: fl.algorithms.Scaffold(population=5, **k),
}


@pytest.fixture(scope="module")
def pool():
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, spawn) as pool:
        yield pool


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_shards_in_processes_give_what_one_process_gives(kind, pool):
    one, two = (
        KINDS[kind](
            model=zoo.regression(),
            client=fl.LocalTraining(batch_size=4, epochs=2),
            executor=executor,
        )
        for executor in ("sequential", Shards(pool, num_shards=2))
    )
    alone = apart = one.initialize(seed=5)
    for _ in range(2):
        alone, expected = one.next(alone, CLIENTS)
        apart, metrics = two.next(apart, CLIENTS)
        assert metrics == pytest.approx(expected, rel=1e-6)
    zoo.assert_close(apart.trainable, alone.trainable, 1e-6, 1e-7)
    assert set(apart.client_states) == set(alone.client_states)
    for i in alone.client_states:
        zoo.assert_close(
            keras.tree.flatten(apart.client_states[i]),
            keras.tree.flatten(alone.client_states[i]),
            1e-6,
            1e-7,
        )
