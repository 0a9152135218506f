from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlearn.data.exact import changed_by_float32, join

pytestmark = pytest.mark.backend_free

INT64 = st.integers(-(2**63), 2**63 - 1)
UINT64 = st.integers(0, 2**64 - 1)
# Near the limits, where rounding begins.
EDGES = st.sampled_from([2**24, 2**25, 2**53, 2**62, -(2**24), -(2**40)])


@given(st.lists(st.one_of(INT64, EDGES, st.integers(-(2**26), 2**26))))
def test_integers_that_float32_changes(values):
    array = np.array(values, np.int64)
    expected = [int(Fraction(float(np.float32(v)))) != v for v in values]
    # float32 of a NumPy scalar is rounded once, as of an array.
    changed = changed_by_float32(array)
    if changed is None:
        assert not any(expected)
    else:
        assert changed.tolist() == expected
        assert any(expected)


@given(st.lists(UINT64, min_size=1))
def test_large_integers_without_sign(values):
    array = np.array(values, np.uint64)
    expected = [
        int(Fraction(float(array[k : k + 1].astype(np.float32)[0]))) != v
        for k, v in enumerate(values)
    ]
    changed = changed_by_float32(array)
    assert expected == (
        [False] * len(values) if changed is None else [*changed]
    )


@pytest.mark.parametrize(
    ("values", "held"),
    [
        ([0.1, 0.2], True),
        ([1013.2, 1013.3, 1008.1], True),
        ([48.137, 48.16, 48.1395], True),
        ([1.7e9 + 0.5, 1.7e9 + 60.5], False),  # a minute, in seconds
        ([16777217.0, 1.0], False),
        ([16777216.0, 1.0], True),
        ([1e39, 0.5], False),
        ([np.inf, 0.5], True),
        ([0.1, 0.1], True),
        ([1e-60, 3e-60], False),
        ([1e-60, 1e-60], False),  # they would all be 0
        ([], True),
    ],
)
def test_floats_that_float32_holds(values, held):
    assert (changed_by_float32(np.array(values)) is None) == held


def numbers(kind):
    return {
        "int8": st.integers(-128, 127),
        "uint8": st.integers(0, 255),
        "int32": st.integers(-(2**31), 2**31 - 1),
        "int64": st.one_of(INT64, st.integers(-9, 9)),
        "uint64": st.one_of(UINT64, st.integers(0, 9)),
        "float32": st.floats(width=32, allow_nan=False),
        "float64": st.floats(allow_nan=False),
        "bool": st.booleans(),
    }[kind]


KINDS = st.sampled_from(
    ["int8", "uint8", "int32", "int64", "uint64", "float32", "float64", "bool"]
)


@given(
    st.lists(
        KINDS.flatmap(
            lambda k: st.lists(numbers(k), max_size=4).map(
                lambda v: np.array(v, k)
            )
        ),
        min_size=1,
        max_size=4,
    )
)
def test_join_holds_every_value(parts):
    whole = join(parts)
    expected = [v for part in parts for v in part.tolist()]
    if whole is not None:
        # Python compares integers with floats exactly.
        assert whole.tolist() == expected
        return
    # Refused only if there is no such dtype.
    integers = [v for v in expected if isinstance(v, int)]
    if not any(p.dtype.kind == "f" for p in parts):
        assert min(integers) < 0
        assert max(integers) >= 2**63
    else:
        assert any(int(float(v)) != v for v in integers)
