"""The loaders on real data in the published formats."""

import numpy as np
import pandas as pd
import pytest
from sklearn import model_selection

from fedlearn import FederatedDataset
from fedlearn.datasets import cifar100, emnist, heart_disease, shakespeare

pytestmark = pytest.mark.backend_free


def counts(dataset):
    return len(dataset), sum(dataset.num_examples(i) for i in dataset)


def assert_first_examples(dataset, rows, check):
    """`check(x, y, values)` for the first clients' first examples."""
    assert dataset.client_ids == tuple(sorted(dataset.client_ids))
    seen = {}
    for client_id, values in rows:
        k = seen[client_id] = seen.get(client_id, -1) + 1
        check(*(a[k] for a in dataset[client_id]), values)


def check_pixels(x, y, values):
    assert x.shape == (28, 28, 1)
    assert x.dtype == np.float32
    expected = np.array(values["pixels"], np.float32)
    assert (x.reshape(-1) == expected).all()
    assert y == values["label"][0]


@pytest.mark.parametrize(
    ("name", "splits", "expected"),
    [
        pytest.param(
            "mnist_by_writer.sqlite.lzma",
            ("digits_only_train", "digits_only_test"),
            ((836, 63_373), (836, 6_627)),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "mnist_100_shards.sqlite.lzma",
            ("train", "test"),
            ((100, 60_000), (1, 10_000)),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_mnist(real_file, first_rows, cache_dir, name, splits, expected):
    parts = emnist.load_data(source=real_file(name), cache_dir=cache_dir)
    assert tuple(map(counts, parts)) == expected
    for part, split in zip(parts, splits, strict=True):
        assert_first_examples(part, first_rows(name, split), check_pixels)


@pytest.mark.slow
def test_shards_have_few_labels(real_file, cache_dir):
    train, _ = emnist.load_data(
        source=real_file("mnist_100_shards.sqlite.lzma"), cache_dir=cache_dir
    )
    labels = [len(np.unique(train[i][1])) for i in train]
    assert {n: labels.count(n) for n in set(labels)} == {1: 7, 2: 86, 3: 7}


def test_emnist_from_the_older_archive(real_file, cache_dir):
    source = real_file("mnist_by_writer_small.tar.bz2")
    train, test = emnist.load_data(source=source, cache_dir=cache_dir)
    assert counts(train) == (60, 4_414)
    assert counts(test) == (60, 459)
    x, y = train[train.client_ids[0]]
    assert x.shape[1:] == (28, 28, 1)
    assert (x.dtype, y.dtype) == (np.float32, np.int64)
    # Paper is 1: most of an image is paper.
    assert np.median(x) == 1
    inverted, _ = emnist.load_data(
        source=source, cache_dir=cache_dir, invert=True
    )
    assert (inverted[train.client_ids[0]][0] == 1 - x).all()


@pytest.mark.slow
def test_both_formats_give_the_same_writers(real_file, cache_dir):
    small, whole = (
        emnist.load_data(source=real_file(name), cache_dir=cache_dir)
        for name in (
            "mnist_by_writer_small.tar.bz2",
            "mnist_by_writer.sqlite.lzma",
        )
    )
    shared = set(small[0]) & set(whole[0])
    assert len(shared) == 60
    for client_id in sorted(shared)[:5]:
        for a, b in zip(small[0][client_id], whole[0][client_id], strict=True):
            assert (a == b).all()


def test_shakespeare(real_file, first_rows, cache_dir):
    name = "shakespeare.sqlite.lzma"
    parts = shakespeare.load_data(source=real_file(name), cache_dir=cache_dir)
    assert [len(part) for part in parts] == [1_132, 1_132]

    def check(x, y, values):
        snippet = shakespeare.text([*x, y[-1]]).encode()
        assert values["snippets"][0].startswith(snippet)
        assert snippet

    for part, split in zip(parts, ("train", "test"), strict=True):
        assert_first_examples(part, first_rows(name, split, 1), check)


def test_shakespeare_as_numbers(data_dir, real_file, cache_dir):
    path = real_file("shakespeare.sqlite.lzma")
    # The folder holds the file under its public name.
    address = data_dir.absolute().as_uri()
    stored = FederatedDataset.from_tff_sqlite(path, "train")
    assert counts(stored) == (1_132, 24_880)
    train, test = shakespeare.load_data(source=address, cache_dir=cache_dir)
    assert train.client_ids == test.client_ids == stored.client_ids
    for client_id in train.client_ids[:20]:
        x, y = train[client_id]
        assert x.shape == y.shape == (train.num_examples(client_id), 80)
        assert (x.dtype, y.dtype) == (np.int32, np.int32)
        assert (x[:, 1:] == y[:, :-1]).all()
        # Every character comes out again, in order.
        snippets = stored[client_id]["snippets"].tolist()
        starts = np.flatnonzero(x[:, 0] == shakespeare.BOS)
        assert len(starts) == len(snippets)
        rows = np.concatenate([x, y[:, -1:]], axis=1)
        for k, pieces in enumerate(np.split(rows, starts[1:])):
            assert shakespeare.text(pieces) == snippets[k].decode()


def test_shakespeare_from_the_older_archive(real_file, tmp_path):
    old, new = (
        shakespeare.load_data(
            source=real_file(f"shakespeare.{ending}"),
            cache_dir=tmp_path,
        )
        for ending in ("tar.bz2", "sqlite.lzma")
    )
    for a, b in zip(old, new, strict=True):
        assert a.client_ids == b.client_ids
        for client_id in a.client_ids[::100]:
            for one, other in zip(a[client_id], b[client_id], strict=True):
                np.testing.assert_array_equal(one, other)


def test_cifar100(real_file, first_rows, cache_dir):
    name = "cifar100_small.sqlite.lzma"
    parts = cifar100.load_data(source=real_file(name), cache_dir=cache_dir)
    assert tuple(map(counts, parts)) == ((50, 5_000), (10, 1_000))

    def check(x, y, values):
        image = np.array(values["image"], float).reshape(32, 32, 3)
        image = (image - image.mean()) / image.std()
        np.testing.assert_allclose(x, image, rtol=1e-5, atol=1e-5)
        assert y == values["label"][0]

    for part, split in zip(parts, ("train", "test"), strict=True):
        assert_first_examples(part, first_rows(name, split), check)


def test_cifar100_as_pixels(real_file, cache_dir):
    source = real_file("cifar100_small.sqlite.lzma")
    arguments = {"source": source, "cache_dir": cache_dir}
    stored = FederatedDataset.from_tff_sqlite(source, "train")
    train, _ = cifar100.load_data(**arguments)
    cropped, _ = cifar100.load_data(24, **arguments)
    image = stored["0"]["image"].reshape(-1, 32, 32, 3).astype("float64")
    x, y = train["0"]
    assert (x.shape, x.dtype) == ((100, 32, 32, 3), np.float32)
    assert (y == stored["0"]["label"]).all()
    axes = (1, 2, 3)
    mean, deviation = image.mean(axes), image.std(axes)
    expected = (image - mean[:, None, None, None]) / deviation[
        :, None, None, None
    ]
    np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-5)
    part = image[:, 4:28, 4:28]
    expected = (part - part.mean(axes, keepdims=True)) / part.std(
        axes, keepdims=True
    )
    np.testing.assert_allclose(cropped["0"][0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["heart_disease", "heart_disease/all_sites.csv"]
)
def test_heart_disease(real_file, cache_dir, name):
    source = real_file(name)
    parts = heart_disease.load_data(source=source, cache_dir=cache_dir)
    totals = {
        site: sum(part.num_examples(site) for part in parts)
        for site in heart_disease.SITES
    }
    assert totals == {
        "cleveland": 303,
        "hungarian": 261,
        "switzerland": 46,
        "va": 130,
    }
    train, _ = parts
    for site in train:
        x, y = train[site]
        assert (x.dtype, y.dtype) == (np.float32, np.int64)
        np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-5)
        flat = [heart_disease.COLUMNS[k] for k in np.flatnonzero(x.std(0) == 0)]
        assert ("chol" in flat) == (site == "switzerland")
        assert np.isfinite(x).all()
        assert set(np.unique(y)) == {0, 1}


@pytest.mark.parametrize(
    "name", ["heart_disease", "heart_disease/all_sites.csv"]
)
def test_heart_disease_as_flamby_divides_it(real_file, cache_dir, name):
    parts = heart_disease.load_data(
        source=real_file(name), cache_dir=cache_dir, split="flamby"
    )
    raw = pd.read_csv(real_file("heart_disease/all_sites.csv"))
    for site in heart_disease.SITES:
        rows = raw[raw.site == site]
        x = rows[list(heart_disease.COLUMNS)].to_numpy(np.float64)
        ill = rows.target.to_numpy() > 0
        few = min(ill.sum(), (~ill).sum()) < 3
        places = model_selection.train_test_split(
            np.arange(len(ill)),
            test_size=0.34,
            train_size=0.66,
            random_state=43,
            stratify=None if few else ill,
        )
        places = [np.sort(p) for p in places]
        mean = x[places[0]].mean(axis=0)
        deviation = x[places[0]].std(axis=0, ddof=1)
        assert few == (site == "switzerland")
        for part, chosen in zip(parts, places, strict=True):
            ours, y = part[site]
            np.testing.assert_array_equal(y, ill[chosen])
            np.testing.assert_allclose(
                ours, (x[chosen] - mean) / (deviation + 1e-9), atol=1e-5
            )


def test_heart_disease_as_stored(real_file, cache_dir):
    train, _ = heart_disease.load_data(
        normalize=False, source=real_file("heart_disease")
    )
    x, y = train["cleveland"]
    line = "63.0,1.0,0,0,0,145.0,233.0,1.0,0,1,150.0,0.0,2.3,0"
    expected = np.array(line.split(","), np.float32)
    assert [*x[0], y[0]] == expected.tolist()


def test_leaf(data_dir):
    folder = data_dir / "leaf" / "femnist_digits"
    if not folder.exists():
        pytest.skip(f"leaf/ is not in {data_dir}")
    assert counts(FederatedDataset.from_leaf(folder / "train")) == (6, 509)
    assert counts(FederatedDataset.from_leaf(folder / "test")) == (6, 53)
    plays = data_dir / "leaf" / "shakespeare"
    assert counts(FederatedDataset.from_leaf(plays / "train")) == (5, 8_820)
    assert counts(FederatedDataset.from_leaf(plays / "test")) == (5, 587)
