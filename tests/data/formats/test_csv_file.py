import numpy as np
import pytest

from fedlearn.data import FederatedDataset, FormatError

pytestmark = pytest.mark.backend_free


@pytest.fixture
def read(tmp_path):
    def from_text(text, features=None, delimiter=",", encoding="utf-8"):
        path = tmp_path / "data.csv"
        path.write_bytes(text.encode(encoding))
        return FederatedDataset.from_csv(
            path, "who", "y", features, delimiter=delimiter
        )

    return from_text


def test_reads(read):
    ds = read("who,a,b,y\n9,1,2.5,0\n10,3,1e2,1\n9,5, 6 ,2\n")
    assert ds.client_ids == ("10", "9")
    x, y = ds["9"]
    assert x.dtype == np.float32
    assert x.tolist() == [[1.0, 2.5], [5.0, 6.0]]
    assert y.dtype == np.int64
    assert y.tolist() == [0, 2]


def test_ids_stay_as_written(read):
    assert read("who,a,y\n007,1,0\n1e3,1,1\nna,2,1\n").client_ids == (
        "007",
        "1e3",
        "na",
    )


def test_fractional_labels_and_chosen_columns(read):
    ds = read("who,a,b,c,y\nu,1,2,3,0.5\n", features=["c", "a"])
    assert ds["u"][0].tolist() == [[3.0, 1.0]]
    assert ds["u"][1].dtype == np.float32


def test_quotes_blank_lines_bom_and_delimiter(read):
    ds = read('\ufeffwho;a;y\n"x;y";1;0\n\n"two\nlines";2;1\n', delimiter=";")
    assert ds.client_ids == ("two\nlines", "x;y")


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("", FormatError, "data.csv is empty"),
        ("who,a,y\n", FormatError, "no rows"),
        ("who,a,a,y\nu,1,1,1\n", ValueError, "'a' appears more than once"),
        ("who,a,y\nu,1,1\nu,1\n", FormatError, "line 3: 2 cells.* has 3"),
        ('who,a,y\nu,"1,1\n', FormatError, "unexpected end"),
        ("user,a,y\nu,1,1\n", ValueError, "no column 'who'.*'user'"),
        ("who,y\nu,1\n", ValueError, "no feature columns"),
        (
            "who,a,b,y\nu,1,1,0\nu,1,red,0\n",
            ValueError,
            r"'b' \('red' in line 3\).*features=",
        ),
        (
            "who,a,y\nu,1,1\nu,1,O\n",
            ValueError,
            r"'y' \(label\).*'O' in line 3",
        ),
        (
            "who,a,b,y\nu,1,2,0\nu,1,1.5.2,0\n",
            ValueError,
            r"'b' \('1.5.2' in line 3\)",
        ),
        (
            'who,a,y\nu,1,0\nu,"1,5",0\n',
            ValueError,
            "column 'a' holds '1,5'.*decimal=','",
        ),
        (
            "who,a,y\nu,true,0\nu,1,0\n",
            ValueError,
            r"'a' \('true' in line 2\)",
        ),
        (
            f"who,a,y\nu,{2**64 + 1},0\nu,1,0\n",
            ValueError,
            "'a' holds 18446744073709551617",
        ),
        (
            "who,a,y\nu,1,0\nu,,0\nu,?,0\n",
            ValueError,
            r"'a' \(2, first in line 3\)",
        ),
        ("who,a,y\nu,1,nan\n", ValueError, r"'y' \(1, first in line 2\)"),
        (
            "who,a,y\n,1,0\n",
            ValueError,
            r"'who' \(client\) .* \(1, first in line 2\)",
        ),
        ("who,a,y\nu,1_0,0\n", ValueError, "'1_0' in line 2"),
        (
            'who,a,y\nu,"1,000",0\n',
            ValueError,
            "'1,000'.*stands between thousands",
        ),
        (",who,a,y\n0,u,1,0\n", ValueError, "no name.*index=False"),
        ("who,a,y\nu,1e400,0\n", ValueError, "'1e400' in line 2"),
        ("who,a,y\nu,1.5,0\nu,-nan,0\n", ValueError, "'-nan' in line 3"),
        (
            f"who,a,y\nu,0.5,0\nu,{2**53 + 1},0\n",
            ValueError,
            "'a' holds 9007199254740993",
        ),
    ],
)
def test_bad_files(read, text, error, match):
    with pytest.raises(error, match=match) as caught:
        read(text)
    assert "data.csv" in str(caught.value)


