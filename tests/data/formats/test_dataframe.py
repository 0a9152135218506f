import numpy as np
import pytest

from fedlearn.data import FederatedDataset

pytestmark = pytest.mark.backend_free

pd = pytest.importorskip("pandas")


def frame(**columns):
    base = {"who": ["b", "a", "b"], "u": [1, 2, 3], "v": [0.5, 1.5, 2.5]}
    return pd.DataFrame({**base, "y": [0, 1, 1], **columns})


def read(df, features=None):
    return FederatedDataset.from_dataframe(df, "who", "y", features)


def test_reads():
    ds = read(frame(flag=[True, False, True]))
    assert ds.client_ids == ("a", "b")
    x, y = ds["b"]
    assert x.dtype == np.float32
    assert x.tolist() == [[1, 0.5, 1], [3, 2.5, 1]]
    assert y.dtype == np.int64
    assert y.tolist() == [0, 1]
    assert read(frame(), ["v"])["a"][0].tolist() == [[1.5]]


def test_kinds_of_columns():
    assert read(frame(y=[0.5, 1.0, 2.0]))["a"][1].dtype == np.float32
    assert read(frame(y=[True, False, True]))["b"][1].tolist() == [1, 1]
    nullable = pd.array([1, 2, 3], dtype="Int64")
    assert read(frame(u=nullable))["a"][0].tolist() == [[2.0, 1.5]]
    assert read(frame(who=[10, 9, 10])).client_ids == ("10", "9")
    assert read(frame(who=[10.0, 9.0, 10.0])).client_ids == ("10", "9")
    category = pd.Categorical(["x", "y", "x"])
    assert read(frame(who=category)).client_ids == ("x", "y")


def test_the_frame_stays_as_it_is():
    df = frame()
    before = df.copy()
    read(df)
    pd.testing.assert_frame_equal(df, before)


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"u": ["x", "y", "z"]}, r"'u'.*features=\[...\].*get_dummies"),
        ({"u": pd.to_datetime(["2020"] * 3)}, "'u'"),
        ({"y": ["cat", "dog", "cat"]}, r"'y' \(label\).*cat.codes"),
        ({"v": [1.0, np.nan, np.nan]}, r"'v' \(2\).*fillna"),
        ({"u": pd.array([1, None, 3], dtype="Int64")}, r"'u' \(1\)"),
        ({"y": [1.0, np.nan, 0.0]}, r"'y' \(1\)"),
        ({"who": ["a", None, "b"]}, r"'who' \(client\) has 1 missing"),
        ({"who": [1.0, np.nan, np.nan]}, r"'who' \(client\) has 2 missing"),
    ],
)
def test_bad_columns(columns, match):
    with pytest.raises(ValueError, match=match):
        read(frame(**columns))


def test_bad_arguments():
    with pytest.raises(TypeError, match="data frame"):
        read({"who": ["a"]})
    with pytest.raises(ValueError, match=r"no column 'y' \(label\).*'who'"):
        read(frame().drop(columns="y"))
    with pytest.raises(ValueError, match="same column"):
        FederatedDataset.from_dataframe(frame(), "who", "who")
    with pytest.raises(ValueError, match="no rows"):
        read(frame().iloc[:0])


def test_any_frame_with_columns_and_to_numpy():
    class Column:
        def __init__(self, values):
            self._values = values

        def to_numpy(self):
            return np.array(self._values)

    class Frame(dict):
        columns = ("who", "u", "y")

    df = Frame(who=Column(["a", "b"]), u=Column([1, 2]), y=Column([0, 1]))
    assert read(df)["b"][0].tolist() == [[2.0]]
