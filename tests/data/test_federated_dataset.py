import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlearn.data import FederatedDataset

pytestmark = pytest.mark.backend_free


def make(sizes, seed=0):
    """Client k has `sizes[k]` examples; every example has its own number."""
    numbers = iter(np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]))
    clients = {}
    for k, part in enumerate(numbers):
        x = np.stack([part, part * 10], axis=1).astype("float32")
        clients[f"c{k}"] = (x, part % 3)
    return FederatedDataset.from_clients(clients)


def numbers(dataset):
    return {i: dataset[i][0][:, 0].astype(int).tolist() for i in dataset}


def test_is_a_mapping():
    ds = make([3, 1, 2])
    assert len(ds) == 3
    assert list(ds) == list(ds.client_ids) == ["c0", "c1", "c2"]
    assert "c1" in ds
    assert "c9" not in ds
    assert dict(ds.items())["c2"][1].tolist() == [1, 2]
    assert ds.get("nobody") is None
    assert ds == ds
    assert ds != make([3, 1, 2])
    assert [ds.num_examples(i) for i in ds] == [3, 1, 2]


def test_repr_shows_a_few_ids():
    assert repr(make([1] * 5)) == (
        "<FederatedDataset of 5 clients: 'c0', 'c1', 'c2', ...>"
    )
    assert repr(make([1])) == "<FederatedDataset of 1 client: 'c0'>"
    assert repr(make([1]).select([])) == "<FederatedDataset of 0 clients>"


def test_insertion_order_is_kept_and_ids_become_strings():
    ds = FederatedDataset.from_clients(
        {10: ([1.0], [1]), np.int64(2): ([1.0], [1]), "a": ([1.0], [1])}
    )
    assert ds.client_ids == ("10", "2", "a")


def test_arrays_are_read_only_but_the_users_are_not():
    x, y = np.zeros((2, 3)), np.zeros(2, int)
    ds = FederatedDataset.from_clients({"a": (x, y)})
    with pytest.raises(ValueError, match="read-only"):
        ds["a"][0][0, 0] = 1
    x[0, 0] = 5
    assert ds["a"][0][0, 0] == 5  # a view: nothing was copied
    flat = FederatedDataset.from_arrays(x, y, ["b", "a"])
    for source in (flat, flat.map(lambda c: c), flat.split_examples(0.5, 0)[0]):
        for array in source["b"]:
            assert not array.flags.writeable
    assert not flat.pooled()[0].flags.writeable


def test_changing_a_returned_container_changes_nothing():
    ds = FederatedDataset.from_clients({"a": {"x": [1, 2], "y": [0, 1]}})
    ds["a"].clear()
    assert set(ds["a"]) == {"x", "y"}


def test_structures_and_sample_weights():
    x = {"image": np.zeros((4, 2, 2)), "age": np.ones(4)}
    y = (np.arange(4), np.zeros((4, 1)))
    ds = FederatedDataset.from_clients({"a": (x, y, np.ones(4))})
    got_x, got_y, weight = ds["a"]
    assert got_x["image"].shape == (4, 2, 2)
    assert isinstance(got_y, tuple)
    assert got_y[1].shape == (4, 1)
    assert weight.shape == (4,)
    assert ds.element_spec[0]["image"].shape == (2, 2)
    several = FederatedDataset.from_clients(
        {"a": ([np.zeros((3, 1)), np.zeros((3, 2))], [1, 2, 3])}
    )
    assert isinstance(several["a"][0], list)
    assert several["a"][0][1].shape == (3, 2)


def test_none_for_sample_weight_means_none():
    ds = FederatedDataset.from_clients({"a": ([1.0], [1], None)})
    assert len(ds["a"]) == 2


