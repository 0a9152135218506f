"""Processes that every executor must train to the same bits."""

import functools

import numpy as np

import fedlearn as fl
from fedlearn import aggregators as ag
from fedlearn import encoders
from tests import zoo

# Run one after another each is a shard; one is empty and one is left out.
SIZES = (8, 1, 0, 9, 7, 3, 8, 5, 2, 6, 4)
_ROUND = {"clients_per_round": len(SIZES)}
AGGREGATORS = {
    "mean": lambda: ag.Mean(),
    "private mean": lambda: ag.PrivateMean(
        encoders=["rotation", "uniform:8"], noise_multiplier=0.5, **_ROUND
    ),
    "secure sum": lambda: ag.SecureSum([encoders.Clip(1.0)], bits=16, **_ROUND),
    "median": lambda: ag.Median(),
    "error feedback": lambda: ag.Mean(
        [encoders.ErrorFeedback([encoders.TopK(0.5)])]
    ),
    "lengths that vary": lambda: ag.Mean(["uniform:8", "huffman"]),
    "scaffold": lambda: None,
}


def process(case, executor="sequential"):
    kind, more = fl.FederatedAveraging, {}
    if case == "scaffold":
        kind, more = fl.algorithms.Scaffold, {"population": 20}
    return kind(
        zoo.regression(),
        client=fl.LocalTraining(batch_size=4, shuffle=False),
        aggregator=AGGREGATORS[case](),
        executor=executor,
        **more,
    )


def clients():
    data = zoo.clients(SIZES, make=zoo.line)
    clients = {i: data[i] for i in data.client_ids}
    x, y = clients["client_6"]
    clients["client_6"] = (np.full_like(x, np.nan), y)
    return fl.FederatedDataset.from_clients(clients)


def rounds(process, data, num_rounds=2):
    """The state after some rounds, and the metrics of each."""
    state, found = process.initialize(seed=1), []
    for _ in range(num_rounds):
        state, metrics = process.next(state, data)
        found.append(metrics)
    return state, found


@functools.cache
def expected(case):
    """The `rounds` of one process, that all others must have."""
    return rounds(process(case), clients())


def check(case, executor):
    """Compares bits of the state, and the metrics of each round."""
    state, metrics = rounds(process(case, executor), clients())
    zoo.assert_equal(state, expected(case)[0])
    assert metrics == expected(case)[1]
