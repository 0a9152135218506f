import numpy as np
import pytest
from keras import ops

from fedlearn import backend, threefry


def reference(key, counter):
    """Threefry-2x32-20 in 64-bit integers of Python, from the paper."""
    mask = 0xFFFFFFFF
    keys = [*key, key[0] ^ key[1] ^ 0x1BD11BDA]
    left, right = [(c + k) & mask for c, k in zip(counter, key, strict=True)]
    distances = [13, 15, 26, 6, 17, 29, 16, 24]
    for step in range(20):
        left = (left + right) & mask
        turn = distances[step % 8]
        right = ((right << turn | right >> (32 - turn)) & mask) ^ left
        if step % 4 == 3:
            group = step // 4 + 1
            left = (left + keys[group % 3]) & mask
            right = (right + keys[(group + 1) % 3] + group) & mask
    return left, right


def words(*values):
    return tuple(ops.convert_to_tensor(np.uint32(v)) for v in values)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        (
            (0xFFFFFFFF, 0xFFFFFFFF),
            (0xFFFFFFFF, 0xFFFFFFFF),
            (0x1CB996FC, 0xBB002BE7),
        ),
        (
            (0x243F6A88, 0x85A308D3),
            (0x13198A2E, 0x03707344),
            (0xC4923A9C, 0x483DF7A0),
        ),
    ],
)
def test_known_answers_of_the_authors(counter, key, expected):
    assert reference(key, counter) == expected
    drawn = threefry.threefry_2x32(words(*key), words(*counter))
    assert tuple(int(word) for word in drawn) == expected


@pytest.mark.parametrize("num_words", [0, 1, 2, 7, 64])
def test_bits_are_those_of_integer_arithmetic(num_words):
    seed = np.array([-5, 2**31 - 1], np.int32)
    key = tuple(int(word) for word in seed.view(np.uint32))
    count = (num_words + 1) // 2
    expected = [w for i in range(count) for w in reference(key, (i, 3))]
    drawn = ops.convert_to_numpy(threefry.random_bits(seed, num_words, 3))
    assert drawn.dtype == np.uint32
    assert drawn.tolist() == expected[:num_words]


@pytest.mark.parametrize("size", [0, 1, 33, 100])
def test_signs_are_the_bits_the_lowest_first(size):
    seed = np.array([1, 2], np.int32)
    drawn = ops.convert_to_numpy(threefry.random_bits(seed, 4)).tolist()
    bits = [word >> k & 1 for word in drawn for k in range(32)]
    signs = ops.convert_to_numpy(threefry.random_signs(seed, size))
    assert signs.dtype == np.float32
    assert signs.tolist() == [1 - 2 * bit for bit in bits[:size]]


def test_compiled_and_vectorised_it_is_the_same():
    seeds = np.array([[0, 0], [-1, 7], [123456789, -987654321]], np.int32)
    draw = backend.jit(
        lambda s: backend.vmap(lambda seed: threefry.random_signs(seed, 77))(s)
    )
    expected = [
        ops.convert_to_numpy(threefry.random_signs(seed, 77)) for seed in seeds
    ]
    np.testing.assert_array_equal(ops.convert_to_numpy(draw(seeds)), expected)


@pytest.mark.statistical
def test_signs_are_balanced_and_of_one_seed_or_stream_only():
    size = 1 << 16
    draws = [((1, 2), 0), ((1, 2), 1), ((2, 1), 0), ((1, 3), 0)]
    signs = np.array(
        [
            ops.convert_to_numpy(
                threefry.random_signs(np.array(seed, np.int32), size, stream)
            )
            for seed, stream in draws
        ]
    )
    # Means and correlations have a deviation of 1 / 256.
    assert abs(signs.mean(axis=1)).max() < 5 / 256
    correlations = signs @ signs.T / size - np.eye(len(draws))
    assert abs(correlations).max() < 5 / 256
