import math
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlearn import seeds

pytestmark = pytest.mark.backend_free

GOLDEN_FOLD = 17438911233739323808
GOLDEN_BITS = [
    3990005023921466282,
    4137697840774835973,
    9933636535878979224,
]
GOLDEN_ORDER = [6, 5, 3, 0, 1, 7, 4, 2]
GOLDEN_NORMAL = [0.11222933228659625, 0.7697658678519123, 0.5792281384436531]

keys = st.lists(st.integers(-(2**70), 2**70) | st.text(max_size=5), max_size=4)


def test_golden_values():
    # A change here changes every run that anyone has made.
    assert seeds.fold(0, "client", "f0042") == GOLDEN_FOLD
    assert seeds.bits(3, 7, "golden").tolist() == GOLDEN_BITS
    assert seeds.permutation(8, 7, "golden").tolist() == GOLDEN_ORDER
    np.testing.assert_array_equal(
        seeds.uniform(3, 7, "golden"),
        [(b >> 11) / 2**53 for b in GOLDEN_BITS],
    )
    assert seeds.normal(3, 7, "golden").tolist() == GOLDEN_NORMAL


@given(keys)
def test_bits_are_those_of_a_fresh_philox(key):
    digest = seeds._digest(tuple(key))
    philox = np.random.Philox(key=np.frombuffer(digest, np.uint64))
    np.testing.assert_array_equal(seeds.bits(9, *key), philox.random_raw(9))


@given(keys, st.integers(0, 50), st.integers(0, 50))
def test_a_longer_draw_begins_the_same(key, size, more):
    for draw in (seeds.bits, seeds.uniform, seeds.normal):
        longer = draw(size + more, *key)
        np.testing.assert_array_equal(draw(size, *key), longer[:size])


@given(keys, keys)
def test_other_keys_give_other_bits(one, other):
    def tagged(key):
        return [(type(part), part) for part in key]

    same = seeds.bits(2, *one).tolist() == seeds.bits(2, *other).tolist()
    assert same == (tagged(one) == tagged(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "bc"), ("ab", "c")),
        ((1,), ("1",)),
        ((1, 2), (12,)),
        ((), ("",)),
        ((0,), (-0, 0)),
        (("i1:1",), (1,)),
    ],
)
def test_keys_that_look_alike_are_different(one, other):
    assert seeds.fold(*one) != seeds.fold(*other)


@given(keys, st.integers(0, 100))
def test_a_permutation_has_each_number_once(key, size):
    order = seeds.permutation(size, *key)
    assert sorted(order.tolist()) == list(range(size))


@pytest.mark.statistical
def test_uniform_and_order_are_uniform():
    # The mean of 20,000 uniform numbers has a standard deviation of 0.00204:
    # five of them are passed once in 1.7 million keys.
    numbers = seeds.uniform(20_000, "uniform")
    assert 0 <= numbers.min() < numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 5 * 0.00204
    # Each of the 6 orders of three is drawn 1000 +- 29 times; 6 * 0.6e-6.
    draws = [tuple(seeds.permutation(3, "order", i)) for i in range(6000)]
    _, counts = np.unique(draws, axis=0, return_counts=True)
    assert len(counts) == 6
    assert np.abs(counts - 1000).max() < 5 * 29


@pytest.mark.statistical
def test_normal_is_normal():
    numbers = seeds.normal(40_000, "normal")
    # The Kolmogorov-Smirnov distance to the normal distribution is above
    # 2.5 / sqrt(size) with probability 2 exp(-12.5) = 8e-6.
    cdf = [0.5 * math.erfc(-z / math.sqrt(2)) for z in np.sort(numbers)]
    steps = np.arange(40_000) / 40_000
    distance = max(
        np.max(cdf - steps), np.max(steps + 1 / 40_000 - np.array(cdf))
    )
    assert distance < 2.5 / math.sqrt(40_000)
    # Neighbours are independent: a correlation of 5 deviations is 6e-7.
    correlation = np.corrcoef(numbers[1:], numbers[:-1])[0, 1]
    assert abs(correlation) < 5 / math.sqrt(40_000)


def test_threads_do_not_disturb_each_other():
    expected = [seeds.bits(100, "thread", i) for i in range(8)]
    wrong = []

    def draw(i):
        for _ in range(50):
            if not (seeds.bits(100, "thread", i) == expected[i]).all():
                wrong.append(i)

    threads = [threading.Thread(target=draw, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_generator_is_set_by_its_key():
    one, same, other = (
        seeds.generator(*key).normal(size=3)
        for key in ((0, "a"), (0, "a"), (0, "b"))
    )
    assert one.tolist() == same.tolist() != other.tolist()
