import keras
import numpy as np
import pytest
from keras import ops

from fedlearn.encoders import HadamardRotation
from tests import zoo
from tests.encoders.compression import normal

SEED = np.array([1, 2], np.int32)


def rotated(vector, block_size):
    (blocks,), _ = built(vector, block_size).encode([vector], SEED, None)
    return ops.convert_to_numpy(blocks).reshape(-1, block_size)


def built(vector, block_size):
    spec = [keras.KerasTensor(vector.shape, "float32")]
    return HadamardRotation(block_size).build(spec)


def test_decoding_makes_nothing_longer_whatever_it_gets():
    spec = [keras.KerasTensor((5, 7), "float32")]
    encoder = HadamardRotation(block_size=16).build(spec)
    assert encoder.bound == "rotates"
    params = encoder.params((), SEED, np.inf)
    messages = normal((20, 48))
    lengths = np.linalg.norm(messages, axis=1)
    decoded = [
        zoo.numpy(encoder.decode([ops.convert_to_tensor(m)], params))[0]
        for m in messages
    ]
    shorter = [np.linalg.norm(d) for d in decoded] / lengths
    assert shorter.max() <= 1 + 1e-6
    assert shorter.min() < 1  # 13 numbers are padding
    (both,) = zoo.numpy(encoder.decode([messages[0] + messages[1]], params))
    np.testing.assert_allclose(both, decoded[0] + decoded[1], atol=1e-5)


@pytest.mark.parametrize("block_size", [2**12, 2**17])
def test_long_vectors_turn_back_though_signs_repeat(block_size):
    vector = normal(2**17 + 2**12 + 3)
    blocks = rotated(vector, block_size)
    message = [ops.convert_to_tensor(blocks.reshape(-1))]
    (back,) = built(vector, block_size).decode(message, SEED)
    np.testing.assert_allclose(ops.convert_to_numpy(back), vector, atol=1e-5)
    np.testing.assert_allclose(
        (blocks.astype("float64") ** 2).sum(), (vector**2).sum(), rtol=1e-5
    )


def test_equal_blocks_turn_differently_up_to_the_period():
    blocks = rotated(np.tile(normal(2**12), 18), 2**12)
    period = 2**16 // 2**12
    np.testing.assert_array_equal(blocks[0], blocks[period])
    cosines = blocks[:period] @ blocks[:period].T / (blocks[0] ** 2).sum()
    # Sums of products of signs and squares, whose deviation is this.
    deviation = (3 / 2**12) ** 0.5
    assert abs(cosines - np.eye(period)).max() < 6 * deviation