def test_client_without_examples():
    ds = FederatedDataset.from_clients(
        {"none": ([], []), "a": (np.zeros((2, 3), "float32"), [0, 1])}
    )
    assert ds.num_examples("none") == 0
    assert ds["none"][0].shape == (0, 3)
    assert ds["none"][0].dtype == np.float32
    assert ds.pooled()[0].shape == (2, 3)
    assert ds.element_spec[0].shape == (3,)
    train, test = ds.split_examples(0.5, seed=0)
    assert train.num_examples("none") == test.num_examples("none") == 0
    assert train["none"][0].shape == (0, 3)
    lines = []
    ds.summary(lines.append)
    assert "min 0" in "\n".join(lines)


def test_unknown_client():
    ds = FederatedDataset.from_clients(
        {i: ([1.0], [1]) for i in ("hospital_a", "hospital_b")}
    )
    with pytest.raises(KeyError, match=r"2 clients.*'hospital_b'"):
        ds["hospitl_b"]
    with pytest.raises(KeyError, match="hospital_a"):
        ds.num_examples("zzz")
    with pytest.raises(KeyError, match=r"strings.*int"):
        ds[3]
    with pytest.raises(KeyError, match="list"):
        ds[["hospital_a"]]
    with pytest.raises(KeyError):
        ds.select(["hospital_a"])["hospital_b"]


def test_select():
    ds = make([3, 1, 2])
    chosen = ds.select(iter(["c2", "c0"]))
    assert chosen.client_ids == ("c2", "c0")
    assert chosen["c2"][0] is not None
    assert len(ds.select([])) == 0
    with pytest.raises(KeyError, match="c7"):
        ds.select(["c7"])
    with pytest.raises(ValueError, match="'c0' appears more than once"):
        ds.select(["c0", "c0"])
    with pytest.raises(TypeError, match=r"\['c0'\]"):
        ds.select("c0")


def test_sample():
    ds = make([1] * 30)
    assert ds.sample(5, seed=1).client_ids == ds.sample(5, seed=1).client_ids
    assert ds.sample(5, seed=1).client_ids != ds.sample(5, seed=2).client_ids
    assert set(ds.sample(30, seed=0)) == set(ds)
    for count in (0, 31):
        with pytest.raises(ValueError, match="30 clients"):
            ds.sample(count, seed=0)


def test_map_is_lazy_and_composes():
    calls = []

    def double(client):
        calls.append(1)
        return client[0] * 2, client[1]

    ds = make([3, 1]).map(double)
    assert not calls
    assert numbers(ds) == {"c0": [0, 2, 4], "c1": [6]}
    again = ds.select(["c1"]).map(lambda c: {"z": c[0] + 1})
    assert again.client_ids == ("c1",)
    assert again["c1"]["z"].tolist() == [[7.0, 61.0]]
    assert "c0" not in again


def test_map_may_drop_examples():
    ds = make([5, 2]).map(lambda c: (c[0][c[1] == 0], c[1][c[1] == 0]))
    assert [ds.num_examples(i) for i in ds] == [2, 1]
    assert len(ds.pooled()[1]) == 3


@pytest.mark.parametrize(
    ("fn", "error", "match"),
    [
        (lambda c: c[0], TypeError, "Client 'c1'.*Expected a tuple"),
        (lambda c: (c[0], c[1][:1]), ValueError, "Client 'c1'.*x has 2, y"),
        (lambda c: None, TypeError, "Client 'c1'.*NoneType"),
        (lambda c: (c[0], c[1].astype(str)), ValueError, "Client 'c1'.*text"),
    ],
)
def test_what_map_gives_is_checked(fn, error, match):
    with pytest.raises(error, match=match):
        make([3, 2]).map(fn)["c1"]


def test_errors_inside_map_name_the_client():
    with pytest.raises(ZeroDivisionError) as caught:
        make([3, 2]).map(lambda c: 1 / 0)["c1"]
    assert "c1" in caught.value.__notes__[0]


@given(total=st.integers(2, 40), fraction=st.floats(0.001, 0.999))
@settings(max_examples=50, deadline=None)
def test_split_by_clients(total, fraction):
    ds = make([1] * total)
    first, second = ds.split(fraction, seed=3)
    assert len(first) >= 1
    assert len(second) >= 1
    assert abs(len(first) - fraction * total) <= 1
    assert sorted((*first, *second)) == sorted(ds)


