import math

import numpy as np
import pytest
from keras import ops

from fedlearn.encoders import Drive, Eden, flat_vector
from fedlearn.encoders.hartley_rotation import block_shape, rotate, rotate_back
from tests.encoders.compression import normal, words


@pytest.mark.backend_free
def test_blocks_fit_the_vector():
    for size in range(1, 20_000):
        num_blocks, rows, columns = block_shape(size, 8192)
        padding = num_blocks * rows * columns - size
        assert 0 <= padding <= max(size * (0.005 if size > 1000 else 0.05), 31)
        assert rows * columns <= 8192 * 1.005
        assert columns <= rows <= 5 * columns
    assert math.prod(block_shape(0, 8192)) == 0


@pytest.mark.parametrize(
    ("size", "block_size"), [(650, 8192), (75, 30), (1, 9)]
)
def test_it_turns_and_turns_back(size, block_size):
    shape, vector = block_shape(size, block_size), normal(size)
    blocks = rotate(ops.convert_to_tensor(vector), words(3), shape)
    assert tuple(blocks.shape) == (shape[0], shape[1] * shape[2])
    assert float(ops.sum(blocks * blocks)) == pytest.approx(
        float((vector**2).sum()), rel=1e-5
    )
    back = rotate_back(blocks, words(3), shape, size)
    np.testing.assert_allclose(back, vector, atol=1e-5)


def test_few_large_numbers_become_many_normal_ones():
    size = 5000
    vector = np.zeros(size, "float32")
    vector[[7, 8, 4000]] = 3.0, 1.0, -2.0
    shape = block_shape(size, 8192)
    blocks = np.asarray(rotate(ops.convert_to_tensor(vector), words(1), shape))
    numbers = blocks.ravel() * math.sqrt(blocks.size / 14)
    assert (numbers**4).mean() == pytest.approx(3, rel=0.1)
    assert (numbers < 1).mean() == pytest.approx(0.8413, abs=0.02)


@pytest.mark.backend_free
@pytest.mark.parametrize("size", [1, 2, 3, 100, 650, 5000, 7850, 10_001])
@pytest.mark.parametrize(
    "encoder",
    [Drive(), Eden(0.5), Eden(2), Eden(2.5)],
    ids=lambda e: f"{type(e).__name__}-{e.bits}",
)
def test_messages_of_small_models_are_small(size, encoder):
    spec = encoder.build(flat_vector.spec_of_size(size)).encoded_spec()
    num_bytes = sum(math.prod(codes.shape) for codes in spec["codes"])
    # Bytes of codes are whole, and up to 31 numbers are added to few.
    least = max(size, 32) * encoder.bits / 8
    assert num_bytes <= 1.02 * least + 2 * encoder.bits + 1
    assert tuple(spec["scales"].shape) == (1 if size < 8192 else 2,)
