import json
import struct
from typing import NamedTuple

import keras
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedlearn.messages import wire

pytestmark = pytest.mark.backend_free

shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
arrays = hnp.arrays(
    st.sampled_from(["float32", "float64", "float16", "int64", "u1", "bool"]),
    shapes,
) | hnp.arrays("uint16", shapes).map(lambda a: a.view(ml_dtypes.bfloat16))
trees = st.recursive(
    arrays,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


def assert_same(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert set(one) == set(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()  # NaN included


@given(trees)
def test_round_trip(tree):
    assert_same(wire.unpack(wire.pack(tree)), tree)


MESSAGE = wire.pack(
    {
        "weights": [np.arange(6, dtype="float32").reshape(2, 3)],
        "stats": (np.int64(7), {"é": np.zeros((0, 2), "float16")}),
        "half": np.ones(3, ml_dtypes.bfloat16),
    }
)


def test_every_cut_is_an_error():
    for length in range(len(MESSAGE)):
        with pytest.raises(ValueError):
            wire.unpack(MESSAGE[:length])


def test_more_bytes_than_there_should_be():
    with pytest.raises(ValueError, match="its header says"):
        wire.unpack(MESSAGE + b"\0")


def reads_or_refuses(data):
    try:
        wire.unpack(data)
    except ValueError:
        return False
    return True


@settings(max_examples=400)
@given(
    st.lists(
        st.tuples(st.integers(0, len(MESSAGE) - 1), st.integers(0, 255)),
        min_size=1,
        max_size=4,
    )
)
def test_damage_is_an_error_or_other_numbers(changes):
    data = bytearray(MESSAGE)
    for position, byte in changes:
        data[position] = byte
    reads_or_refuses(bytes(data))


def test_every_flipped_bit():
    refused = 0
    for position in range(len(MESSAGE)):
        for bit in range(8):
            data = bytearray(MESSAGE)
            data[position] ^= 1 << bit
            refused += not reads_or_refuses(bytes(data))
    assert refused > 32 * 8  # magic and lengths at least


def message_with_header(header, payload=b""):
    text = json.dumps(header).encode()
    return b"FLM1" + struct.pack("<I", len(text)) + text + payload


@pytest.mark.parametrize(
    "header",
    [
        None,
        3,
        "float32",
        [],
        {},
        {"d": [], "l": []},
        {"l": 3},
        {"x": []},
        ["float32", -1],
        ["float32", -1, -1],
        ["float32", 2**62, 4],
        ["float32", 2**64],
        ["float32", 0, 2**64],
        ["float32", *[1] * 99],
        ["float32", True],
        ["float32", 1e300],
        ["float32", "3"],
        ["float32", None],
        ["float32", 1.5],
        ["object", 1],
        ["O"],
        ["S4", 1],
        ["V8", 1],
        ["float33", 1],
        ["os", 1],
        ["finfo", 1],
        ["__name__"],
        [3, 3],
        [None],
        {"d": {"a": ["float32", 10**9]}},
    ],
    ids=str,
)
def test_a_header_made_by_hand_is_refused(header):
    with pytest.raises(ValueError):
        wire.unpack(message_with_header(header, bytes(4)))


def test_a_deeply_nested_header_is_refused():
    text = b'{"l":[' * 100_000 + b"]}" * 100_000
    data = b"FLM1" + struct.pack("<I", len(text)) + text
    with pytest.raises(ValueError):
        wire.unpack(data)


def test_what_is_no_message():
    for data in (b"", b"FLM", b"PK\x03\x04" + bytes(30), b"FLM2" + bytes(30)):
        with pytest.raises(ValueError, match="aren't a fedlearn message"):
            wire.unpack(data)


def test_what_cannot_be_sent():
    for thing in (object(), np.array(["a", None], object), {"a": None}):
        with pytest.raises(TypeError, match="arrays of numbers"):
            wire.pack(thing)


def test_text_is_not_sent():
    with pytest.raises(TypeError, match="arrays of numbers"):
        wire.pack({"a": np.array("text")})


def test_arrays_that_were_read_can_be_written_to():
    array = wire.unpack(wire.pack(np.zeros(3)))
    array[0] = 1
    assert array.tolist() == [1, 0, 0]


def test_other_byte_orders_and_strides():
    array = np.arange(6, dtype=">i4").reshape(2, 3).T
    read = wire.unpack(wire.pack(array))
    assert read.dtype == np.dtype("<i4")
    assert read.tolist() == array.tolist()


def test_the_length_is_the_payload_and_a_short_header():
    size = len(wire.pack([np.zeros(1000, "float32")]))
    assert 4000 < size < 4000 + 50
    # What a value is doesn't change how long its message is.
    assert size == len(wire.pack([np.full(1000, np.nan, "float32")]))


class Named(NamedTuple):
    a: object
    b: object = ()
    c: object = ()


@pytest.mark.parametrize(
    "value", [Named(1.0), Named(1.0, (), [2.0]), Named(1.0, [2.0])]
)
def test_empty_fields_at_the_end_are_not_sent_and_come_back(value):
    value = keras.tree.map_structure(np.float32, value)
    data = wire.pack(value)
    plain = wire.unpack(data)
    assert len(plain) == 3 - (value.c == ()) - (value.b == value.c == ())
    found = wire.unpack(data, like=value)
    assert type(found) is Named
    assert found == value


@pytest.mark.parametrize(
    ("sent", "match"),
    [
        ([np.zeros(3, "int32")], "int32 of shape"),
        ([np.zeros((3, 1), "float32")], r"float32 of shape \(3, 1\)"),
        ((np.zeros(3, "float32"),), "where .* should be"),
        ([np.zeros(3, "float32")] * 2, "its header is|where"),
        ({"a": np.zeros(3, "float32")}, "where"),
    ],
)
def test_another_structure_than_expected_is_refused(sent, match):
    like = [keras.KerasTensor((None,), "float32")]
    found = wire.unpack(wire.pack([np.zeros(7, "float32")]), like=like)
    assert found[0].shape == (7,)
    with pytest.raises(ValueError, match=match):
        wire.unpack(wire.pack(sent), like=like)
