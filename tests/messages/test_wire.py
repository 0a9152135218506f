import io
import json
import struct
import tempfile
import tracemalloc
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


TREE = {
    "weights": [np.arange(6, dtype="float32").reshape(2, 3)],
    "stats": (np.asarray(7, "int64"), {"é": np.zeros((0, 2), "float16")}),
    "half": np.ones(3, ml_dtypes.bfloat16),
}
MESSAGE = wire.pack(TREE)


def test_every_cut_is_an_error():
    for length in range(len(MESSAGE)):
        with pytest.raises(ValueError):
            wire.unpack(MESSAGE[:length])


def test_more_bytes_than_there_should_be():
    with pytest.raises(ValueError, match="more bytes than"):
        wire.unpack(MESSAGE + b"\0")


def reads_or_refuses(data, like=None):
    try:
        tree = wire.unpack(data, like)
    except ValueError:
        return False
    # Of what is read there is one form only.
    assert wire.pack(tree) == data
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
    payload = sum(a.nbytes for a in keras.tree.flatten(wire.unpack(MESSAGE)))
    for position in range(len(MESSAGE)):
        for bit in range(8):
            data = bytearray(MESSAGE)
            data[position] ^= 1 << bit
            accepted = reads_or_refuses(bytes(data), like=TREE)
            # Who knows what is expected takes nothing but other numbers.
            assert accepted == (position >= len(MESSAGE) - payload)
            reads_or_refuses(bytes(data))


@settings(max_examples=200)
@given(st.data())
def test_parts_moved_about(data):
    """Cut, doubled and swapped, as no single flipped byte does."""
    cuts = st.integers(0, len(MESSAGE))
    a, b, c, d = sorted(data.draw(st.tuples(cuts, cuts, cuts, cuts)))
    parts = [MESSAGE[:a], MESSAGE[a:b], MESSAGE[b:c], MESSAGE[c:d], MESSAGE[d:]]
    order = data.draw(st.lists(st.integers(0, 4), max_size=6))
    moved = b"".join(parts[i] for i in order)
    reads_or_refuses(moved)
    reads_or_refuses(moved, like=TREE)


def message_with(text, payload=b""):
    return b"FLM1" + struct.pack("<I", len(text)) + text + payload


def message_with_header(header, payload=b""):
    text = json.dumps(header, separators=(",", ":")).encode()
    return message_with(text, payload)


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
        ["float128", 1],
        ["complex64", 1],
        ["float32,float32", 1],
        ["float32", 10**4299],
        ["int8", *[10**18] * 65],
    ],
    ids=lambda header: str(header)[:40],
)
def test_a_header_made_by_hand_is_refused(header):
    with pytest.raises(ValueError):
        wire.unpack(message_with_header(header, bytes(4)))


def test_a_header_is_written_in_one_way_only():
    assert wire.unpack(message_with(b'["int8",1]', b"a")).tolist() == [97]
    for text in (
        b'["int8", 1]',
        b'["int8",01]',
        b'["int8",1]\n',
        b'["\\u0069nt8",1]',
        '["int8",1]'.encode("utf-16"),
        b'{"d":{"a":["int8",1],"a":["int8",1]}}',
    ):
        with pytest.raises(ValueError, match="header is damaged"):
            wire.unpack(message_with(text, b"a"))


def test_a_bool_is_0_or_1():
    text = b'["bool",2]'
    assert wire.unpack(message_with(text, b"\0\1")).tolist() == [False, True]
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        wire.unpack(message_with(text, b"\1\2"))


