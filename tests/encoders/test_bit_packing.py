import numpy as np
import pytest
from keras import ops

from fedlearn import backend
from fedlearn.encoders import bit_packing

SIZES = (0, 1, 7, 8, 9, 250)


@pytest.mark.parametrize("bits", range(1, 9))
def test_what_is_packed_comes_back(bits):
    rng = np.random.default_rng(bits)
    for size in SIZES:
        values = rng.integers(0, 2**bits, size).astype(np.uint8)
        packed = bit_packing.pack(values, bits)
        assert packed.shape == bit_packing.spec(size, bits).shape
        assert ops.convert_to_numpy(packed).dtype == np.uint8
        assert packed.shape[0] < size * bits / 8 + bits + 1
        unpacked = bit_packing.unpack(packed, bits, size)
        np.testing.assert_array_equal(ops.convert_to_numpy(unpacked), values)


@pytest.mark.parametrize("bits", range(1, 9))
def test_every_bit_has_a_place_of_its_own(bits):
    # One value at a time has all its bits set: no two share any.
    size = 8
    packed = np.array(
        [
            ops.convert_to_numpy(
                bit_packing.pack(
                    ((2**bits - 1) * np.eye(size)[i]).astype(np.uint8), bits
                )
            )
            for i in range(size)
        ]
    )
    assert np.unpackbits(packed).sum() == size * bits
    assert np.bitwise_or.reduce(packed).tolist() == [255] * bits


def test_trits_come_back():
    rng = np.random.default_rng(0)
    for size in SIZES:
        values = rng.integers(0, 3, size).astype(np.uint8)
        packed = bit_packing.pack_trits(values)
        assert packed.shape == (bit_packing.packed_trits_size(size),)
        unpacked = bit_packing.unpack_trits(packed, size)
        np.testing.assert_array_equal(ops.convert_to_numpy(unpacked), values)


def test_lanes_are_packed_side_by_side():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 3, (3, 41)).astype(np.uint8)

    def one(v):
        threes = bit_packing.unpack(bit_packing.pack(v, 3), 3, 41)
        return threes, bit_packing.unpack_trits(bit_packing.pack_trits(v), 41)

    for result in backend.jit(lambda v: backend.vmap(one)(v))(values):
        np.testing.assert_array_equal(ops.convert_to_numpy(result), values)
