import lzma
import sqlite3

import numpy as np
import pytest

from fedlearn.data import FederatedDataset, FormatError
from fedlearn.data.formats.tff_sqlite import write_tff_sqlite

pytestmark = pytest.mark.backend_free

read = FederatedDataset.from_tff_sqlite


@pytest.fixture
def rows(encode_example):
    """Two clients whose rows alternate, in two splits."""

    def row(split, client, number):
        return (
            split,
            client,
            encode_example(
                {
                    "text": ("bytes", [b"n%d\0" % number]),
                    "label": ("int64", [number]),
                    "pixels": ("float", [number, 0.5, -1.0]),
                    "image": ("int64", [number, 255, 7, 0]),
                }
            ),
        )

    return [
        row("train", "b'\"; DROP", 0),
        row("train", "10", 1),
        row("test", "10", 2),
        row("train", "b'\"; DROP", 3),
        row("train", "10", 4),
        row("train", "9", 5),
    ]


def check(ds):
    assert ds.client_ids == ("10", "9", "b'\"; DROP")
    got = ds["b'\"; DROP"]
    assert list(got) == ["image", "label", "pixels", "text"]
    assert got["label"].tolist() == [0, 3]
    assert got["label"].dtype == np.int64
    assert got["pixels"].dtype == np.float32
    assert got["pixels"].tolist() == [[0, 0.5, -1], [3, 0.5, -1]]
    assert got["image"].dtype == np.int64
    assert got["image"].tolist() == [[0, 255, 7, 0], [3, 255, 7, 0]]
    assert got["text"].tolist() == [b"n0\0", b"n3\0"]
    assert ds["10"]["label"].tolist() == [1, 4]
    assert ds.num_examples("9") == 1
    assert not got["image"].flags.writeable
    assert ds.pooled()["label"].tolist() == [1, 4, 5, 0, 3]
    assert ds.pooled()["label"].dtype == np.int64


def test_plain_file(write_sqlite, rows):
    path = write_sqlite(rows)
    check(read(path, "train"))
    check(read(str(path), split="train"))
    assert read(path, "test")["10"]["label"].tolist() == [2]


@pytest.mark.parametrize("container", [lzma.FORMAT_XZ, lzma.FORMAT_ALONE])
def test_compressed_file(write_sqlite, rows, tmp_path, container):
    packed = tmp_path / "data.sqlite.lzma"
    plain = write_sqlite(rows).read_bytes()
    packed.write_bytes(lzma.compress(plain, container))
    check(read(packed, "train"))
    whole = packed.read_bytes()
    for cut in (14, len(whole) // 2, len(whole) - 1):
        packed.write_bytes(whole[:cut])
        with pytest.raises(FormatError, match=r"data.sqlite.lzma .*cut short"):
            read(packed, "train")


def test_no_split_means_all(write_sqlite, rows):
    ds = read(write_sqlite(rows))
    assert ds["10"]["label"].tolist() == [1, 2, 4]
    assert len(ds) == 3


def test_unpacked_lists_and_many_chunks(write_sqlite, encode_example):
    numbers = [(-1) ** k * 3**k for k in range(30)] * 50
    blobs = [
        encode_example({"v": ("int64", [k, n])}, packed=k % 2 == 0)
        for k, n in enumerate(numbers)
    ]
    # The first chunk fits in a byte, so that the column has to be widened.
    blobs = [encode_example({"v": ("int64", [1, 2])})] * 1500 + blobs
    rows = [("s", f"{k % 7}", blob) for k, blob in enumerate(blobs)]
    ds = read(write_sqlite(rows))
    expected = [[1, 2]] * 1500 + [[k, n] for k, n in enumerate(numbers)]
    for client_id in ds:
        assert ds[client_id]["v"].tolist() == expected[int(client_id) :: 7]


def test_client_listed_without_examples(write_sqlite, rows):
    only = [r for r in rows if r[0] == "test"]
    meta = [("10", "test", 1), ("zero", "test", 0)]
    ds = read(write_sqlite(only, meta), "test")
    assert ds.num_examples("zero") == 0
    assert ds["zero"]["pixels"].shape == (0, 3)


def test_unknown_split(write_sqlite, rows):
    with pytest.raises(ValueError, match=r"'dev'.*'test', 'train'"):
        read(write_sqlite(rows), "dev")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing.sqlite")
    with pytest.raises(FormatError, match="folder"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "no LZMA file"),
        (b"hello, this is no database", "no LZMA file"),
        (b"\xfd7zXZ\0 rubbish follows", "damaged, or no LZMA"),
        (lzma.compress(b"not a database at all"), "cannot be read as SQLite"),
        (b"SQLite format 3\0" + bytes(200), "cannot be read as SQLite"),
    ],
)
def test_other_files(tmp_path, content, match):
    path = tmp_path / "odd.sqlite"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=match) as caught:
        read(path)
    assert "odd.sqlite" in str(caught.value)


def test_cut_database(write_sqlite, rows):
    path = write_sqlite(rows * 200)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(FormatError, match="cut short"):
        read(path)


