import collections

import numpy as np
import pytest

import fedlearn as fl
from fedlearn import attacks
from fedlearn.executors import Tiers
from fedlearn.executors.executor import Shard
from fedlearn.executors.tiers import division, traffic
from fedlearn.executors.total import Total
from fedlearn.messages import wire
from fedlearn.messages.update import StackedUpdate, TierTraffic
from tests import zoo
from tests.executors import cases


def add_up(children, shards, partials, sent, level=0):
    """What a tier has, by adding up in tiers: the slow way.

    `sent` gets what each tier of each level sent, as bytes.
    """
    tier = Total(len(partials))
    if isinstance(children, int):
        children = [0] * children
    if not children:
        for number in shards:
            tier.add(partials[number], number)
        return tier
    parts = division(shards, len(children))
    for child, part in zip(children, parts, strict=True):
        if part:
            below = add_up(child, part, partials, sent, level + 1)
            nodes = list(below.nodes())
            sent[level].append([wire.pack(node.sums) for node, *_ in nodes])
            for node in nodes:
                tier.add(*node)
    return tier


@pytest.mark.parametrize("case", cases.AGGREGATORS)
def test_adding_up_in_any_tiers(case):
    """The same bits, and the bytes that are told."""
    process, data = cases.process(case), cases.clients()
    state = process.initialize(seed=1)
    broadcast = process.broadcast(state)
    expected = process.cohort_update(state, broadcast, data)
    received = process.receive(broadcast)
    cohort = process.cohort(data, process._state_of(state, received))
    run = process._run_cohort
    shards = run.shards(cohort)
    partials = [
        run.run_shard(
            received,
            cohort.part(shard.positions),
            [
                process.client_seed(state, cohort.ids[i])
                for i in shard.positions
            ],
            shard.plan,
        )
        for shard in shards
    ]
    for children in (3, [1, [2, 3]], [[0, 4], 0], 20):
        sent = collections.defaultdict(list)
        total = add_up(children, range(len(shards)), partials, sent)
        zoo.assert_equal(total.result(), expected)
        assert traffic(children, shards, expected) == [
            TierTraffic(len(tiers), sum(len(m) for t in tiers for m in t))
            for _, tiers in sorted(sent.items())
        ]


@pytest.mark.backend_free
def test_the_bytes_of_each_level():
    data = zoo.clients((4,) * 6, make=zoo.line)
    known = zoo.regression_process()
    state = known.initialize()
    broadcast = known.broadcast(state)
    after, metrics = known.next(state, data)
    down = known.bytes_down(broadcast)
    # A partial sum has the shapes of the total.
    total = known.cohort_update(state, broadcast, data)
    up = len(wire.pack(total.sums))
    process = fl.FederatedAveraging(
        zoo.regression(),
        client=known.client,
        executor=Tiers([0, 3], "sequential"),
    )
    found = process.next(state, data)
    zoo.assert_equal(found[0], after)
    # Shards 0 to 3 and 4, 5 are given to the two, and 4, 5 to two of three.
    assert found[1] == {
        **metrics,
        "tier_1_bytes_up": 2 * up,
        "tier_1_bytes_down": 2 * down,
        "tier_2_bytes_up": 2 * up,
        "tier_2_bytes_down": 2 * down,
    }
    executors = [known.executor, process.executor]
    one, two = (e.in_one_process.plan(known.program) for e in executors)
    assert one == two
    assert executors[0].threads == executors[1].threads


@pytest.mark.backend_free
def test_a_tier_sends_the_rows_of_all_clients_of_its_shards():
    one, other, total = (
        StackedUpdate([np.zeros((n, 4), "float32")], [], n, n, 0)
        for n in (3, 2, 5)
    )
    sent = sum(len(wire.pack(part.sums)) for part in (one, other))
    shards = [Shard(range(3)), Shard(range(3, 5))]
    assert traffic(2, shards, total) == [TierTraffic(2, sent)]


@pytest.mark.backend_free
def test_parts_cover_a_range_and_are_a_few_nodes():
    for first in range(20):
        for end in range(first, 90):
            for count in (1, 2, 3, 5, 8):
                parts = division(range(first, end), count)
                assert len(parts) == count
                assert [n for part in parts for n in part] == [
                    *range(first, end)
                ]
                longest = max(map(len, parts))
                assert longest <= 2 * (end - first) / count + 1


@pytest.mark.backend_free
def test_what_is_no_tier():
    for wrong in ([], 0, -1, "auto", ["auto"], [2, 1.5]):
        with pytest.raises(ValueError, match="`children` must be"):
            Tiers(wrong)
    attacked = attacks.AttackedExecutor(attacks.SignFlip(), [])
    for inner in (attacked, Tiers(2)):
        with pytest.raises(ValueError, match="doesn't divide a cohort into"):
            fl.FederatedAveraging(zoo.regression(), executor=Tiers(2, inner))


@pytest.mark.backend_free
def test_a_config_makes_the_same_tiers():
    tiers = Tiers([[2, 0], 3], "sequential")
    assert Tiers.from_config(tiers.get_config()) == tiers
    assert tiers != Tiers([[2, 1], 3], "sequential")
