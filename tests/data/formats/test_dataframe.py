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
        ({"y": ["cat", 1, "cat"]}, r"'y' \(label\).*'cat'.*class_names"),
        ({"v": [1.0, np.nan, np.nan]}, r"'v' \(2\).*fillna"),
        ({"u": pd.array([1, None, 3], dtype="Int64")}, r"'u' \(1\)"),
        ({"y": [1.0, np.nan, 0.0]}, r"'y' \(1\)"),
        ({"who": ["a", None, "b"]}, r"'who' \(client\) .*\(1\)"),
        ({"who": pd.array([1, None, 2], dtype="Int64")}, r"'who' .*\(1\)"),
        ({"who": [1.0, np.nan, np.nan]}, r"'who' \(client\) .*\(2\)"),
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


def classes(labels, **arguments):
    return FederatedDataset.from_dataframe(
        frame(y=labels), "who", "y", **arguments
    )


def test_labels_that_are_texts():
    ds = classes(["dog", "cat", "dog"])
    assert ds.class_names == ("cat", "dog")
    assert ds["b"][1].tolist() == [1, 1]
    assert ds["a"][1].tolist() == [0]
    assert ds["a"][1].dtype == np.int64


def test_categories_keep_their_order_and_those_that_nobody_has():
    labels = pd.Categorical(["low", "high", "low"], ["low", "mid", "high"])
    ds = classes(labels)
    assert ds.class_names == ("low", "mid", "high")
    assert ds["a"][1].tolist() == [2]
    codes = pd.Categorical([3, 1, 3], [3, 2, 1])
    assert classes(codes)["b"][1].tolist() == [3, 3]
    assert classes(codes).class_names is None


def test_class_names_of_ones_own():
    ds = classes(["dog", "cat", "dog"], class_names=["dog", "emu", "cat"])
    assert ds["a"][1].tolist() == [2]
    assert classes([2, 0, 1], class_names=list("abc")).class_names == (
        "a",
        "b",
        "c",
    )
    with pytest.raises(ValueError, match=r"'dog' is not among.*'cat'"):
        classes(["dog", "cat", "dog"], class_names=["cat"])
    with pytest.raises(ValueError, match="between 0 and 2, but there are 2"):
        classes([2, 0, 1], class_names=["a", "b"])
    for wrong in ("ab", [1, 2]):
        with pytest.raises(TypeError, match="class_names"):
            classes([2, 0, 1], class_names=wrong)
    with pytest.raises(ValueError, match="each once"):
        classes([2, 0, 1], class_names=["a", "a"])


FILMS = 20_000_000 + np.arange(49)


def test_large_ids_stay_apart():
    df = pd.DataFrame({"who": "a", "film": FILMS, "y": 1.0})
    x, _ = read(df)["a"]
    assert x.dtype == np.int64
    assert x[:, 0].tolist() == FILMS.tolist()


def test_time_stamps_among_other_numbers_are_an_error():
    times = 1_700_000_000 + np.arange(3)
    with pytest.raises(ValueError, match=r"'u' \(such as 1700000001\)"):
        read(frame(u=times))
    with pytest.raises(ValueError, match="'u'"):
        read(frame(u=times + 0.5))
    with pytest.raises(ValueError, match="'u'"):
        read(frame(u=times.astype(float)))
    x, _ = read(frame(u=times - times.min()))["b"]
    assert x[:, 0].tolist() == [0.0, 2.0]


def test_several_inputs():
    df = frame(u=[2**40, 2**40 + 1, 5])
    features = {"ids": ["u"], "numbers": ["v"]}
    x, _ = read(df, features)["b"]
    assert x["ids"].tolist() == [[2**40], [5]]
    assert x["ids"].dtype == np.int64
    assert x["numbers"].dtype == np.float32
    with pytest.raises(TypeError, match=r"\['u'\]"):
        read(df, {"ids": "u"})


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([2**63, 1, 2**64 - 1], np.uint64),
        ([-(2**63), 2**63 - 1, 1], np.int64),
        (pd.array([2**53 + 1, 1, 2], dtype="Int64"), np.int64),
    ],
)
def test_integers_that_need_64_bits(values, dtype):
    x, _ = read(frame(u=values), ["u"])["b"]
    assert x.dtype == dtype
    assert x[:, 0].tolist() == [values[0], values[2]]