@pytest.mark.parametrize(
    ("sql", "match"),
    [
        ("DROP TABLE examples", "no table 'examples'"),
        ("DROP TABLE client_metadata", "no table 'client_metadata'"),
        (
            "ALTER TABLE examples RENAME COLUMN serialized_example_proto TO p",
            "no such column: serialized_example_proto",
        ),
        (
            "UPDATE client_metadata SET num_examples = 7 WHERE "
            "client_id = '10' AND split_name = 'train'",
            "'10' has 8 examples by 'client_metadata', but 3",
        ),
        ("DELETE FROM client_metadata WHERE client_id = '9'", "'9' has"),
        ("DELETE FROM client_metadata", "no clients"),
        (
            "UPDATE examples SET serialized_example_proto = x'0a05' "
            "WHERE client_id = '9'",
            "client '9' cannot be read: ",
        ),
        (
            "UPDATE examples SET serialized_example_proto = 'text' "
            "WHERE client_id = '9'",
            "client '9' cannot be read: ",
        ),
        (
            "UPDATE examples SET serialized_example_proto = x'' "
            "WHERE client_id = '9'",
            "it holds no features",
        ),
        (
            "UPDATE examples SET serialized_example_proto = x''",
            "it holds no features",
        ),
    ],
)
def test_damaged_tables(write_sqlite, rows, sql, match):
    path = write_sqlite(rows)
    connection = sqlite3.connect(path)
    connection.execute(sql)
    connection.commit()
    connection.close()
    with pytest.raises(FormatError, match=match) as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("second", "match"),
    [
        (("float", [1.0, 2.0]), "'a'.*length=2.* before it .*length=1"),
        (("int64", [3]), "'a'.*int64_list.* before it .*float_list"),
    ],
)
def test_features_that_do_not_stack(
    write_sqlite, encode_example, second, match
):
    rows = [
        ("s", "c", encode_example({"a": ("float", [1.0])})),
        ("s", "c", encode_example({"a": second})),
    ]
    with pytest.raises(FormatError, match=match):
        read(write_sqlite(rows))


def test_lists_of_unequal_length_do_not_stack(write_sqlite, encode_example):
    # Together they have as many numbers as two lists of two.
    rows = [
        ("s", "c", encode_example({"a": ("int64", [1, 2, 300])})),
        ("s", "c", encode_example({"a": ("int64", [4])})),
    ]
    with pytest.raises(FormatError, match=r"length=1.* before it .*length=3"):
        read(write_sqlite(rows))


def test_shakespeare(shared_file):
    path = shared_file("shakespeare.sqlite.lzma")
    train, test = read(path, "train"), read(path, "test")
    assert len(train) == len(test) == 1132
    assert sum(map(train.num_examples, train)) == 24880
    assert sum(map(test.num_examples, test)) == 5977
    assert list(train) == sorted(train)
    first = train["ALL_S_WELL_THAT_ENDS_WELL_ALL"]["snippets"]
    assert first.tolist() == [b"We understand it, and thank heaven for you."]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("split", "examples"),
    [("digits_only_train", 63373), ("digits_only_test", 6627)],
)
def test_mnist_by_writer(shared_file, split, examples):
    ds = read(shared_file("mnist_by_writer.sqlite.lzma"), split)
    assert len(ds) == 836
    pooled = ds.pooled()
    assert pooled["pixels"].shape == (examples, 784)
    assert pooled["pixels"].min() == 0.0
    assert pooled["pixels"].max() == 1.0
    assert np.median(pooled["pixels"][:1000]) == 1.0  # the background
    assert sorted(set(pooled["label"].tolist())) == list(range(10))


@pytest.mark.slow
def test_cifar100_small(shared_file):
    ds = read(shared_file("cifar100_small.sqlite.lzma"), "test")
    assert [ds.num_examples(i) for i in ds] == [100] * 10
    client = ds["0"]
    assert client["image"].shape == (100, 3072)
    assert client["image"].dtype == np.int64
    assert client["image"].min() >= 0
    assert client["image"].max() == 255
    assert client["coarse_label"].max() < 20


def client(count, seed):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (count, 12)),
        "label": rng.integers(-3, 3, count),
        "pixels": rng.random((count, 3), "float32"),
        "text": np.array([b"\0%d" % k for k in range(count)], object),
    }


IDS = ["b", "10", "'\";--", "é\0/🙂", "9"]
DATA = FederatedDataset.from_clients(
    {i: client(k, k) for k, i in enumerate(IDS)}
)


def same(first, second):
    assert set(first) == set(second)
    for client_id in first:
        ours, theirs = first[client_id], second[client_id]
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])
            assert ours[name].dtype == theirs[name].dtype


def test_round_trip(tmp_path):
    path = tmp_path / "data.sqlite"
    write_tff_sqlite(DATA, path)
    same(read(path, "train"), DATA)
    assert [p.name for p in tmp_path.iterdir()] == ["data.sqlite"]


