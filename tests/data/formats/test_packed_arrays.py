import numpy as np
import pytest

from fedlearn.data.formats.packed_arrays import unpack_arrays

pytestmark = pytest.mark.backend_free


def number(value):
    if value < 0x80:
        return bytes([value])
    width = next(w for w in (1, 2, 4, 8) if value < 1 << 8 * w)
    tag = {1: 0xCC, 2: 0xCD, 4: 0xCE, 8: 0xCF}[width]
    return bytes([tag]) + value.to_bytes(width, "big")


def sized(length, small, tags):
    """The header of what has a length; `small` is (tag, limit)."""
    if small and length < small[1]:
        return bytes([small[0] | length])
    for width, tag in tags:
        if length < 1 << 8 * width:
            return bytes([tag]) + length.to_bytes(width, "big")
    raise AssertionError


def text(value):
    value = value.encode()
    return (
        sized(len(value), (0xA0, 32), [(1, 0xD9), (2, 0xDA), (4, 0xDB)]) + value
    )


def blob(value):
    return sized(len(value), None, [(1, 0xC4), (2, 0xC5), (4, 0xC6)]) + value


def listed(items):
    items = list(items)
    head = sized(len(items), (0x90, 16), [(2, 0xDC), (4, 0xDD)])
    return head + b"".join(items)


def extension(code, payload):
    if len(payload) in (1, 2, 4, 8, 16):
        head = bytes([0xD4 + len(payload).bit_length() - 1])
    else:
        head = sized(len(payload), None, [(1, 0xC7), (2, 0xC8), (4, 0xC9)])
    return head + bytes([code]) + payload


def pack_array(array):
    shape = listed(map(number, array.shape))
    if array.dtype == object:
        return extension(4, listed([shape, listed(map(blob, array.flat))]))
    parts = [shape, text(array.dtype.name), blob(array.tobytes())]
    return extension(1, listed(parts))


def pack(arrays):
    head = sized(len(arrays), (0x80, 16), [(2, 0xDE), (4, 0xDF)])
    return head + b"".join(
        text(name) + pack_array(array) for name, array in arrays.items()
    )


DTYPES = "bool int8 uint8 int16 uint32 int64 uint64 float16 float32 float64"


@pytest.mark.parametrize("dtype", DTYPES.split())
@pytest.mark.parametrize("shape", [(0, 3), (1,), (4, 5, 1), (300, 300)])
def test_every_dtype(dtype, shape):
    values = np.arange(np.prod(shape)).reshape(shape) % 100
    array = values.astype(dtype)
    got = unpack_arrays(pack({"x": array}))["x"]
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got, array)


def test_strings_and_many_names():
    words = np.array([[b"", b"\0a"], [b"b" * 300, b"c" * 70_000]], object)
    arrays = {f"name {k} " + "ä" * k: np.arange(k + 1) for k in range(40)}
    got = unpack_arrays(pack({"words": words, **arrays}))
    assert list(got) == ["words", *arrays]
    assert got["words"].tolist() == words.tolist()
    assert all((got[name] == arrays[name]).all() for name in arrays)


def test_name_of_the_dtype_as_bytes():
    parts = [listed([number(2)]), blob(b"uint8"), text("ab")]
    data = b"\x81" + text("x") + extension(1, listed(parts))
    assert unpack_arrays(data)["x"].tolist() == [97, 98]


def test_bytes_of_the_format():
    # Written by hand from the specification, not by the encoder above.
    data = (
        bytes.fromhex("81 a1 78 c7 16 01 93 92 02 01 a7")
        + b"float32"
        + bytes.fromhex("c4 08 0000803f 00000040")
    )
    assert unpack_arrays(data)["x"].tolist() == [[1.0], [2.0]]


GOOD = pack({"x": np.arange(3), "t": np.array([b"a", b"bc", b""], object)})


@pytest.mark.parametrize("cut", range(len(GOOD)))
def test_cut_anywhere(cut):
    with pytest.raises(ValueError):
        unpack_arrays(GOOD[:cut])


def odd(shape=(b"\1",), name="uint8", data=b"\7", more=()):
    array = listed([listed(shape), text(name), blob(data), *more])
    return b"\x81" + text("x") + extension(1, array)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (GOOD + b"\0", "1 bytes too many"),
        (b"\x93", "a list where a map"),
        (b"\xc0", "tag 0xc0"),
        (b"\x81" * 5000, "a map where a string"),
        (b"\xdf\xff\xff\xff\xff", "ends within"),
        (b"\x81" + text("x") + number(1), "under 'x': a integer where"),
        (b"\x81" + text("x") + extension(2, b"\1"), "of type 2"),
        (b"\x82" + 2 * (text("x") + pack_array(np.arange(2))), "twice"),
        (b"\x81\xa1\xff" + pack_array(np.arange(2)), "decode"),
        (odd(name="object"), "dtype 'object'"),
        (odd(name="V8"), "dtype 'V8'"),
        (odd(data=b"\1\2"), "with 2 bytes"),
        (odd(more=[number(1)]), "4 parts instead of 3"),
        (odd(shape=[]), "0 axes"),
        (odd(shape=[number(1)] * 33), "33 axes"),
        (odd(shape=[number(0), number(2**63)], data=b""), "of the shape"),
        (odd(shape=[b"\xff"]), "tag 0xff"),
        (
            b"\x81"
            + text("x")
            + extension(4, listed([listed([number(9)]), b"\xdc\x00\x08"])),
            "with 8 strings",
        ),
    ],
)
def test_anything_else_is_refused(data, match):
    with pytest.raises(ValueError, match=match):
        unpack_arrays(data)
