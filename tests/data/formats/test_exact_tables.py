"""Whatever a table holds: the same numbers come out, or an error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlearn.data import FederatedDataset

pytestmark = pytest.mark.backend_free

pd = pytest.importorskip("pandas")

WHOLE = st.one_of(
    st.integers(-3, 3),
    st.integers(-(2**25), 2**25),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([2**24, 2**24 + 1, 2**53 + 1, 2**63 - 1]),
)
FRACTION = st.one_of(
    st.floats(-1e3, 1e3, width=32),
    st.floats(allow_nan=False, allow_infinity=False),
)
CELL = {
    "int": WHOLE,
    "uint64": st.integers(0, 2**64 - 1),
    "float": FRACTION,
    "bool": st.booleans(),
    "text": st.sampled_from(["a", "B", "1", "", "é"]),
    "none": st.one_of(WHOLE, st.none()),
    "mixed": st.one_of(WHOLE, FRACTION, st.booleans(), st.text(max_size=2)),
}
DTYPES = {
    "int": ["int64", "Int64", object],
    "uint64": ["uint64", object],
    "float": ["float64", object],
    "bool": ["bool", "boolean", object],
    "text": [object, "category"],
    "none": ["Int64", object],
    "mixed": [object],
}


@st.composite
def series(draw, rows):
    kind = draw(st.sampled_from(sorted(CELL)))
    values = draw(st.lists(CELL[kind], min_size=rows, max_size=rows))
    return values, draw(st.sampled_from(DTYPES[kind]))


def column_of(values, dtype):
    if dtype == "uint64":  # pandas itself rounds them
        return pd.Series(np.array(values, dtype))
    return pd.Series(pd.array(values, dtype=dtype))


def read_or_refuse(read):
    """The data set; None for an error, which names a column."""
    try:
        return read()
    except ValueError as refused:
        error = refused
    assert "'" in str(error)
    return None


@st.composite
def frames(draw):
    rows = draw(st.integers(1, 5))
    names = [f"f{k}" for k in range(draw(st.integers(1, 3)))]
    return {n: draw(series(rows)) for n in [*names, "label"]}, draw(
        st.lists(st.sampled_from("abc"), min_size=rows, max_size=rows)
    )


@settings(max_examples=300)
@given(drawn=frames())
def test_frames(drawn):
    columns, owners = drawn
    df = pd.DataFrame({n: column_of(*c) for n, c in columns.items()})
    df["who"] = owners
    ds = read_or_refuse(
        lambda: FederatedDataset.from_dataframe(df, "who", "label")
    )
    if ds is None:
        return
    names = [n for n in columns if n != "label"]
    labels = columns["label"][0]
    for client in ds:
        rows = [k for k, owner in enumerate(owners) if owner == client]
        x, y = ds[client]
        whole_column = {
            n: all(float(v).is_integer() for v in columns[n][0]) for n in names
        }
        for got, k in zip(x, rows, strict=True):
            for value, name in zip(got, names, strict=True):
                if whole_column[name]:
                    assert int(value) == int(columns[name][0][k])
                else:
                    given = float(columns[name][0][k])
                    span = np.ptp([float(v) for v in columns[name][0]])
                    assert abs(float(value) - given) <= max(
                        span * 2**-12, abs(given) * 2**-23
                    )
        for got, k in zip(y, rows, strict=True):
            if ds.class_names is not None:
                assert ds.class_names[got] == labels[k]
            elif all(float(v).is_integer() for v in labels):
                assert int(got) == int(labels[k])


@settings(max_examples=200)
@given(drawn=frames(), decimal=st.sampled_from([".", ","]))
def test_csv(tmp_path_factory, drawn, decimal):
    columns, owners = drawn
    path = tmp_path_factory.mktemp("csv") / "data.csv"
    df = pd.DataFrame({n: column_of(*c) for n, c in columns.items()})
    df.insert(0, "who", owners)
    df.to_csv(path, index=False, sep=";", decimal=decimal)
    ds = read_or_refuse(
        lambda: FederatedDataset.from_csv(
            path, "who", "label", delimiter=";", decimal=decimal
        )
    )
    if ds is None:
        return
    for client in ds:
        rows = [k for k, owner in enumerate(owners) if owner == client]
        x = ds[client][0]
        for got, k in zip(x, rows, strict=True):
            names = [n for n in columns if n != "label"]
            for value, name in zip(got, names, strict=True):
                written = columns[name][0]
                if all(isinstance(v, int) for v in written):
                    assert int(value) == int(written[k])
