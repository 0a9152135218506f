import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlearn.data.formats import example_proto as proto

pytestmark = pytest.mark.backend_free

int64 = st.integers(-(2**63), 2**63 - 1)
feature = st.one_of(
    st.tuples(st.just("bytes"), st.lists(st.binary(max_size=150), max_size=3)),
    st.tuples(st.just("float"), st.lists(st.floats(width=32), max_size=20)),
    st.tuples(st.just("int64"), st.lists(int64, max_size=20)),
)
features = st.dictionaries(st.text(max_size=140), feature, max_size=3)


@given(features=features, packed=st.booleans())
@settings(max_examples=60, deadline=None)
def test_round_trip(encode_example, features, packed):
    parsed = proto.parse_example(encode_example(features, packed))
    assert parsed.keys() == features.keys()
    for name, (kind, values) in features.items():
        number, encoded = parsed[name]
        assert proto.KIND_NAMES[number] == kind
        if kind == "bytes":
            assert encoded == values
        elif kind == "float":
            got = proto.decode_floats(encoded)
            np.testing.assert_array_equal(got, np.float32(values))
        else:
            assert proto.decode_ints(encoded).tolist() == values
            assert proto.count_ints(encoded) == len(values)


@given(features=features, data=st.data())
@settings(max_examples=60, deadline=None)
def test_damage_is_an_error_or_other_data_but_never_a_crash(
    encode_example, features, data
):
    blob = bytearray(encode_example(features))
    cut = data.draw(st.integers(0, len(blob)))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(blob) - 1))
        blob[at] = data.draw(st.integers(0, 255))
    try:
        parsed = proto.parse_example(bytes(blob[:cut]))
        for kind, values in parsed.values():
            if kind == proto.FLOAT:
                proto.decode_floats(values)
            elif kind == proto.INT64:
                proto.decode_ints(values)
    except ValueError:
        pass


def test_any_cut_of_a_message_is_an_error(encode_example):
    blob = encode_example({"a": ("int64", [1, 300]), "b": ("bytes", [b"xy"])})
    for cut in range(1, len(blob)):
        with pytest.raises(ValueError, match="ends within"):
            proto.parse_example(blob[:cut])
    assert proto.parse_example(b"") == {}


def test_unknown_fields_are_skipped(encode_example):
    blob = encode_example({"a": ("int64", [5])})
    extra = b"\x10\x96\x01" + b"\x19" + bytes(8) + b"\x25" + bytes(4)
    assert proto.parse_example(extra + blob + extra)["a"] == (3, b"\x05")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"\x80", "ends within"),
        (b"\x01" + b"\xff" * 10 + b"\x01", "more than 10 bytes"),
    ],
)
def test_bad_varints(data, match):
    with pytest.raises(ValueError, match=match):
        proto.decode_ints(data)


def test_bad_floats_and_wire_types():
    with pytest.raises(ValueError, match="float"):
        proto.decode_floats(b"123")
    with pytest.raises(ValueError, match="wire type 3"):
        proto.parse_example(b"\x0b")


def test_agrees_with_tensorflow():
    tf = pytest.importorskip("tensorflow")
    ints = [0, 1, 127, 128, -1, 2**63 - 1, -(2**63)]
    example = tf.train.Example()
    example.features.feature["i"].int64_list.value.extend(ints)
    example.features.feature["f"].float_list.value.extend([0.5, -2.0])
    example.features.feature["b"].bytes_list.value.extend([b"", b"\x00z\x00"])
    parsed = proto.parse_example(example.SerializeToString())
    assert proto.decode_ints(parsed["i"][1]).tolist() == ints
    assert proto.decode_floats(parsed["f"][1]).tolist() == [0.5, -2.0]
    assert parsed["b"] == (proto.BYTES, [b"", b"\x00z\x00"])
