import numpy as np
import pytest

from fedlearn.data import FederatedDataset

pytestmark = pytest.mark.backend_free

read_hugging_face = FederatedDataset.from_hugging_face


class Table:
    """As much of `datasets.Dataset` as is used."""

    features = None
    _dtype = None

    def __init__(self, columns, numpy=False):
        self._columns = columns
        self._numpy = numpy
        self.column_names = list(columns)

    def select_columns(self, names):
        chosen = {name: self._columns[name] for name in names}
        table = Table(chosen, self._numpy)
        table.features = self.features
        return table

    def with_format(self, kind, dtype=None):
        assert kind == "numpy"
        # As the library does it: floats are float32 where no dtype is given.
        table = Table(self._columns, True)
        table.features, table._dtype = self.features, dtype
        return table

    def __getitem__(self, rows):
        assert self._numpy
        made = {n: np.asarray(c[rows]) for n, c in self._columns.items()}
        narrow = {"f": "float32", "u": "int64"}
        return {
            n: a.astype(self._dtype or narrow.get(a.dtype.kind, a.dtype))
            for n, a in made.items()
        }


COLUMNS = {
    "image": [[[k, 1], [2, 3]] for k in range(4)],
    "writer_id": ["b", "a", "b", "a"],
    "character": [3, 4, 5, 6],
    "note": ["é", "", "x", "yy"],
}


@pytest.fixture(params=["fake", "real"])
def table(request):
    """Builds a data set: a stand-in, or the library's own."""
    if request.param == "fake":
        return Table
    # Without the library, this is the project's own folder `datasets`.
    library = pytest.importorskip("datasets")
    if not hasattr(library, "Dataset"):
        pytest.skip("the library datasets is not installed")
    return library.Dataset.from_dict


def test_features(table):
    ds = FederatedDataset.from_hugging_face(table(COLUMNS), "writer_id")
    assert ds.client_ids == ("a", "b")
    got = ds["b"]
    assert list(got) == ["image", "character", "note"]
    assert got["image"].tolist() == [[[0, 1], [2, 3]], [[2, 1], [2, 3]]]
    assert got["character"].tolist() == [3, 5]
    assert got["note"].tolist() == ["é".encode(), b"x"]
    assert ds["a"]["note"].tolist() == [b"", b"yy"]


def test_x_and_y(table):
    x, y = read_hugging_face(
        table(COLUMNS), "writer_id", "character", ["image"]
    )["a"]
    assert x.shape == (2, 2, 2)
    assert y.tolist() == [4, 6]
    x, y = read_hugging_face(table(COLUMNS), "writer_id", "character")["a"]
    assert list(x) == ["image", "note"]


def test_ids_that_are_numbers(table):
    columns = COLUMNS | {"writer_id": [10, 9, 10, 9]}
    source = read_hugging_face(table(columns), "writer_id", "character")
    assert source.client_ids == ("10", "9")
    assert source["10"][1].tolist() == [3, 5]


@pytest.mark.parametrize(
    ("changes", "arguments", "match"),
    [
        ({}, {"client": "user"}, "no column 'user'.*'image', 'writer_id'"),
        ({}, {"label": "digit"}, "no column 'digit'"),
        ({}, {"features": ["image", "pixels"]}, "features has 'pixels'"),
        ({}, {"features": []}, "no feature columns"),
        ({}, {"features": ["image", "image"]}, "each once"),
        ({}, {"features": ["writer_id"]}, "features has 'writer_id'"),
        ({"character": [1, None, 2, 3]}, {"label": "note"}, "missing|text"),
        ({"note": ["a", None, "", ""]}, {}, "'note' .*missing values"),
    ],
)
def test_bad_columns(changes, arguments, match):
    arguments = {"client": "writer_id"} | arguments
    with pytest.raises(ValueError, match=match):
        read_hugging_face(Table(COLUMNS | changes), **arguments)


def test_no_rows():
    empty = {name: [] for name in COLUMNS}
    with pytest.raises(ValueError, match="no rows"):
        read_hugging_face(Table(empty), "writer_id")


def test_ids_that_are_arrays():
    with pytest.raises(ValueError, match="'image' holds arrays"):
        read_hugging_face(Table(COLUMNS), "image")


def test_other_objects():
    with pytest.raises(TypeError, match=r"splits 'train', 'test'.*\['train'"):
        read_hugging_face({"train": 1, "test": 2}, "writer_id")
    with pytest.raises(TypeError, match=r"Got a list.*streams"):
        read_hugging_face([{"image": 1}], "writer_id")
    with pytest.raises(TypeError, match="features is 'image'"):
        read_hugging_face(Table(COLUMNS), "writer_id", features="image")


class Value:
    def __init__(self, dtype, names=None):
        self.dtype = dtype
        self.names = names


def test_numbers_stay_as_they_are():
    times = [1.7e9 + 0.25, 1.7e9 + 0.5]
    hashes = [2**64 - 1, 2**63]
    table = Table({"who": ["a", "a"], "time": times, "hash": hashes})
    table.features = {"time": Value("float64"), "hash": Value("uint64")}
    got = read_hugging_face(table, "who")["a"]
    assert got["time"].tolist() == times
    assert got["hash"].tolist() == hashes


def test_names_of_classes():
    table = Table({"who": ["a", "b"], "x": [1, 2], "y": [2, 0]})
    table.features = {"y": Value("int64", ["ant", "bee", "cat"])}
    ds = read_hugging_face(table, "who", "y")
    assert ds.class_names == ("ant", "bee", "cat")
    assert ds["a"][1].tolist() == [2]
    texts = Table({"who": ["a", "b"], "x": [1, 2], "y": ["dog", "cat"]})
    ds = read_hugging_face(texts, "who", "y")
    assert ds.class_names == ("cat", "dog")
    assert ds["a"][1].tolist() == [1]
