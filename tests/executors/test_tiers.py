import numpy as np
import pytest

import fedlearn as fl
from fedlearn.executors import Executor, Tiers
from fedlearn.executors.tiers import division
from fedlearn.messages import wire
from tests import zoo
from tests.executors import cases


class Compiled(Executor):
    """One of the server's children, which needn't compile anew."""

    def __init__(self, run=None):
        self.run = run

    def bind(self, program):
        return self.run

    def get_config(self):
        return {}


def tree(shape, run):
    """`[2, [1, 1]]` of as many leaves."""
    if isinstance(shape, int):
        return Tiers([Compiled(run)] * shape)
    return Tiers([tree(part, run) for part in shape])


@pytest.mark.parametrize(
    "case",
    [
        # A sum and a stack; the others' is one of these on JAX too.
        *("mean", "median"),
        *(
            pytest.param(case, marks=pytest.mark.backend_free)
            for case in cases.AGGREGATORS
            if case not in ("mean", "median")
        ),
    ],
)
def test_any_tree_of_tiers_gives_the_same_bits(case):
    process, data = cases.process(case), cases.clients()
    run = process._run_cohort
    expected, known = cases.rounds(process, data)
    for shape in (3, [1, [2, 3]], 20):
        process._run_cohort = tree(shape, run).bind(process.program)
        state, found = cases.rounds(process, data)
        zoo.assert_equal(state, expected)
        for metrics, without in zip(found, known, strict=True):
            assert without == {
                k: v for k, v in metrics.items() if not k.startswith("tier")
            }


@pytest.mark.backend_free
def test_the_bytes_of_each_level():
    data = zoo.clients((4,) * 6, make=zoo.line)
    known = zoo.regression_process()
    state = known.initialize()
    broadcast = known.broadcast(state)
    _, metrics = known.next(state, data)
    down = known.bytes_down(broadcast)
    # A partial sum has the shapes of the total.
    total = known.cohort_update(state, broadcast, data)
    up = len(wire.pack(total.sums))
    process = fl.FederatedAveraging(
        zoo.regression(),
        client=known.client,
        executor=Tiers(["sequential", Tiers(["sequential"] * 3)]),
    )
    _, found = process.next(state, data)
    # Shards 0 to 3 and 4, 5 are given to the two, and 4, 5 to two of three.
    assert found == {
        **metrics,
        "tier_1_bytes_up": 2 * up,
        "tier_1_bytes_down": 2 * down,
        "tier_2_bytes_up": 2 * up,
        "tier_2_bytes_down": 2 * down,
    }


@pytest.mark.backend_free
def test_parts_cover_a_range_and_are_a_few_nodes():
    for first in range(20):
        for end in range(first, 90):
            for parts in (1, 2, 3, 5, 8):
                bounds = division(first, end, parts)
                assert [bounds[0], bounds[-1]] == [first, end]
                assert bounds == sorted(bounds)
                longest = max(np.diff(bounds))
                assert longest <= 2 * (end - first) / parts + 1


@pytest.mark.backend_free
def test_what_is_no_tier():
    for wrong in ([], 3, "auto"):
        with pytest.raises(ValueError, match="must be a list of the tiers"):
            Tiers(wrong)
    with pytest.raises(ValueError, match="must run clients alike"):
        fl.FederatedAveraging(
            zoo.regression(), executor=Tiers(["auto", "sequential"])
        )
    with pytest.raises(TypeError, match="doesn't divide a cohort into shards"):
        fl.FederatedAveraging(zoo.regression(), executor=Tiers([Compiled(len)]))


@pytest.mark.backend_free
def test_a_config_makes_the_same_tiers():
    tiers = Tiers([Tiers(["auto", "sequential"]), "sequential"])
    assert Tiers.from_config(tiers.get_config()) == tiers
