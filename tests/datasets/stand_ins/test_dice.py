import collections

import numpy as np
import pytest

from fedlearn.datasets.stand_ins.dice import Dice

pytestmark = pytest.mark.backend_free


def test_throws_go_on_beyond_a_block_and_never_repeat():
    dice = Dice(0, "test")
    throws = [dice.throw() for _ in range(3000)]
    assert len(set(throws)) == 3000
    again = Dice(0, "test")
    assert throws == [again.throw() for _ in range(3000)]
    assert throws[:5] != [Dice(1, "test").throw() for _ in range(5)]


def test_pick_is_even_and_pick_early_is_not():
    dice = Dice(0, "test")
    even = collections.Counter(dice.pick("abcd") for _ in range(2000))
    assert all(400 < even[letter] < 600 for letter in "abcd")
    early = collections.Counter(dice.pick_early("abcd") for _ in range(2000))
    # A quarter of the list is reached by half of the throws.
    assert 900 < early["a"] < 1100
    assert early["a"] > early["b"] > early["c"] > early["d"] > 150


def test_shuffled_keeps_all_options():
    dice = Dice(0, "test")
    orders = {tuple(dice.shuffled("abc")) for _ in range(200)}
    assert len(orders) == 6
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert all(0 <= dice.small() < 1 for _ in range(10))
    assert np.mean([dice.small() for _ in range(500)]) < 0.4
