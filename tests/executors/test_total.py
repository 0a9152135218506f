import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlearn.executors.total import Total, cover, halves
from fedlearn.messages.update import StackedUpdate, Update

pytestmark = pytest.mark.backend_free


class Expression(str):
    """What is added to what, as text: a sum that shows its order."""

    def __add__(self, other):
        return Expression(f"({self}+{other})")


def partial(text):
    return Update([Expression(text)], [], 1, 2, 0, 8, {text: [0]})


def by_recursion(first, last, num_shards):
    """The definition: halves of ranges of a power of two, cut short."""
    places = 1 << math.ceil(math.log2(last - first + 1))
    if places == 1:
        return str(first)
    middle = first + places // 2
    parts = by_recursion(first, middle - 1, num_shards)
    return f"({parts}+{by_recursion(middle, last, num_shards)})"


@st.composite
def arrivals(draw):
    return draw(st.permutations(range(draw(st.integers(1, 40)))))


@given(arrivals())
def test_the_order_of_arrival_changes_nothing(order):
    total = Total(len(order))
    for shard in order:
        total.add(partial(str(shard)), shard)
    result = total.result()
    expected = by_recursion(0, len(order) - 1, len(order))
    assert result.summand == [expected]
    assert result[2:6] == tuple(len(order) * n for n in (1, 2, 0, 8))
    assert list(result.client_states) == [str(i) for i in range(len(order))]


@given(st.integers(1, 200))
def test_few_are_kept_of_those_that_come_in_order(num_shards):
    total = Total(num_shards)
    for shard in range(num_shards):
        total.add(partial(str(shard)), shard)
        assert len(list(total.nodes())) <= num_shards.bit_length()


@given(arrivals(), st.data())
def test_tiers_of_any_ranges_give_the_same_sum(order, data):
    count = len(order)
    cuts = sorted(data.draw(st.sets(st.sampled_from(order), max_size=4)) - {0})
    server, nodes = Total(count), []
    for start, end in zip([0, *cuts], [*cuts, count], strict=True):
        tier = Total(count)
        for shard in order:
            if start <= shard < end:
                tier.add(partial(str(shard)), shard)
        sent = list(tier.nodes())
        assert len(sent) <= 2 * math.ceil(math.log2(count + 1))
        nodes += sent
    for node in data.draw(st.permutations(nodes)):
        server.add(*node)
    assert server.result().summand == [by_recursion(0, count - 1, count)]


@given(st.integers(1, 40), st.data())
def test_any_neighbours_are_few_nodes(num_shards, data):
    end = data.draw(st.integers(1, num_shards))
    shards = range(data.draw(st.integers(0, end - 1)), end)
    nodes = cover(shards, num_shards)
    assert [number for node in nodes for number in node] == list(shards)
    total, by_shard = Total(num_shards), Total(num_shards)
    for node in nodes:
        total.add(partial("of a node"), node.start, node[-1])
        assert [n for half in halves(node) for n in half] == list(node)
        for half in halves(node):
            by_shard.add(partial("of half a node"), half.start, half[-1])
    kept = [(first, last) for _, first, last in total.nodes()]
    assert kept == [(node.start, node[-1]) for node in nodes]  # the fewest
    assert kept == [(first, last) for _, first, last in by_shard.nodes()]


@given(arrivals())
def test_stacked_updates_stand_in_the_order_of_shards(order):
    total = Total(len(order))
    for shard in order:
        rows = np.full((2, 3), shard, "float32")
        total.add(StackedUpdate([rows], [], 2, 0, 0), shard)
    result = total.result()
    assert isinstance(result, StackedUpdate)
    rows = np.repeat(np.arange(len(order)), 2)
    np.testing.assert_array_equal(np.array(result.summand[0])[:, 0], rows)
    assert result.num_clients == 2 * len(order)


@pytest.mark.parametrize(
    ("first", "last", "match"),
    [
        (1, 2, "no node of the tree"),
        (0, 2, "no node of the tree"),
        (4, 7, "no node of the tree"),  # of 7, shards 4 to 6 are one
        (6, 7, "no node of the tree"),
        (-1, -1, "no node of the tree"),
        (3, 3, "added before"),
        (2, 3, "added before"),
    ],
)
def test_what_is_no_node(first, last, match):
    total = Total(7)
    total.add(partial("3"), 3)
    with pytest.raises(ValueError, match=match):
        total.add(partial("x"), first, last)


def test_a_sum_with_gaps_is_none():
    total = Total(2)
    total.add(partial("1"), 1)
    with pytest.raises(ValueError, match="missing"):
        total.result()
