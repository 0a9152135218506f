import json

import numpy as np
import pytest

from fedlearn.data import FederatedDataset, FormatError
from fedlearn.data.formats.leaf import read_leaf

pytestmark = pytest.mark.backend_free


def leaf(**users):
    return {
        "users": list(users),
        "num_samples": [len(user["y"]) for user in users.values()],
        "user_data": users,
    }


ANN = {"x": [[1, 2.5], [3, 4]], "y": [0, 1]}
BOB = {"x": [[5.0, 6.0]], "y": [7]}


@pytest.fixture
def write(tmp_path):
    def write(*contents):
        folder = tmp_path / "train"
        folder.mkdir()
        for k, content in enumerate(contents):
            if not isinstance(content, (str, bytes)):
                content = json.dumps(content)
            if isinstance(content, str):
                content = content.encode()
            (folder / f"all_data_{k}.json").write_bytes(content)
        return folder

    return write


def test_users_of_several_files(write):
    ds = FederatedDataset(
        read_leaf(write(leaf(bob=BOB), leaf(ann=ANN) | {"hierarchies": []}))
    )
    assert ds.client_ids == ("ann", "bob")
    got = ds["ann"]
    assert list(got) == ["x", "y"]
    assert got["x"].dtype == np.float32
    assert got["x"].tolist() == [[1, 2.5], [3, 4]]
    assert got["y"].dtype == np.int64
    assert got["y"].tolist() == [0, 1]
    assert ds.num_examples("bob") == 1
    assert not got["x"].flags.writeable


def test_one_file(write):
    path = write(leaf(ann=ANN), leaf(bob=BOB)) / "all_data_1.json"
    assert read_leaf(path).client_ids == ("bob",)


def test_text(write):
    user = {"x": ["to bé", ""], "y": ["é", " "]}
    got = read_leaf(write(leaf(u=user))).load("u")
    assert got["x"].dtype == object
    assert got["x"].tolist() == ["to bé".encode(), b""]
    assert got["y"].tolist() == ["é".encode(), b" "]


def test_rows_of_strings(write):
    user = {"x": [["1", "a b"], ["2", "c"]], "y": [1, 0]}
    got = read_leaf(write(leaf(u=user))).load("u")
    assert got["x"].tolist() == [[b"1", b"a b"], [b"2", b"c"]]


def test_whole_numbers_by_chance(write):
    regression = {"x": [[1.0, 2.0]], "y": [0.5]}
    source = read_leaf(write(leaf(ann=ANN, reg=regression)))
    assert source.load("ann")["y"].dtype == np.float32
    assert source.load("ann")["y"].tolist() == [0.0, 1.0]


def test_integers_in_x_become_floats(write):
    user = {"x": [[1, 2]], "y": [True]}
    got = read_leaf(write(leaf(u=user))).load("u")
    assert got["x"].dtype == np.float32
    assert got["y"].dtype == np.int64


def test_user_without_examples(write):
    source = read_leaf(write(leaf(ann=ANN, none={"x": [], "y": []})))
    assert source.num_examples("none") == 0
    assert source.load("none")["x"].shape == (0, 2)
    assert source.load("none")["y"].dtype == np.int64


@pytest.mark.parametrize(
    ("name", "counts", "shape"),
    [
        ("femnist_digits/test", (6, 53), (784,)),
        ("shakespeare/test", (5, 587), ()),
    ],
)
def test_real_files(shared_file, name, counts, shape):
    ds = FederatedDataset(read_leaf(shared_file(f"leaf/{name}")))
    assert (len(ds), sum(map(ds.num_examples, ds))) == counts
    assert ds.element_spec["x"].shape == shape
    if not shape:
        assert all(len(text) == 80 for text in ds.pooled()["x"])


def test_folder_above(write):
    folder = write(leaf(ann=ANN))
    with pytest.raises(FormatError, match=r"no \.json files.*'train'"):
        read_leaf(folder.parent)
    with pytest.raises(FileNotFoundError):
        read_leaf(folder / "nothing.json")


def user(**changes):
    return leaf(ann=ANN, u=BOB | changes)


GOOD = json.dumps(leaf(ann=ANN))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "no whole JSON file"),
        (GOOD[:-9], "cut short"),
        (GOOD + "]", "no whole JSON file"),
        (GOOD.encode("utf-16"), "no whole JSON file in UTF-8"),
        ("[" * 100_000, "no whole JSON"),
        ('{"users": ' * 50_000, "no whole JSON"),
        (GOOD.replace("2.5", "NaN"), "user 'ann': 'x' holds a number that"),
        (
            GOOD.replace("2.5", "-Infinity"),
            "user 'ann': 'x' holds a number that",
        ),
        (GOOD.replace("2.5", "1e999"), "user 'ann': 'x' holds a number that"),
        (GOOD.replace("2.5", "1e99"), "user 'ann': 'x' holds a number that"),
        (GOOD.replace("2.5", "9" * 5000), "digits"),
        (GOOD.replace("[0, 1]", f"[0, {2**64}]"), "user 'ann'"),
        (GOOD.replace("2.5", "[2]"), "'x' differ in length or depth"),
        (GOOD.replace("2.5", "3, 4"), "'x' differ in length or depth"),
        (GOOD.replace("2.5", '"a"'), "values of type float, int, str|int, str"),
        (GOOD.replace("2.5", "null"), "NoneType"),
        (GOOD.replace("2.5", "{}"), "type dict"),
        (GOOD.replace("ann", "\\ud800"), "not UTF-8"),
        ("[]", "no file of LEAF"),
        ({"users": [], "num_samples": []}, "KeyError.*'user_data'"),
        (leaf(), "no clients"),
        (leaf(ann=ANN) | {"users": "ann"}, "no file of LEAF"),
        (leaf(ann=ANN) | {"users": [1]}, "no file of LEAF"),
        (leaf(ann=ANN) | {"users": ["ann", "ann"]}, "no file of LEAF"),
        (leaf(ann=ANN) | {"users": ["bob"]}, "KeyError.*'bob'"),
        (leaf(ann=ANN) | {"num_samples": [2, 2]}, "no file of LEAF"),
        (leaf(ann=ANN) | {"num_samples": [3]}, "3 examples by 'num_samples'"),
        (leaf(ann=ANN) | {"user_data": []}, "no file of LEAF"),
        (leaf(ann=ANN) | {"user_data": {"ann": []}}, "'ann' holds"),
        (
            leaf(ann=ANN) | {"user_data": {"ann": {"x": []}}},
            r"'ann' holds \['x'\]",
        ),
        (user(x=[[1.0, 2.0], [3.0, 4.0]]), "different numbers of examples"),
        (user(x=[[1.0, 2.0, 3.0]]), r"'u': x .*\(3,\)"),
        (user(x="text"), "'x' differ in length"),
        (user(y=["a"]), "'u': y has dtype object"),
    ],
)
def test_bad_file(write, content, match):
    with pytest.raises(FormatError, match=match) as caught:
        read_leaf(write(content))
    assert "train" in str(caught.value)


def test_user_in_two_files(write):
    with pytest.raises(FormatError, match=r"_1.json: user 'ann' is in an ear"):
        read_leaf(write(leaf(ann=ANN), leaf(ann=ANN)))