def repeated(piece, before=b'{"l":[', after=b"]}", num_bytes=2**16):
    room = num_bytes - len(before) - len(after)
    inner = b",".join([piece] * (room // (len(piece) + 1)))
    return before + inner + after


@pytest.mark.parametrize(
    "text",
    [
        repeated(b'["int8",0]'),
        repeated(b'["int8"]'),
        repeated(b"9" * 18, b'["int8",', b"]"),
        repeated(b"9" * 4300, b'["int8",', b"]"),
        repeated(b'["int8",' + b"9" * 4290 + b"]"),
        repeated(b'{"t":[]}'),
        repeated(b"[]"),
        b'{"l":[' * 100_000 + b"]}" * 100_000,
        b'["' + b"f4," * 20_000 + b'"]',
        b'["float32",4611686018427387904]',
        repeated(b'["float32",1000000000]'),
    ],
    ids=lambda text: text[:24].decode(),
)
def test_a_hostile_header_costs_little(text):
    data = message_with(text, bytes(100))
    for like, most in ((TREE, 0), ([np.zeros(3)], 0), (None, 80 * len(text))):
        tracemalloc.start()
        try:
            with pytest.raises(ValueError):
                wire.unpack(data, like=like)
            assert tracemalloc.get_traced_memory()[1] < most + 10_000
        finally:
            tracemalloc.stop()


def test_a_header_of_any_length_is_not_read():
    text = repeated(b'["int8",0]', num_bytes=2**21)
    data = message_with(text)
    tracemalloc.start()
    with pytest.raises(ValueError, match="Say what is expected"):
        wire.unpack(data)
    with pytest.raises(ValueError, match="another one than expected"):
        wire.unpack(data, like=TREE)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_what_is_no_message():
    for data in (b"", b"FLM", b"PK\x03\x04" + bytes(30), b"FLMX" + bytes(30)):
        with pytest.raises(ValueError, match="aren't a fedlearn message"):
            wire.unpack(data)


def test_a_format_to_come_is_named():
    with pytest.raises(ValueError, match=r"of format 2, .* Update fedlearn"):
        wire.unpack(b"FLM2" + MESSAGE[4:])


class Pipe(io.RawIOBase):
    """What a connection gives: a few bytes at a time."""

    def __init__(self, data, most):
        self._left, self._most = io.BytesIO(data), most

    def read(self, count=-1):
        return self._left.read(min(count, self._most))


@pytest.mark.parametrize("most", [1, 7, 2**20])
def test_a_message_may_come_in_pieces_of_any_length(most):
    assert_same(wire.read(Pipe(MESSAGE, most)), TREE)
    assert_same(wire.read(Pipe(MESSAGE, most), like=TREE), TREE)


class Pages:
    """A file that repeats one page, so that it is long and takes no place."""

    def __init__(self, start, num_bytes):
        self._start, self._left = io.BytesIO(start), num_bytes
        self.taken = 0

    def read(self, count):
        piece = self._start.read(count)
        if not piece:
            piece = memoryview(bytes(2**20))[: min(count, self._left)]
            self._left -= len(piece)
            self.taken += len(piece)
        return bytes(piece)


def test_no_more_memory_than_bytes_came():
    """Also where a length may be any, and a header announces 2**62 bytes."""
    like = [keras.KerasTensor((None,), "uint8")]
    text = b'{"l":[["uint8",%d]]}' % 2**62
    file = Pages(message_with(text), 50 * 2**20)
    tracemalloc.start()
    with pytest.raises(ValueError, match="cut short"):
        wire.read(file, like=like)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert file.taken == 50 * 2**20
    assert peak < 1.2 * file.taken + 2**22


def test_one_model_of_memory_is_enough():
    tree = [np.ones((1000, 1000), "float32") for _ in range(10)]
    num_bytes = wire.length(tree)
    with tempfile.TemporaryFile() as file:
        tracemalloc.start()
        file.writelines(wire.chunks(tree))
        assert tracemalloc.get_traced_memory()[1] < 2**20
        assert file.tell() == num_bytes
        file.seek(0)
        tracemalloc.reset_peak()
        found = wire.read(file, like=tree)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1.2 * num_bytes
    assert_same(found, tree)


class Huge:
    """An array of 6 GB that isn't made."""

    dtype, shape = np.dtype("float32"), (3, 2**29)


def test_lengths_are_of_64_bits():
    tree = {"a": Huge(), "b": np.ones(3, "int8")}
    text = b'{"d":{"a":["float32",3,536870912],"b":["int8",3]}}'
    assert wire.length(tree) == 8 + len(text) + 3 * 2**31 + 3
    # A reader asks for all of them.
    with pytest.raises(ValueError, match=f"should have {3 * 2**31}"):
        wire.unpack(message_with(text, bytes(100)), like=tree)


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


def test_a_tensor_that_is_one_number():
    value = keras.ops.convert_to_tensor(2.0, "bfloat16")
    (found,) = wire.unpack(wire.pack((value,)))
    assert (found, found.dtype, found.shape) == (2, "bfloat16", ())


def test_the_length_is_the_payload_and_a_short_header():
    size = len(wire.pack([np.zeros(1000, "float32")]))
    assert size == wire.length([np.zeros(1000, "float32")])
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
