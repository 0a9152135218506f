import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedlearn.data.formats import example_proto as proto
from fedlearn.data.formats.example_encoder import encode_examples

pytestmark = pytest.mark.backend_free

EDGES = [0, 1, -1, 127, 128, 2**14, 2**35 - 1, 2**63 - 1, -(2**63)]


def test_same_bytes_as_the_tests_own_encoder(encode_example):
    arrays = {
        "label": np.array(EDGES),
        "image": np.arange(len(EDGES) * 6, dtype="uint8").reshape(-1, 3, 2),
        "pixels": np.linspace(-1, 1, len(EDGES) * 2).reshape(-1, 2),
        "text": np.array([b"\0" * k for k in range(len(EDGES))], object),
        "words": np.array([["é", "b"]] * len(EDGES)),
        "flag": np.array([True, False, True] * 3),
        "none": np.zeros((len(EDGES), 0), "float32"),
    }
    kinds = {"biu": "int64", "f": "float", "OU": "bytes"}
    got = list(encode_examples(arrays))
    for k, blob in enumerate(got):
        expected = {}
        for name in sorted(arrays):
            array = arrays[name]
            kind = next(
                v for key, v in kinds.items() if array.dtype.kind in key
            )
            values = array.reshape(len(array), -1)[k].tolist()
            if kind == "bytes":
                values = [
                    v.encode() if isinstance(v, str) else v for v in values
                ]
            elif kind == "int64":
                values = [int(v) for v in values]
            expected[name] = (kind, values)
        assert blob == encode_example(expected)


@settings(max_examples=50)
@given(
    hnp.arrays(
        np.int64,
        hnp.array_shapes(min_dims=2, max_dims=3, max_side=5),
        elements=st.integers(-(2**63), 2**63 - 1) | st.sampled_from(EDGES),
    )
)
def test_integers_are_read_back(array):
    for row, blob in zip(array, encode_examples({"v": array}), strict=True):
        kind, data = proto.parse_example(blob)["v"]
        assert kind == proto.INT64
        np.testing.assert_array_equal(proto.decode_ints(data), row.ravel())


def test_more_numbers_than_one_block():
    array = np.arange(70_000, dtype="int32").reshape(7, 10_000)
    for row, blob in zip(array, encode_examples({"v": array}), strict=True):
        data = proto.parse_example(blob)["v"][1]
        np.testing.assert_array_equal(proto.decode_ints(data), row)


def test_tensorflow_reads_it():
    tf = pytest.importorskip("tensorflow")
    arrays = {
        "i": np.array([EDGES]),
        "f": np.array([[0.5, -np.inf, np.nan]], "float32"),
        "b": np.array([[b"\xff\0", b""]], object),
        "name é" * 30: np.array([7]),
    }
    (blob,) = encode_examples(arrays)
    features = tf.train.Example.FromString(blob).features.feature
    assert sorted(features) == sorted(arrays)
    assert list(features["i"].int64_list.value) == EDGES
    np.testing.assert_array_equal(
        features["f"].float_list.value, arrays["f"][0]
    )
    assert list(features["b"].bytes_list.value) == [b"\xff\0", b""]
    assert list(features["name é" * 30].int64_list.value) == [7]


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.array([2**63], "uint64"), "below 2"),
        (np.array([1e300]), "beyond float32"),
        (np.array([1j]), "dtype complex128"),
    ],
)
def test_what_the_format_has_no_place_for(array, match):
    with pytest.raises(ValueError, match=f"'v'.*{match}"):
        list(encode_examples({"v": array}))