def test_split_needs_two_clients_and_a_fraction():
    with pytest.raises(ValueError, match="split_examples"):
        make([3]).split(0.5, seed=0)
    for fraction in (0, 1, -0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="fraction"):
            make([1, 1]).split(fraction, seed=0)
        with pytest.raises(ValueError, match="fraction"):
            make([1, 1]).split_examples(fraction, seed=0)
    parts = [make([1] * 20).split(0.5, seed)[0].client_ids for seed in (0, 1)]
    assert parts[0] != parts[1]


@given(
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=5),
    fraction=st.floats(0.001, 0.999),
    seed=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_split_examples_uses_each_once(sizes, fraction, seed):
    ds = make(sizes)
    first, second = ds.split_examples(fraction, seed)
    assert first.client_ids == second.client_ids == ds.client_ids
    whole, ones, others = numbers(ds), numbers(first), numbers(second)
    for client_id, size in zip(ds, sizes, strict=True):
        one, other = ones[client_id], others[client_id]
        assert sorted(one + other) == whole[client_id]
        assert one == sorted(one)  # in the stored order
        assert len(one) == first.num_examples(client_id)
        assert len(other) == second.num_examples(client_id)
        assert abs(len(one) - fraction * size) <= 1
        if size >= 2:
            assert one
            assert other


def test_an_only_example_goes_to_the_larger_side():
    ds = make([1])
    sides = {
        f: ds.split_examples(f, 0)[0].num_examples("c0") for f in (0.2, 0.5)
    }
    assert sides == {0.2: 0, 0.5: 1}


def test_split_examples_does_not_depend_on_other_clients():
    ds = make([9, 9, 9])
    alone = ds.select(["c1"]).split_examples(0.5, seed=0)[0]
    assert numbers(alone)["c1"] == numbers(ds.split_examples(0.5, 0)[0])["c1"]
    other = numbers(ds.split_examples(0.5, 1)[0])["c1"]
    assert numbers(alone)["c1"] != other


def test_pooled_keeps_structure_and_order():
    ds = make([2, 3])
    x, y = ds.select(["c1", "c0"]).pooled()
    assert x[:, 0].tolist() == [2, 3, 4, 0, 1]
    assert y.dtype == ds["c0"][1].dtype
    named = FederatedDataset.from_clients({"a": {"t": [1]}, "b": {"t": [2, 3]}})
    assert named.pooled()["t"].tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="without clients"):
        ds.select([]).pooled()
    with pytest.raises(ValueError, match="without clients"):
        _ = ds.select([]).element_spec


def test_pooled_says_which_clients_differ():
    ds = make([2, 3]).map(
        lambda c: (c[0].reshape(-1), np.resize(c[1], c[0].size))
    )
    assert len(ds.pooled()[0]) == 10
    bad = make([2, 3]).map(
        lambda c: (c[0] if len(c[0]) == 2 else c[0][:, :1], c[1])
    )
    with pytest.raises(ValueError, match=r"Client 'c1'.*client 'c0'"):
        bad.pooled()


