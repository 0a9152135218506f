"""Every aggregator keeps the rules."""

import inspect

import pytest

from fedlearn import aggregators, testing
from fedlearn.aggregators import (
    Bulyan,
    CenteredClipping,
    GeometricMedian,
    Krum,
    Mean,
    Median,
    NormBounding,
    OutlierRemoval,
    PrivateMean,
    SecureSum,
    TrimmedMean,
)
from fedlearn.encoders import (
    AdaptiveClip,
    Cast,
    Clip,
    EntropyCoding,
    ErrorFeedback,
    RandomMask,
    TopK,
    TreeNoise,
    UniformQuantization,
)

pytestmark = pytest.mark.conformance

TABLE = (
    Bulyan(1),
    CenteredClipping(0.5, num_iterations=2),
    CenteredClipping(2.0, encoders=[Clip(1.0)]),
    GeometricMedian(num_iterations=2),
    GeometricMedian(num_iterations=1, weighting="num_examples"),
    Krum(1),
    Krum(1, num_selected=2, encoders=[TopK(0.5)]),
    Mean(),
    Mean(weighting="uniform", denominator=5.0),
    Mean([ErrorFeedback([TopK(0.3)])]),
    Mean([AdaptiveClip(), Cast("bfloat16"), EntropyCoding()]),
    Mean(
        [Clip(0.5), TreeNoise(0.5, restart_every=2)],
        weighting="uniform",
        denominator=7.0,
    ),
    Median([Clip(2.0), UniformQuantization(8)]),
    NormBounding(0.5),
    OutlierRemoval(1.2),
    PrivateMean(0.5, noise_multiplier=1.0, clients_per_round=7),
    PrivateMean(
        noise_multiplier=0.1,
        clients_per_round=7,
        encoders=[RandomMask(0.5)],
    ),
    SecureSum([Clip(1.0)], clients_per_round=7),
    TrimmedMean(0.25),
)
# These train in a process on every run of the tests, all others in the slow
# ones, once: stacked, and with a state.
TRAINED = (CenteredClipping, PrivateMean)


def label(aggregator):
    parts = [type(aggregator).__name__]
    for name, value in aggregator.get_config().items():
        if name == "encoders":
            parts += [type(e).__name__ for e in value]
        else:
            parts.append(str(value))
    return "-".join(parts)


@pytest.mark.parametrize("aggregator", TABLE, ids=label)
def test_it_keeps_the_rules(aggregator):
    testing.check_aggregator(aggregator, skip=["training"])


ALL_BUT_TRAINING = [
    name for name in testing.AGGREGATOR_RULES if name != "training"
]
FIRST = {type(a): a for a in reversed(TABLE)}


@pytest.mark.parametrize(
    "aggregator",
    [
        pytest.param(
            a,
            marks=[]
            if type(a) in TRAINED and FIRST[type(a)] is a
            else [pytest.mark.slow, pytest.mark.backend_free],
        )
        for a in TABLE
    ],
    ids=label,
)
def test_it_trains(aggregator):
    testing.check_aggregator(aggregator, skip=ALL_BUT_TRAINING)


def test_every_aggregator_is_in_the_table():
    exported = {
        a
        for a in vars(aggregators).values()
        if inspect.isclass(a) and issubclass(a, aggregators.Aggregator)
    }
    interfaces = {aggregators.Aggregator, aggregators.RobustRule}
    assert exported - interfaces == {type(a) for a in TABLE}