def test_tables_and_indices(tmp_path):
    path = tmp_path / "data.sqlite"
    write_tff_sqlite(DATA.select(["10", "9"]), path, "dev")
    connection = sqlite3.connect(path)
    assert connection.execute(
        "SELECT name, tbl_name FROM sqlite_master ORDER BY name"
    ).fetchall() == [
        ("client_metadata", "client_metadata"),
        ("examples", "examples"),
        ("idx_examples_client_id", "examples"),
        ("idx_examples_client_id_split", "examples"),
        ("idx_metadata_client_id", "client_metadata"),
    ]
    assert connection.execute("SELECT * FROM client_metadata").fetchall() == [
        ("10", "dev", 1),
        ("9", "dev", 4),
    ]
    rows = connection.execute(
        "SELECT split_name, client_id, typeof(serialized_example_proto) "
        "FROM examples ORDER BY rowid"
    ).fetchall()
    assert rows == [("dev", "10", "blob")] + [("dev", "9", "blob")] * 4
    connection.close()


def test_second_split(tmp_path):
    path = tmp_path / "data.sqlite"
    train, test = DATA.select(["9", "10"]), DATA.select(["9", "é\0/🙂"])
    write_tff_sqlite(train, path, "train")
    write_tff_sqlite(test, str(path), split="test")
    same(read(path, "train"), train)
    same(read(path, "test"), test)
    assert read(path).num_examples("9") == 8
    before = path.read_bytes()
    with pytest.raises(ValueError, match="has a split 'test' already"):
        write_tff_sqlite(test, path, "test")
    assert path.read_bytes() == before


def test_tuples_and_other_dtypes(tmp_path):
    path = tmp_path / "data.sqlite"
    x = np.linspace(0, 1, 12).reshape(3, 2, 2)
    y = np.array([True, False, True])
    weight = np.array([1, 2, 3], "float16")
    data = FederatedDataset.from_clients({"a": (x, y, weight)})
    write_tff_sqlite(data, path)
    got = read(path)["a"]
    assert list(got) == ["sample_weight", "x", "y"]
    np.testing.assert_array_equal(got["x"], x.reshape(3, 4).astype("float32"))
    assert got["y"].tolist() == [1, 0, 1]
    assert got["sample_weight"].tolist() == [1, 2, 3]


def test_tensorflow_reads_the_rows(tmp_path):
    tf = pytest.importorskip("tensorflow")
    path = tmp_path / "data.sqlite"
    write_tff_sqlite(DATA.select(["9"]), path)
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT serialized_example_proto FROM examples"
    ).fetchall()
    connection.close()
    for k, (blob,) in enumerate(rows):
        features = tf.train.Example.FromString(blob).features.feature
        expected = DATA["9"]
        assert (
            list(features["image"].int64_list.value)
            == expected["image"][k].tolist()
        )
        assert features["label"].int64_list.value[0] == expected["label"][k]
        np.testing.assert_array_equal(
            features["pixels"].float_list.value, expected["pixels"][k]
        )
        assert features["text"].bytes_list.value[0] == expected["text"][k]
    assert len(rows) == 4


def good(value):
    return {"a": ([[1.0]], [1]), "z": value}


@pytest.mark.parametrize(
    ("clients", "match"),
    [
        (
            good(({"p": np.ones(1)}, np.ones(1))),
            "Client 'z': .*'x'.* hold dicts",
        ),
        (good({"x": np.ones((1, 1)), "t": np.ones(1)}), "same structure"),
        (good((np.ones((1, 2)), np.array([1]))), "Client 'z': x has dtype"),
        (good((np.array([[1e99]]), np.array([1]))), "Client 'z': feature 'x'"),
        ({"a": (np.zeros((0, 2)), np.zeros(0))}, "has no examples"),
        ({}, "has no examples"),
    ],
)
@pytest.mark.parametrize("exists", [False, True])
def test_nothing_is_left_of_what_fails(tmp_path, clients, match, exists):
    path = tmp_path / "data.sqlite"
    if exists:
        write_tff_sqlite(DATA, path, "other")
    before = path.read_bytes() if exists else None
    clients = {
        i: tuple(map(np.asarray, v)) if i == "a" else v
        for i, v in clients.items()
    }
    with pytest.raises(ValueError, match=match):
        write_tff_sqlite(clients, path)
    if exists:
        assert path.read_bytes() == before
        same(read(path, "other"), DATA)
    assert [p.name for p in tmp_path.iterdir()] == ["data.sqlite"] * exists


def test_files_that_are_something_else(tmp_path):
    path = tmp_path / "data.sqlite"
    path.write_bytes(b"This is somebody's letter, and it stays." * 100)
    before = path.read_bytes()
    with pytest.raises(FormatError, match="cannot be added"):
        write_tff_sqlite(DATA, path)
    assert path.read_bytes() == before
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE other (a)")
    connection.close()
    with pytest.raises(FormatError, match="no table 'examples'"):
        write_tff_sqlite(DATA, path)
    with pytest.raises(FormatError, match="cannot be added"):
        write_tff_sqlite(DATA, tmp_path)
    with pytest.raises(FileNotFoundError):
        write_tff_sqlite(DATA, tmp_path / "no folder" / "data.sqlite")
