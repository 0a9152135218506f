import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedlearn.data.columns import fill_columns

pytestmark = pytest.mark.backend_free


def filled(chunks):
    """A column with chunks put one after another."""
    ends = np.cumsum([*map(len, chunks)]).tolist()
    pairs = [
        (np.arange(end - len(chunk), end), chunk)
        for end, chunk in zip(ends, chunks, strict=True)
    ]
    return fill_columns(pairs, np.empty, ends[-1])


def assert_same_bits(one, other):
    assert one.dtype == other.dtype
    assert one.shape == other.shape
    assert one.tobytes() == other.tobytes()


DTYPES = ["bool", "uint8", "int16", "int64", "uint64", "float16", "float32"]
DTYPES += ["float64", "complex64"]


@given(
    dtype=st.sampled_from(DTYPES),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    shape=hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3),
    data=st.data(),
)
def test_numbers_come_out_with_the_bits_that_went_in(dtype, sizes, shape, data):
    arrays = hnp.arrays(dtype, (sum(sizes), *shape))
    whole = data.draw(arrays)
    chunks = np.split(whole, np.cumsum(sizes)[:-1])
    column = filled(chunks)
    assert_same_bits(column[0 : len(whole)], whole)
    assert_same_bits(column[1:2], whole[1:2])


def test_big_endian_numbers_come_out_in_the_machine_s_order():
    column = filled([np.array([1.5, 2.5], ">f4")])
    assert_same_bits(column[0:2], np.array([1.5, 2.5], "f4"))


def test_an_image_takes_a_byte_a_pixel():
    pixels = (np.arange(512).reshape(2, 256) % 256 / 255).astype("float32")
    column = filled([pixels])
    assert column.values.dtype == np.uint8
    assert_same_bits(column[0:2], pixels)


@given(
    st.lists(
        hnp.arrays(
            "float32",
            7,
            elements=st.sampled_from(
                [0.0, 1.0, np.float32(7 / 255), 0.5, -0.0, np.nan, 1e9]
            ),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_greys_among_other_values(chunks):
    column = filled(chunks)
    assert column.values.dtype == np.uint8
    whole = np.concatenate(chunks)
    assert_same_bits(column[0 : len(whole)], whole)


def test_more_than_256_values_are_kept_as_they_are():
    few = np.linspace(0, 1, 200, dtype="float32").reshape(2, 100)
    many = np.linspace(2, 3, 200, dtype="float32").reshape(2, 100)
    column = filled([few, many, few])
    assert column.values.dtype == np.float32
    assert column.table is None
    assert_same_bits(column[0:6], np.concatenate([few, many, few]))


def test_integers_take_the_narrowest_dtype_of_all_chunks():
    for high, dtype in (255, "uint8"), (256, "int16"), (-1, "int16"):
        column = filled([np.array([0]), np.array([high])])
        assert column.values.dtype == dtype
    chunks = [np.arange(k, k + 7) for k in (0, 250, -3, 70_000, 1 << 40)]
    column = filled(chunks)
    assert column.values.dtype == np.int64
    assert_same_bits(column[0:35], np.concatenate(chunks))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zeros_and_nans_are_told_apart_by_their_bits(dtype):
    values = np.array([0.0, -0.0, np.nan, -np.nan, np.inf], dtype)
    column = filled([values[:2], values])
    assert column.values.dtype == np.uint8
    assert_same_bits(column[0:7], np.concatenate([values[:2], values]))


def test_places_in_any_order():
    chunks = [
        (np.array([1, 2, 5]), np.array([11, 12, 15])),
        (np.array([0, 3, 4]), np.array([10, 13, 14])),
    ]
    column = fill_columns(chunks, np.empty, 6)
    assert column[0:6].tolist() == [10, 11, 12, 13, 14, 15]


@given(
    st.lists(st.lists(st.binary(max_size=5), min_size=1, max_size=4)),
    st.booleans(),
)
def test_texts_come_out_as_they_went_in(chunks, text):
    if text:
        chunks = [[p.decode("latin-1") for p in c] for c in chunks]
    arrays = []
    for chunk in chunks or [["" if text else b""]]:
        array = np.empty(len(chunk), object)
        array[:] = chunk
        arrays.append(array)
    column = filled(arrays)
    whole = np.concatenate(arrays)
    assert column[0 : len(whole)].tolist() == whole.tolist()
    assert column[0:0].shape == (0,)


def test_texts_that_lie_far_apart_are_read_one_by_one():
    texts = np.array([b"first", b"second", b"x" * 200_000], object)
    chunks = [(np.array([k]), texts[[k]]) for k in (0, 2, 1)]
    column = fill_columns(chunks, np.empty, 3)
    assert column[0:2].tolist() == [b"first", b"second"]


def test_texts_of_several_values_an_example():
    rows = np.array([[b"a", b"bc"], [b"", b"d"]], object)
    assert filled([rows])[0:2].tolist() == rows.tolist()


def test_examples_without_texts():
    assert filled([np.empty((3, 0), object)])[0:2].shape == (2, 0)


def test_a_text_outside_the_pool():
    column = filled([np.array([b"ab", b"c"], object)])
    column.lengths[1] = 10
    with pytest.raises(ValueError, match="outside"):
        column[0:2]
    assert column[0:1].tolist() == [b"ab"]


def test_what_is_neither_numbers_nor_text():
    with pytest.raises(ValueError, match="neither numbers nor text"):
        filled([np.zeros(2, "datetime64[s]")])
