import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from fedlearn.encoders import integer_bytes

pytestmark = pytest.mark.backend_free


@hypothesis.given(
    st.integers(1, 31), st.integers(0, 40), st.integers(0, 2**31 - 1)
)
def test_integers_come_back(bits, size, seed):
    rng = np.random.default_rng(seed)
    integers = rng.integers(0, 2**bits, (size, 2)).astype("int32")
    packed = integer_bytes.pack(integers, bits)
    assert packed.dtype == np.uint8
    assert packed.size == -(-size * 2 * bits // 8)
    back = integer_bytes.unpack(packed, bits, integers)
    assert back.dtype == integers.dtype
    np.testing.assert_array_equal(back, integers)


def test_the_lowest_bit_comes_first():
    integers = np.array([0b101, 0b011, 0b110], np.uint8)
    assert integer_bytes.pack(integers, 3).tolist() == [0b10011101, 0b1]


@pytest.mark.parametrize("size", [0, 5, 7])
def test_another_length_is_an_error(size):
    like = np.zeros(4, np.int32)
    with pytest.raises(ValueError, match=r"4 integers of 12 bits is 6 bytes"):
        integer_bytes.unpack(np.zeros(size, np.uint8), 12, like)