@pytest.mark.parametrize(
    "values",
    [
        [2**64 + 1, 1, 2],
        [-1, 2**63 + 1, 2],
        [1e39, 1.5, 2.5],
        [1e-60, 1.5e-60, 3e-60],
        [2**53 + 1, 0.5, None],
    ],
)
def test_numbers_that_nothing_holds(values):
    df = frame()
    df["u"] = pd.Series(values, dtype=object)
    with pytest.raises(ValueError, match="'u'"):
        read(df.fillna(0))


def test_labels_beyond_float32_or_int64():
    with pytest.raises(ValueError, match=r"'y'.*18446744073709551615"):
        read(frame(y=np.array([1, 2, 2**64 - 1], np.uint64)))
    with pytest.raises(ValueError, match=r"'y' \(label\).*16777217.0"):
        read(frame(y=[1.0, 2.0, 16777217.0]))
    assert read(frame(y=[1, 2, 2**40]))["b"][1].tolist() == [1, 2**40]


def test_decimals_and_fractions():
    from decimal import Decimal

    x, _ = read(frame(u=[Decimal("0.1"), Decimal(2), Decimal("1.5")]))["b"]
    assert x[:, 0].tolist() == [np.float32(0.1), 1.5]


def sites():
    one = pd.DataFrame({"age": [30, 40], "chol": [1.5, 2.5], "y": [0, 1]})
    two = pd.DataFrame({"y": [1], "chol": [4.0], "age": [50.5]})
    return {"one": one, 2: two}


def test_a_frame_for_each_client():
    ds = FederatedDataset.from_dataframe(sites(), label="y")
    assert ds.client_ids == ("one", "2")
    assert ds["2"][0].tolist() == [[50.5, 4.0]]
    assert ds["one"][0].tolist() == [[30.0, 1.5], [40.0, 2.5]]
    assert ds["one"][1].dtype == np.int64


def test_a_client_without_rows_stays():
    frames = {**sites(), "empty": sites()["one"].iloc[:0]}
    ds = FederatedDataset.from_dataframe(frames, label="y")
    assert ds.num_examples("empty") == 0
    assert ds["empty"][0].shape == (0, 2)


def test_columns_that_differ_are_named():
    frames = sites()
    frames[2] = frames[2].rename(columns={"chol": "cholesterol"})
    with pytest.raises(
        ValueError,
        match=r"'chol' \(1, first of Client '2'\), 'cholesterol' \(2, .* 'one'",
    ):
        FederatedDataset.from_dataframe(frames, label="y")
    ds = FederatedDataset.from_dataframe(frames, label="y", features=["age"])
    assert ds["2"][0].tolist() == [[50.5]]
    with pytest.raises(ValueError, match=r"Client '2' has no column 'y'"):
        FederatedDataset.from_dataframe(
            {**frames, 2: frames[2].drop(columns="y")}, label="y"
        )


@pytest.mark.parametrize(
    ("missing", "fill"), [("mean", 2.0), ("median", 2.0), ("zero", 0.0)]
)
def test_filled_columns_say_where(missing, fill):
    frames = sites()
    frames[2] = frames[2].drop(columns="chol")
    ds = FederatedDataset.from_dataframe(frames, label="y", missing=missing)
    assert ds["one"][0].tolist() == [[30.0, 1.5, 0.0], [40.0, 2.5, 0.0]]
    assert ds["2"][0].tolist() == [[50.5, fill, 1.0]]


def test_filling_gaps_of_one_frame():
    df = frame(u=pd.array([1, None, 2], dtype="Int64"), v=[np.nan, 1.0, 3.0])
    ds = FederatedDataset.from_dataframe(df, "who", "y", missing="mean")
    assert ds["b"][0].tolist() == [[1, 2, 0, 1], [2, 3, 0, 0]]
    assert ds["a"][0].tolist() == [[1.5, 1, 1, 0]]
    with pytest.raises(ValueError, match="missing is 'Mean'"):
        FederatedDataset.from_dataframe(df, "who", "y", missing="Mean")
    df = frame(u=[np.nan] * 3)
    with pytest.raises(ValueError, match="'u' has no values at all"):
        FederatedDataset.from_dataframe(df, "who", "y", missing="zero")


def test_texts_of_labels_in_several_frames():
    frames = sites()
    frames["one"]["y"] = ["ill", "well"]
    frames[2]["y"] = ["dead"]
    ds = FederatedDataset.from_dataframe(frames, label="y")
    assert ds.class_names == ("dead", "ill", "well")
    assert [ds[i][1].tolist() for i in ds] == [[1, 2], [0]]


