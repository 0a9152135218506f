import datetime
import decimal
import re
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlearn.data import FederatedDataset
from fedlearn.data.client_id import as_client_id, as_client_ids, client_of_rows

pytestmark = pytest.mark.backend_free

pd = pytest.importorskip("pandas")

UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (3.0, "3"),
        (0.5, "0.5"),
        (np.int32(7), "7"),
        (2**80, str(2**80)),
        (decimal.Decimal("3.00"), "3"),
        (decimal.Decimal("0.10"), "0.10"),
        (b"ann", "ann"),
        (UUID, "12345678-1234-5678-1234-567812345678"),
        (datetime.date(2026, 3, 1), "2026-03-01"),
        (datetime.datetime(2026, 3, 1, 12, 30, 5), "2026-03-01T12:30:05"),
        (datetime.datetime(2026, 3, 1), "2026-03-01"),
        (np.datetime64("2026-03-01T12:30:00.000000001"), None),
        (pd.Timestamp("2026-03-01T12:30:00.000000001"), None),
        (
            pd.Timestamp("2026-03-01 12:30", tz="Europe/Berlin"),
            "2026-03-01T12:30:00+01:00",
        ),
    ],
)
def test_ids_that_are_texts(value, text):
    assert as_client_id(value) == (text or "2026-03-01T12:30:00.000000001")


@pytest.mark.parametrize(
    "value",
    [None, float("nan"), pd.NA, pd.NaT, np.datetime64("NaT"), "", b""],
)
def test_missing_ids(value):
    with pytest.raises(ValueError, match=r"missing|empty"):
        as_client_id(value)


def test_time_stamps_are_one_id_however_they_are_stored():
    stamps = ["2026-03-01", "2026-03-02T07:00:00"]
    frame = pd.DataFrame({"x": [1.0, 2.0], "y": [0, 1]})
    frame["when"] = pd.to_datetime(stamps, format="ISO8601")
    ids = ("2026-03-01", "2026-03-02T07:00")
    for dtype in ("datetime64[ns]", "datetime64[s]", object):
        frame["when"] = frame["when"].astype(dtype)
        ds = FederatedDataset.from_dataframe(frame, "when", "y")
        assert ds.client_ids == ids
    days = {datetime.date(2026, 3, 1): ([1.0], [0])}
    assert FederatedDataset.from_clients(days).client_ids == ids[:1]


def test_uuids_of_rows():
    ds = FederatedDataset.from_arrays([1.0, 2.0], [0, 1], [UUID, UUID])
    assert ds[str(UUID)][0].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, "1"), (b"a", "a"), (UUID, str(UUID)), (2.0, "2"), (True, "1")],
)
def test_two_ids_that_would_be_one_client(one, other):
    pattern = " and as ".join(
        re.escape(f"{v!r} ({type(v).__name__})") for v in (one, other)
    )
    x = np.zeros((2, 1))
    ids = np.array([one, other], object)
    with pytest.raises(ValueError, match=pattern):
        FederatedDataset.from_arrays(x, [0, 1], ids)
    with pytest.raises(ValueError, match=pattern):
        FederatedDataset.from_arrays(x, [0, 1], [one, other])
    with pytest.raises(ValueError, match=pattern):
        FederatedDataset.from_clients({one: ([1.0], [0]), other: ([1.0], [0])})
    with pytest.raises(ValueError, match=pattern):
        as_client_ids([one, other])
    frame = pd.DataFrame({"x": [1.0, 2.0], "y": [0, 1]})
    frame["who"] = ids
    with pytest.raises(ValueError, match=pattern):
        FederatedDataset.from_dataframe(frame, "who", "y")


def test_what_is_no_id():
    with pytest.raises(TypeError, match="type list"):
        client_of_rows(np.fromiter([["a"], ["b"]], object, 2))
    with pytest.raises(TypeError, match="type timedelta64"):
        as_client_id(np.timedelta64(1, "s"))
    with pytest.raises(TypeError, match="type tuple"):
        FederatedDataset.from_arrays([1, 2], [1, 2], [("a", 1), ("b", 2)])


@given(
    st.lists(
        st.one_of(
            st.integers(-3, 3),
            st.sampled_from(["0", "1", "a", "-1"]),
            st.sampled_from([0.0, 1.0, 0.5]),
            st.binary(max_size=1).filter(lambda b: b in (b"0", b"a")),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_rows_of_two_ids_never_meet(ids):
    """Either an error, or rows share a client where their ids are equal."""
    array = np.fromiter(ids, object, len(ids))
    try:
        names, codes = client_of_rows(array)
    except ValueError:
        kinds = {}
        for value in ids:
            kinds.setdefault(as_client_id(value), set()).add(value)
        assert any(len(kind) > 1 for kind in kinds.values())
        return
    for i, one in enumerate(ids):
        assert names[codes[i]] == as_client_id(one)
        for j, other in enumerate(ids):
            assert (codes[i] == codes[j]) == (one == other)