@pytest.mark.parametrize(
    ("clients", "error", "match"),
    [
        ({}, ValueError, "no clients"),
        ([], TypeError, "dict"),
        ({"a": ([1, 2], [1])}, ValueError, "'a'.*x has 2, y has 1"),
        (
            {"a": ([1], {"kind": ["cat"], "size": [1]})},
            ValueError,
            "y.'kind'..*holds text",
        ),
        ({"a": ([1], ["cat"], ["a"])}, ValueError, "'a'.*weight.*text"),
        ({"a": ([1, 2], ["cat", 1])}, ValueError, "'a'.*y.*Python objects"),
        ({"a": (["cat", 1], [1, 2])}, ValueError, "'a'.*x.*holds 1 in 1 of 2"),
        ({"a": ([1, 2**63 + 1], [1, 2])}, ValueError, "'a'.*x.*Python obj"),
        ({"a": ([0.5, 2**53 + 1], [1, 2])}, ValueError, "'a'.*x.*Python obj"),
        (
            {"a": ([1], ["cat"]), "b": ([1], [0])},
            ValueError,
            "Client 'b'.*int64, but texts elsewhere",
        ),
        ({"a": ([[1], [1, 2]], [1, 2])}, ValueError, "'a'.*x cannot"),
        (
            {"a": (np.array([[1], [1, 2]], object), [1, 2])},
            ValueError,
            "'a'.*Python objects.*holds .1. in 2 of 2",
        ),
        (
            {"a": ([1.0], np.array([None], object))},
            ValueError,
            "'a'.*y is an array of Python objects.*None",
        ),
        (
            {"a": ([1, 2, 3], np.array(["x", None, None], object))},
            ValueError,
            "'a': y is .* holds None in 2 of 3 places",
        ),
        (
            {"a": ([[2**53 + 1, np.nan]], [0])},
            ValueError,
            "'a'.*Python objects.*9007199254740993",
        ),
        ({"a": ([1], None)}, ValueError, "'a'.*y is a NoneType.*y=x"),
        ({"a": ([1], 1)}, ValueError, "'a'.*y is a int without an axis"),
        ({"a": ()}, ValueError, "'a'.*tuple of 0"),
        ({"a": ([1], [np.nan])}, ValueError, "Client 'a': y is NaN in 1 of 1"),
        (
            {"a": ([1, 2], [0, 1], [1.0, np.nan])},
            ValueError,
            "Client 'a': sample_weight is NaN in 1 of 2.*number 1",
        ),
        (
            {
                "a": ([1], np.array([1], np.uint64)),
                "b": ([1], np.array([-1], np.int64)),
            },
            ValueError,
            "Client 'b': y has dtype int64.*uint64",
        ),
        ({"a": np.zeros(3)}, TypeError, "'a'.*ndarray"),
        ({"a": ([1], [np.datetime64("2020-01-01")])}, ValueError, "dates"),
        ({"a": ({}, [1])}, ValueError, "'a': x is empty"),
        ({1: ([1], [1]), "1": ([1], [1])}, ValueError, "'1' appears more"),
        ({float("nan"): ([1], [1])}, ValueError, "NaN"),
        ({None: ([1], [1])}, ValueError, "None"),
        ({"": ([1], [1])}, ValueError, "empty string"),
        ({(1, 2): ([1], [1])}, TypeError, "tuple"),
        (
            {"a": ([1], [1]), "b": ([1.5], [1])},
            ValueError,
            "Client 'b': x has dtype float64.*client 'a'.*int64",
        ),
        (
            {"a": ([[1, 2]], [1]), "b": ([[1]], [1])},
            ValueError,
            r"Client 'b': x .*\(1,\).*client 'a'.*\(2,\)",
        ),
        (
            {"a": ([1], [1]), "b": {"x": [1]}},
            ValueError,
            "Client 'b'.*client 'a'.*same structure",
        ),
        (
            {"a": ([np.zeros(2), np.zeros(2), np.zeros(2)], [1, 2, 3])},
            ValueError,
            "np.stack",
        ),
    ],
)
def test_bad_clients(clients, error, match):
    with pytest.raises(error, match=match):
        FederatedDataset.from_clients(clients)


def test_text_may_be_an_input():
    ds = FederatedDataset.from_clients(
        {"a": (np.array(["to be", "or"], object), [0, 1])}
    )
    assert ds["a"][0].tolist() == ["to be", "or"]


