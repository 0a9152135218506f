from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlearn.data.exact import as_numbers, changed_by_float32

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


@given(
    st.lists(
        st.one_of(
            INT64,
            UINT64,
            st.integers(-9, 9),
            st.floats(allow_nan=False),
            st.booleans(),
        ),
        min_size=1,
    )
)
def test_numbers_are_held_or_refused(values):
    found = as_numbers(values)
    if found is not None:
        # Python compares integers with floats exactly.
        assert found.tolist() == values
        return
    # Refused only if there is no such dtype.
    integers = [v for v in values if isinstance(v, int)]
    if len(integers) == len(values):
        assert min(integers) < 0
        assert max(integers) >= 2**63
    assert any(int(float(v)) != v for v in integers)
