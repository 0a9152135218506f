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
        ("who,a,a,y\nu,1,1,1\n", FormatError, "'a' twice"),
        ("who,a,y\nu,1,1\nu,1\n", FormatError, "line 3: 2 cells.* has 3"),
        ('who,a,y\nu,"1,1\n', FormatError, "unexpected end"),
        ("user,a,y\nu,1,1\n", ValueError, "no column 'who'.*'user'"),
        ("who,y\nu,1\n", ValueError, "no feature columns"),
        (
            "who,a,b,y\nu,1,1,0\nu,1,red,0\n",
            ValueError,
            r"'b' \('red' in line 3\).*features=",
        ),
        ("who,a,y\nu,1,cat\n", ValueError, r"'y' \(label\).*'cat' in line 2"),
        (
            "who,a,y\nu,1,0\nu,,0\nu,?,0\n",
            ValueError,
            r"'a' \(2, first in line 3\)",
        ),
        ("who,a,y\nu,1,nan\n", ValueError, r"'y' \(1, first in line 2\)"),
        ("who,a,y\n,1,0\n", ValueError, r"'who' \(1, first in line 2\)"),
        ("who,a,y\nu,1_0,0\n", ValueError, "'1_0' in line 2"),
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
        (["a", "z"], ValueError, r"'z' \(features\)"),
        (["a", "y"], ValueError, "'y'.*label column"),
        (["a", "a"], ValueError, "twice"),
        ([], ValueError, "no feature"),
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