def test_texts_of_different_widths():
    ds = FederatedDataset.from_clients(
        {
            "a": (np.array(["to be", "or"]), [0, 1]),
            "b": (["not to be"], [0]),
            "c": (np.array(["that is"], object), [1]),
            "d": ([], []),
        }
    )
    assert [ds[i][0].tolist() for i in ds] == [
        ["to be", "or"],
        ["not to be"],
        ["that is"],
        [],
    ]
    assert {ds[i][0].dtype for i in ds} == {np.dtype(object)}
    assert ds.pooled()[0].tolist() == ["to be", "or", "not to be", "that is"]


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        ("int32", "int64", "int64"),
        ("uint8", "int64", "int64"),
        ("uint8", "int8", "int16"),
        ("float32", "float64", "float64"),
        ("float16", "float32", "float32"),
    ],
)
def test_dtypes_of_different_sites(one, other, common):
    clients = {
        "a": (np.array([1, 2], one), np.array([0, 1], "int32")),
        "b": (np.array([100], other), np.array([2], "int64")),
    }
    ds = FederatedDataset.from_clients(clients)
    for dataset in (ds, ds.map(lambda c: c), ds.select(["b", "a"])):
        assert dataset["a"][0].dtype == common
        assert dataset["a"][1].dtype == np.int64
        assert sorted(dataset.pooled()[0].tolist()) == [1, 2, 100]
    narrow = ds.map(lambda c: (c[0].astype(one if c[0][0] == 1 else other),))
    assert narrow.pooled()[0].dtype == common
    assert narrow.pooled()[0].tolist() == [1, 2, 100]


def test_frames_in_which_pandas_would_change_integers():
    pd = pytest.importorskip("pandas")
    large = pd.DataFrame({"id": [2**53 + 1, 2], "size": [0.5, 1.5]})
    with pytest.raises(
        ValueError, match=r"'a': x .*Python objects.*9007199254740993"
    ):
        FederatedDataset.from_clients({"a": (large, [0, 1])})
    ids = pd.Series(pd.array([2**53 + 1, None], dtype="Int64"))
    with pytest.raises(
        ValueError, match=r"'a': x .*Python objects.*9007199254740993"
    ):
        FederatedDataset.from_clients({"a": (ids, [0, 1])})
    fine = pd.DataFrame({"id": [2**53, 2], "size": [0.5, 2.0**60]})
    ds = FederatedDataset.from_clients({"a": (fine, [0, 1])})
    assert ds["a"][0].tolist() == [[2**53, 0.5], [2, 2**60]]


def test_x_alone():
    ds = FederatedDataset.from_clients({"a": ([1.0, 2.0],)})
    assert len(ds["a"]) == 1
    lines = []
    ds.summary(lines.append)
    assert lines[-1] == "  x                    float64 (n,)"


def test_labels_that_are_texts():
    ds = FederatedDataset.from_clients(
        {
            "a": ([1, 2], ["dog", "cat"]),
            "b": ([3], np.array(["emu"])),
            "c": ([], []),
        }
    )
    assert ds.class_names == ("cat", "dog", "emu")
    assert [ds[i][1].tolist() for i in ds] == [[1, 0], [2], []]
    assert ds["c"][1].dtype == np.int64
    one, other = ds.split(0.5, 0)
    for part in (
        ds.select(["a"]),
        ds.sample(2, 0),
        ds.map(lambda c: c),
        one,
        other,
        *ds.split_examples(0.5, 0),
    ):
        assert part.class_names == ("cat", "dog", "emu")
    assert FederatedDataset.from_clients({"a": ([1], [0])}).class_names is None


def test_texts_and_categories_of_rows():
    pd = pytest.importorskip("pandas")
    labels = ["low", "high", "low"]
    ds = FederatedDataset.from_arrays(
        [1, 2, 3], labels, ["a", "b", "a"], [1.0] * 3
    )
    assert ds.class_names == ("high", "low")
    assert ds["a"][1].tolist() == [1, 1]
    assert len(ds["a"]) == 3
    column = pd.Series(pd.Categorical(labels, ["low", "high"]))
    ds = FederatedDataset.from_arrays([1, 2, 3], column, ["a", "b", "a"])
    assert ds.class_names == ("low", "high")
    named = FederatedDataset.from_arrays(
        [1, 2], [1, 0], ["a", "a"], class_names=["no", "yes"]
    )
    assert named.class_names == ("no", "yes")
    with pytest.raises(ValueError, match="'cat' is not among"):
        FederatedDataset.from_clients(
            {"a": ([1], ["cat"])}, class_names=["dog"]
        )