def test_not_utf8(read):
    with pytest.raises(FormatError, match="UTF-8"):
        read("who,a,y\nJosé,1,0\n", encoding="latin-1")


@pytest.mark.parametrize(
    ("features", "error", "match"),
    [
        ("a", TypeError, r"\['a'\]"),
        (["a", "z"], ValueError, "features has 'z'.*: 'a'"),
        (["a", "y"], ValueError, "features has 'y'.*: 'a'"),
        ([], ValueError, "no feature"),
        (["a", "a"], ValueError, "each once"),
    ],
)
def test_bad_features(read, features, error, match):
    with pytest.raises(error, match=match):
        read("who,a,y\nu,1,0\n", features=features)


def test_heart_disease(shared_file):
    path = shared_file("heart_disease/all_sites.csv")
    with pytest.raises(ValueError, match=r"'split' \('train' in line 2\)"):
        FederatedDataset.from_csv(path, client="site", label="target")
    ds = FederatedDataset.from_csv(
        path, client="site", label="target", features=["age", "chol"]
    )
    assert {i: ds.num_examples(i) for i in ds} == {
        "cleveland": 303,
        "hungarian": 261,
        "switzerland": 46,
        "va": 130,
    }
    assert ds["switzerland"][0][:, 1].max() == 0
    assert ds["cleveland"][0][0].tolist() == [63.0, 233.0]


def test_booleans(read):
    ds = read("who,a,b,y\nu,True,1,false\nu,FALSE,2,True\n")
    assert ds["u"][0].tolist() == [[1.0, 1.0], [0.0, 2.0]]
    assert ds["u"][1].tolist() == [0, 1]
    assert ds["u"][1].dtype == np.int64
    assert ds.class_names is None


def test_texts_are_classes(read):
    ds = read("who,a,y\nu,1,well\nv,2,ill\n")
    assert ds.class_names == ("ill", "well")
    assert ds["u"][1].tolist() == [1]


@pytest.mark.parametrize(
    ("names", "cells", "numbers"),
    [
        (["1", "2", "x"], "1 2 x", [0, 1, 2]),
        (["1", "2", "x"], "1 2 2", [0, 1, 1]),  # the same without an x
        (["1", "0"], "1 0 0", [0, 1, 1]),
        (["True", "False"], "True False True", [0, 1, 0]),
        (["true", "false"], "True False True", [0, 1, 0]),
        (["1", "2"], "1.0 2.0 1.0", [0, 1, 0]),
        (["None", "mild"], "mild None None", [1, 0, 0]),
        (["no", "yes"], "1 0 1", [1, 0, 1]),
        (["no", "yes"], "1.0 0.0 1.0", [1, 0, 1]),
    ],
)
def test_a_label_is_the_class_of_its_name(write, names, cells, numbers):
    rows = "".join(f"u,1,{cell}\n" for cell in cells.split())
    paths = write(all="who,a,y\n" + rows)
    ds = FederatedDataset.from_csv(paths, "who", "y", class_names=names)
    assert ds["u"][1].tolist() == numbers
    assert ds.class_names == tuple(names)


def test_labels_like_numbers_at_one_of_the_sites(write):
    paths = write(basel="a,y\n1,1\n2,x\n", bern="a,y\n1,2\n2,1\n")
    ds = FederatedDataset.from_csv(
        paths, label="y", class_names=["1", "2", "x"]
    )
    assert [ds[i][1].tolist() for i in ds] == [[0, 2], [1, 0]]


def test_what_spreadsheets_write(read):
    ds = read("who;a;y;;\r\nu;1;0;;\r\nv;2;1; ;\r\n", delimiter=";")
    assert ds["v"][0].tolist() == [[2.0]]
    ds = read('who, a, y\nu, 1, "ill, very"\nu, 2, ill\n')
    assert ds.class_names == ("ill", "ill, very")
    ds = read(",who,a,y\n0,u,1,0\n", features=["a"])
    assert ds["u"][0].tolist() == [[1.0]]