def test_which_arguments_go_together():
    with pytest.raises(TypeError, match="client or label is missing"):
        FederatedDataset.from_dataframe(frame(), label="y")
    with pytest.raises(TypeError, match="client or label is missing"):
        FederatedDataset.from_dataframe(frame(), "who")
    with pytest.raises(ValueError, match="keys are the clients"):
        FederatedDataset.from_dataframe(sites(), "age", "y")
    with pytest.raises(ValueError, match="'1' appears more than once"):
        FederatedDataset.from_dataframe(
            {1: sites()["one"], "1": sites()["one"]}, label="y"
        )


def test_odd_frames():
    df = frame()
    df.columns = pd.MultiIndex.from_tuples((n, "") for n in df.columns)
    ds = FederatedDataset.from_dataframe(df, ("who", ""), ("y", ""))
    assert ds["a"][0].tolist() == [[2.0, 1.5]]
    twice = pd.concat([frame(), frame()[["u"]]], axis=1)
    with pytest.raises(ValueError, match="'u' appears more than once"):
        read(twice)
    zoned = pd.to_datetime(["2026-01-01"] * 3).tz_localize("Europe/Berlin")
    with pytest.raises(ValueError, match=r"'u' \(.*total_seconds"):
        read(frame(u=zoned))
    with pytest.raises(ValueError, match=r"'u' \(.*total_seconds"):
        read(frame(u=pd.to_timedelta([1, 2, 3], unit="s")))


@pytest.mark.parametrize("large", [2**60 + 1, 2**53 + 1, 2**24 + 1])
def test_large_integers_beside_gaps(large):
    """pandas itself makes floats of them."""
    ids = pd.array([large, None, 3], dtype="Int64")
    df = frame(u=ids).drop(columns="v")
    ds = FederatedDataset.from_dataframe(df, "who", "y", missing="zero")
    assert ds["b"][0].dtype == np.int64
    assert ds["b"][0].tolist() == [[large, 0], [3, 0]]
    assert ds["a"][0].tolist() == [[0, 1]]


def test_the_index_of_a_frame_is_no_feature():
    df = frame().rename(columns={"u": "Unnamed: 0"})
    with pytest.raises(ValueError, match=r"no name.*index=False"):
        read(df)
    assert read(df, ["Unnamed: 0"])["a"][0].tolist() == [[2.0]]


def test_training_and_test_data_are_filled_alike():
    train = frame(u=[1.0, None, 3.0])
    test = frame(v=[None, 1.5, 2.5])
    wild = FederatedDataset.from_dataframe(
        test, "who", "y", missing={"v": -9, "u": 2.25}
    )
    assert wild["b"][0].tolist() == [[1, -9, 0, 1], [3, 2.5, 0, 0]]
    missing = {"u": 2.25, "v": "zero"}
    one, other = (
        FederatedDataset.from_dataframe(df, "who", "y", missing=missing)
        for df in (train, test)
    )
    assert one["a"][0].tolist() == [[2.25, 1.5, 1, 0]]
    assert other["b"][0].tolist() == [[1, 0, 0, 1], [3, 2.5, 0, 0]]
    empty = frame(u=[None] * 3).drop(columns="v")
    sites = FederatedDataset.from_dataframe(
        {"p": empty.drop(columns="who"), "q": train.drop(columns="who")},
        label="y",
        missing=missing,
    )
    assert sites["p"][0].tolist() == [[2.25, 0, 1, 1]] * 3


@pytest.mark.parametrize(
    ("missing", "match"),
    [
        ({"v": "mean"}, r"missing values: 'u' \(1\)"),
        ({"w": 0}, "missing has column 'w'.*'u', 'v'"),
        ({"u": "most"}, "a dict from columns to one of these or to a number"),
        ({"u": np.nan}, "to a number"),
        ({"u": None}, "to a number"),
        (0, "Expected 'error'"),
        ("most", "Expected 'error'"),
    ],
)
def test_fills_that_will_not_do(missing, match):
    df = frame(u=[1.0, None, 3.0])
    with pytest.raises(ValueError, match=match):
        FederatedDataset.from_dataframe(df, "who", "y", missing=missing)


def test_a_table_that_lacks_a_column_which_is_not_filled():
    tables = {"p": frame(), "q": frame().drop(columns="v")}
    with pytest.raises(ValueError, match=r"'v' \(3, first of Client 'q'\)"):
        FederatedDataset.from_dataframe(
            tables, label="y", features=["u", "v"], missing={"u": 0}
        )