def test_labels_of_rows_that_are_nan_name_the_client():
    y = [0.0, 1.0, np.nan, 1.0]
    with pytest.raises(ValueError, match="Client 'b': y is NaN in 1 of 2"):
        FederatedDataset.from_arrays(y, y, ["a", "a", "b", "b"])
    # In features they may be filled by a layer, or in `map`.
    ds = FederatedDataset.from_arrays(y, [0, 1, 2, 3], ["a", "a", "b", "b"])
    assert np.isnan(ds["b"][0][0])


def test_from_arrays_groups_rows():
    ids = ["b", "a", "b", "c", "a"]
    ds = FederatedDataset.from_arrays(
        {"u": np.arange(5), "v": np.arange(10).reshape(5, 2)},
        np.arange(5),
        ids,
        sample_weight=np.arange(5.0),
    )
    assert ds.client_ids == ("a", "b", "c")
    x, y, weight = ds["b"]
    assert y.tolist() == [0, 2] == x["u"].tolist()
    assert x["v"].tolist() == [[0, 1], [4, 5]]
    assert weight.tolist() == [0.0, 2.0]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_from_arrays_loses_nothing(ids):
    rows = np.arange(len(ids))
    for given_ids in (ids, [str(i) for i in ids], [float(i) for i in ids]):
        ds = FederatedDataset.from_arrays(rows, rows, given_ids)
        assert list(ds) == sorted({str(i) for i in ids})
        for client_id in ds:
            expected = [r for r, i in enumerate(ids) if str(i) == client_id]
            assert ds[client_id][0].tolist() == expected
            assert ds.num_examples(client_id) == len(expected)


def test_from_arrays_does_not_copy_grouped_rows():
    x = np.zeros((4, 2))
    ds = FederatedDataset.from_arrays(x, x, ["a", "a", "b", "b"])
    assert np.shares_memory(ds["b"][0], x)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (([1, 2], [1, 2], ["a"]), "one id for each"),
        (([1, 2], [1], ["a", "b"]), "x has 2, y has 1"),
        (([], [], []), "no examples"),
        (([1, 2], [1, 2], [1.0, np.nan]), "NaN"),
        (([1, 2], [1, 2], np.array(["a", None], object)), "None"),
        (([1, 2], None, ["a", "b"]), "y=x"),
    ],
)
def test_bad_arrays(arguments, match):
    with pytest.raises(ValueError, match=match):
        FederatedDataset.from_arrays(*arguments)


def test_summary_text():
    ds = FederatedDataset.from_clients(
        {
            "a": (np.zeros((4, 28, 28), "float32"), np.array([0, 0, 0, 0])),
            "b": (np.zeros((4, 28, 28), "float32"), np.array([0, 1, 3, 3])),
        }
    )
    lines = []
    assert ds.summary(print_fn=lines.append) is None
    assert lines == [
        "FederatedDataset",
        "  clients              2",
        "  examples             8",
        "  examples per client  min 4, quartiles 4 / 4 / 4, max 4",
        "  x                    float32 (n, 28, 28)",
        "  y                    int64 (n,), 3 labels from 0 to 3",
        "  label entropy        1.30 bits pooled, 0.75 mean per client",
        "  label distance       0.38 mean, 0.38 max; dealt at random 0.19",
        "  one label only       50% of clients",
    ]
    lines.clear()
    ds.select([]).summary(lines.append)
    assert lines == ["FederatedDataset", "  clients  0"]


@pytest.mark.parametrize(
    "y", [np.zeros((3, 5), int), np.zeros(3), np.arange(1200)]
)
def test_summary_leaves_out_entropy_where_y_is_no_label(y):
    lines = []
    FederatedDataset.from_clients({"a": (y, y)}).summary(lines.append)
    assert len(lines) == 6
    assert "entropy" not in "\n".join(lines)