def test_names_that_differ_in_case_only(write):
    paths = write(basel="Age,y\n1,0\n", bern="age_,y\n1,1\n")
    with pytest.raises(ValueError, match=r"both .*'Age' and 'age_'.*the same"):
        FederatedDataset.from_csv(paths, label="y", missing="mean")
    paths = write(basel="A,a,y\n1,2,0\n", bern="A,y\n1,1\n")
    ds = FederatedDataset.from_csv(paths, label="y", missing="mean")
    assert ds["bern"][0].tolist() == [[1.0, 2.0, 1.0]]


def test_large_integers(read):
    ds = read(f"who,a,y\nu,{2**24 + 1},0\nu,{2**24},1\n")
    assert ds["u"][0].dtype == np.int64
    assert ds["u"][0][:, 0].tolist() == [2**24 + 1, 2**24]
    with pytest.raises(ValueError, match=r"'a' \(such as 16777217\)"):
        read(f"who,a,b,y\nu,{2**24 + 1},0.5,0\n")
    with pytest.raises(ValueError, match=r"'a' \(such as 16777217"):
        read(f"who,a,b,y\nu,{2**24 + 1}.0,0.5,0\n")


@pytest.fixture
def write(tmp_path):
    def files(**texts):
        paths = []
        for name, text in texts.items():
            paths.append(tmp_path / f"{name}.csv")
            paths[-1].write_text(text)
        return paths

    return files


def test_decimal_commas(write):
    (path,) = write(a="who;a;y\nu;1,5;0\nu;-2;1\nu;3,25e1;1\n")
    ds = FederatedDataset.from_csv(path, "who", "y", delimiter=";", decimal=",")
    assert ds["u"][0][:, 0].tolist() == [1.5, -2.0, 32.5]
    (path,) = write(a="who;a;y\nu;1.234,5;0\n")
    with pytest.raises(ValueError, match=r"'a' \('1.234,5' in line 2\)"):
        FederatedDataset.from_csv(path, "who", "y", delimiter=";", decimal=",")
    with pytest.raises(ValueError, match="another character for delimiter"):
        FederatedDataset.from_csv(path, "who", "y", decimal=",")


def test_a_file_for_each_client(write):
    paths = write(basel="a,b,y\n1,2,0\n", bern="y,b,a\n1,2,1\n0,4,3\n")
    ds = FederatedDataset.from_csv(paths, label="y")
    assert ds.client_ids == ("basel", "bern")
    assert ds["bern"][0].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    named = FederatedDataset.from_csv({1: paths[1], 0: paths[0]}, label="y")
    assert named.client_ids == ("1", "0")
    assert named["1"][1].tolist() == [1, 0]
    with pytest.raises(ValueError, match="one name"):
        FederatedDataset.from_csv([paths[0], paths[0]], label="y")
    with pytest.raises(ValueError, match="no files"):
        FederatedDataset.from_csv([], label="y")
    with pytest.raises(TypeError, match="a list of files"):
        FederatedDataset.from_csv(paths[0], label="y")


def test_files_whose_columns_differ(write):
    paths = write(basel="a,b,y\n1,2,0\n3,5,1\n", bern="y,a\n1,1\n")
    with pytest.raises(ValueError, match=r"'b' \(1, .*bern\.csv\).*missing="):
        FederatedDataset.from_csv(paths, label="y")
    ds = FederatedDataset.from_csv(paths, label="y", missing="mean")
    assert ds["bern"][0].tolist() == [[1.0, 3.5, 1.0]]
    odd = write(basel="a,y\n1,0\n", bern="a,y\n1,1\nred,0\n")
    with pytest.raises(ValueError, match=r"'red' in line 3 of .*bern\.csv"):
        FederatedDataset.from_csv(odd, label="y")


def test_files_with_a_column_of_clients(write):
    paths = write(one="who,a,y\nu,1,0\nv,2,0\n", two="who,a,y\nu,3,1\n")
    ds = FederatedDataset.from_csv(paths, "who", "y")
    assert ds["u"][0][:, 0].tolist() == [1.0, 3.0]
