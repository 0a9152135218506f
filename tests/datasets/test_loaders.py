"""The loaders on files in the published formats, made here."""

import io
import json
import multiprocessing
import os
import socket
import tarfile

import numpy as np
import pytest

from fedlearn import FederatedDataset, datasets
from fedlearn.data import element as el
from fedlearn.data.fetching import download
from fedlearn.data.fetching.download import DownloadError
from fedlearn.data.formats.format_error import FormatError
from fedlearn.datasets import (
    celeba,
    cifar100,
    emnist,
    heart_disease,
    shakespeare,
    stackoverflow,
    stand_in,
)

pytestmark = pytest.mark.backend_free


def assert_same(one, other):
    assert one.client_ids == other.client_ids
    for client_id in one:
        mine, theirs = one[client_id], other[client_id]
        assert el.spec_of(mine) == el.spec_of(theirs)
        for a, b in zip(el.arrays(mine), el.arrays(theirs), strict=True):
            assert a.tolist() == b.tolist()
        assert one.num_examples(client_id) == el.num_examples(mine)


def assert_characters(data, stored):
    def examples(client):
        return client["pixels"][..., None], client["label"].astype(int)

    assert_same(data, stored.map(examples, True))


def add_tar(path, members):
    with tarfile.open(path, "w:bz2") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


@pytest.fixture(scope="module")
def posts(tmp_path_factory):
    """A folder with Stack Overflow's files, of the synthetic data."""
    folder = tmp_path_factory.mktemp("posts")
    for part, dataset in stand_in.draw("stackoverflow").items():
        dataset.to_tff_sqlite(folder / "stackoverflow.sqlite", part)
    words = stand_in.counts("tokens", b" ")
    text = "".join(f"{word} {count}\n" for word, count in words.items())
    add_tar(
        folder / "stackoverflow.word_count.tar.bz2",
        {"stackoverflow.word_count": text.encode()},
    )
    tags = stand_in.counts("tags", b"|")
    shuffled = dict(sorted(tags.items()))
    add_tar(
        folder / "stackoverflow.tag_count.tar.bz2",
        {"stackoverflow.tag_count": json.dumps(shuffled).encode()},
    )
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"vocab_size": 100},
        {"sequence_length": 7},
        {"task": "tags", "vocab_size": 100, "num_tags": 5},
    ],
)
def test_stackoverflow_by_files(posts, cache_dir, arguments):
    found = stackoverflow.load_data(
        source=posts, cache_dir=cache_dir, **arguments
    )
    drawn = stackoverflow.load_data(source="synthetic", **arguments)
    assert len(found) == 3
    for a, b in zip(found, drawn, strict=True):
        assert_same(a, b)


def test_stackoverflow_by_its_file(posts, cache_dir):
    """The counts are looked for beside it."""
    path = posts / "stackoverflow.sqlite"
    train, *_ = stackoverflow.load_data(
        source=path.as_uri(), cache_dir=cache_dir
    )
    drawn, *_ = stackoverflow.load_data(source="synthetic")
    assert_same(train, drawn)


def test_stackoverflow_without_counts(posts, tmp_path):
    path = tmp_path / "stackoverflow.sqlite"
    path.write_bytes((posts / path.name).read_bytes())
    with pytest.raises(FileNotFoundError, match=r"stackoverflow\.word_count"):
        stackoverflow.load_data(source=path, cache_dir=tmp_path)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_words_against_a_slow_version(part):
    stored = [*stand_in.draw("stackoverflow").values()][part]
    dataset = stackoverflow.load_data(
        source="synthetic", vocab_size=50, sequence_length=6
    )[part]
    words = list(stackoverflow.load_word_counts(50, source="synthetic"))
    client_id = stored.client_ids[0]
    x, y = dataset[client_id]
    assert (x.dtype, y.dtype) == (np.int32, np.int32)
    for k, sentence in enumerate(stored[client_id]["tokens"]):
        row = [52]
        for word in sentence.decode().split(" ")[:6]:
            row.append(words.index(word) + 1 if word in words else 51)
        if len(row) < 7:
            row.append(53)
        row += [0] * (7 - len(row))
        assert x[k].tolist() == row[:-1]
        assert y[k].tolist() == row[1:]


def test_tags_against_a_slow_version():
    arguments = {"source": "synthetic"}
    stored = stand_in.draw("stackoverflow")["train"]
    dataset, *_ = stackoverflow.load_data(
        "tags", vocab_size=40, num_tags=4, **arguments
    )
    words = list(stackoverflow.load_word_counts(40, **arguments))
    tags = list(stackoverflow.load_tag_counts(**arguments))[:4]
    client_id = stored.client_ids[0]
    x, y = dataset[client_id]
    assert (x.dtype, y.dtype) == (np.float32, np.float32)
    client = stored[client_id]
    for k in range(len(x)):
        text = client["tokens"][k].decode() + " " + client["title"][k].decode()
        pieces = text.split()
        bag = [pieces.count(word) / len(pieces) for word in words]
        np.testing.assert_allclose(x[k], bag, rtol=1e-6)
        found = client["tags"][k].decode().split("|")
        assert y[k].tolist() == [float(tag in found) for tag in tags]


def test_word_counts(tmp_path):
    path = tmp_path / "stackoverflow.word_count"
    path.write_text("the 10\n. 9\né 2\n", encoding="utf-8")
    load = stackoverflow.load_word_counts
    assert load(source=path) == {"the": 10, ".": 9, "é": 2}
    assert load(2, source=tmp_path) == {"the": 10, ".": 9}
    with pytest.raises(ValueError, match="`vocab_size` must be a whole"):
        load(0, source=path)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"the 10\nof\n", "line 2: 'of"),
        (b"the ten\n", "line 1"),
        (b"the 1\nthe 2\n", "line 2"),
        (b"\xff\xfe 1\n", "not UTF-8"),
    ],
)
def test_damaged_word_counts(tmp_path, text, match):
    path = tmp_path / "stackoverflow.word_count"
    path.write_bytes(text)
    with pytest.raises(FormatError, match=match):
        stackoverflow.load_word_counts(source=path)


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": "b"}', "[" * 100_000])
def test_damaged_tag_counts(tmp_path, text):
    path = tmp_path / "stackoverflow.tag_count"
    path.write_text(text)
    with pytest.raises(FormatError, match="tag_count"):
        stackoverflow.load_tag_counts(source=path)


def write_parts(path, parts, splits):
    for part, split in splits.items():
        parts[part].to_tff_sqlite(path, split)


def test_emnist_with_letters(tmp_path):
    parts = stand_in.draw("emnist_letters", num_clients=3)
    path = tmp_path / "emnist_all.sqlite"
    splits = {"train": "all_train", "test": "all_test"}
    write_parts(path, parts, splits)
    train, test = emnist.load_data(
        only_digits=False, source=tmp_path, cache_dir=tmp_path
    )
    assert_characters(train, parts["train"])
    assert_characters(test, parts["test"])
    with pytest.raises(
        FormatError, match="has the splits 'all_test', 'all_train'"
    ):
        emnist.load_data(source=path, cache_dir=tmp_path)


@pytest.mark.parametrize("split_by", ["clients", "examples"])
def test_celeba(tmp_path, split_by):
    drawn = stand_in.draw("celeba").values()
    few = [part.select(part.client_ids[:2]) for part in drawn]
    for part, split in zip(few, ("train", "test"), strict=True):
        path = tmp_path / "celeba.sqlite"
        part.to_tff_sqlite(path, f"split_by_{split_by}_{split}")
    train, _ = celeba.load_data(
        "male", split_by=split_by, source=tmp_path, cache_dir=tmp_path
    )
    for client_id in train:
        x, y = train[client_id]
        stored = few[0][client_id]
        assert x.dtype == np.float32
        np.testing.assert_allclose(x * 255, stored["image"], atol=1e-4)
        assert y.tolist() == stored["male"].astype(int).tolist()


def test_uci_files(tmp_path):
    rows = {
        "cleveland": [
            "63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,0",
            "67.0,1.0,4.0,160.0,286.0,0.0,2.0,108.0,1.0,1.5,2.0,?,?,2",
            "41.0,?,2.0,130.0,204.0,0.0,2.0,172.0,0.0,1.4,1.0,0.0,3.0,0",
        ],
        "hungarian": ["30,0,3,170,237,0,1,170,0,0,?,?,6,0"] * 3,
        "switzerland": ["32,1,1,95,0,?,0,127,0,.7,1,?,?,1"] * 2
        + ["34,1,4,115,0,0,0,154,0,.2,1,?,?,1"] * 2,
        "va": ["63,1,4,140,260,0,1,112,1,3,2,?,?,2"] * 3,
    }
    for site, lines in rows.items():
        path = tmp_path / f"processed.{site}.data"
        path.write_text("\n".join(lines) + "\n")
    arguments = {"source": tmp_path, "cache_dir": tmp_path}
    train, test = heart_disease.load_data(normalize=False, **arguments)
    totals = [train.num_examples(s) + test.num_examples(s) for s in train]
    assert totals == [2, 3, 2, 3]
    x = np.concatenate([train["cleveland"][0], test["cleveland"][0]])
    y = np.concatenate([train["cleveland"][1], test["cleveland"][1]])
    first = [63, 1, 0, 0, 0, 145, 233, 1, 0, 1, 150, 0, 2.3]
    np.testing.assert_allclose(x[y == 0][0], first, rtol=1e-6)
    second = [67, 1, 0, 0, 1, 160, 286, 0, 0, 1, 108, 1, 1.5]
    np.testing.assert_allclose(x[y == 1][0], second, rtol=1e-6)
    again, _ = heart_disease.load_data(normalize=False, **arguments)
    assert_same(again, train)
    with pytest.raises(ValueError, match="303 patients of cleveland"):
        heart_disease.load_data(split="flamby", **arguments)
    with pytest.raises(ValueError, match="None or 'flamby'"):
        heart_disease.load_data(split="random", **arguments)
    (tmp_path / "processed.va.data").write_text("1,2,3\n")
    with pytest.raises(FormatError, match="line 1: 3 values"):
        heart_disease.load_data(**arguments)
    (tmp_path / "processed.va.data").unlink()
    with pytest.raises(FileNotFoundError, match=r"processed\.va\.data"):
        heart_disease.load_data(**arguments)


LOADERS = {
    "celeba": celeba,
    "cifar100": cifar100,
    "emnist": emnist,
    "heart_disease": heart_disease,
    "shakespeare": shakespeare,
    "stackoverflow": stackoverflow,
}


@pytest.mark.parametrize("name", LOADERS)
def test_synthetic_parts_are_ready_to_train_on(name):
    parts = LOADERS[name].load_data(source="synthetic")
    assert len(parts) == (3 if name == "stackoverflow" else 2)
    spec = parts[0].element_spec
    for part in parts:
        x, y = part[part.client_ids[0]]
        assert part.element_spec == spec
        assert x.dtype in (np.float32, np.int32)
        assert len(x) == len(y) == part.num_examples(part.client_ids[0])


@pytest.mark.parametrize("name", LOADERS)
def test_no_such_source(name, tmp_path):
    load = LOADERS[name].load_data
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load(source=tmp_path / "nowhere", cache_dir=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="has no file of"):
        load(source=tmp_path / "empty", cache_dir=tmp_path)
    with pytest.raises(ValueError, match="Expected a path, a file://"):
        load(source="https://example.org/data", cache_dir=tmp_path)


@pytest.mark.parametrize("name", LOADERS)
def test_another_file(name, tmp_path):
    path = tmp_path / "odd.bin"
    path.write_bytes(b"neither of the formats\n")
    with pytest.raises(FormatError, match=r"odd\.bin"):
        LOADERS[name].load_data(source=path, cache_dir=tmp_path)
    left = [p.name for p in tmp_path.rglob("*") if p.is_file()]
    assert left == ["odd.bin"]


@pytest.fixture
def nobody():
    """The address of a server that isn't there."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}/data/"


@pytest.mark.parametrize("name", LOADERS)
def test_offline(name, tmp_path, monkeypatch, nobody):
    monkeypatch.setattr(download, "_sleep", lambda seconds: None)
    module = LOADERS[name]
    real = download.download

    def elsewhere(url, target, **options):
        return real(nobody + url.rsplit("/", 1)[-1], target, **options)

    monkeypatch.setattr("fedlearn.datasets.public_file.download", elsewhere)
    with pytest.raises(DownloadError) as caught:
        module.load_data(cache_dir=tmp_path)
    file = module.FILES[0].name
    assert nobody + file in str(caught.value)
    assert str(tmp_path / name / file) in str(caught.value)
    assert "source=" in str(caught.value)


def test_put_there_by_hand(tmp_path, monkeypatch):
    """As the message of an offline machine says."""
    parts = stand_in.draw("emnist", num_clients=2)
    folder = tmp_path / "emnist"
    folder.mkdir()
    splits = {"train": "digits_only_train", "test": "digits_only_test"}
    write_parts(folder / "emnist_all.sqlite.lzma", parts, splits)
    monkeypatch.setattr(
        "fedlearn.datasets.public_file.PublicFile.fetch",
        lambda self, folder: folder / self.name,
    )
    train, _ = emnist.load_data(cache_dir=tmp_path)
    assert_characters(train, parts["train"])


def test_a_changed_file_is_converted_again(tmp_path):
    path = tmp_path / "data.sqlite"
    for size in (1, 2):
        path.unlink(missing_ok=True)
        parts = stand_in.draw("emnist", num_clients=size)
        write_parts(path, parts, {"train": "train", "test": "test"})
        os.utime(path, ns=(size, size))
        train, _ = emnist.load_data(source=path, cache_dir=tmp_path)
        assert len(train) == size


def test_a_half_written_cache(tmp_path):
    parts = stand_in.draw("emnist", num_clients=2)
    path = tmp_path / "data.sqlite"
    write_parts(path, parts, {"train": "train", "test": "test"})
    cache = tmp_path / "cache"
    emnist.load_data(source=path, cache_dir=cache)
    (converted,) = cache.rglob("digits_only_train.h5")
    converted.write_bytes(converted.read_bytes()[:1000])
    with pytest.raises(FormatError, match=r"digits_only_train\.h5"):
        emnist.load_data(source=path, cache_dir=cache)
    # What the message advises.
    converted.unlink()
    train, _ = emnist.load_data(source=path, cache_dir=cache)
    assert_characters(train, parts["train"])


def _load_in_another_process(path, cache, results):
    train, test = emnist.load_data(source=path, cache_dir=cache)
    results.put((len(train), len(test)))


def test_processes_share_a_cache(tmp_path):
    path = tmp_path / "data.sqlite"
    parts = stand_in.draw("emnist", num_clients=5)
    write_parts(path, parts, {"train": "train", "test": "test"})
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [
        context.Process(
            target=_load_in_another_process,
            args=(path, tmp_path / "cache", results),
        )
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    assert [results.get(timeout=120) for _ in processes] == [(5, 5)] * 3
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    files = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert sorted(p.name for p in files) == [
        "digits_only_test.h5",
        "digits_only_train.h5",
    ]


def test_the_cache_folder_by_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLEARN_CACHE", str(tmp_path / "mine"))
    path = tmp_path / "data.sqlite"
    parts = stand_in.draw("emnist", num_clients=1)
    write_parts(path, parts, {"train": "train", "test": "test"})
    emnist.load_data(source=path)
    assert list((tmp_path / "mine" / "emnist").iterdir())


def test_opening_reads_no_examples(tmp_path):
    """Only the clients that are asked for are read from the disk."""
    path = tmp_path / "data.sqlite"
    parts = stand_in.draw("emnist", num_clients=4)
    write_parts(path, parts, {"train": "train", "test": "test"})
    train, _ = emnist.load_data(source=path, cache_dir=tmp_path)
    assert isinstance(train, FederatedDataset)
    seen = []
    counted = train.map(lambda client: (seen.append(1), client)[1], True)
    counted.select(counted.client_ids[:2])
    [counted.num_examples(i) for i in counted]
    assert not seen
    counted[counted.client_ids[0]]
    assert len(seen) == 1


def test_list_and_describe():
    assert set(datasets.list()) <= set(datasets.__all__)
    for name in datasets.list():
        lines = []
        datasets.describe(name, lines.append)
        assert lines[0].startswith(f"{name}: ")
        text = "\n".join(lines)
        for word in ("clients", "licence", "cite"):
            assert f"\n  {word}" in text
    with pytest.raises(ValueError, match="Received: 'mnist'"):
        datasets.describe("mnist")


def test_fetch(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "fedlearn.datasets.public_file.download",
        lambda url, target, **options: real_file_for(url, target),
    )

    def real_file_for(url, target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            parts = stand_in.draw("emnist", num_clients=2)
            splits = {"train": "digits_only_train", "test": "digits_only_test"}
            write_parts(target, parts, splits)
        return target

    folder = datasets.fetch("emnist", cache_dir=tmp_path)
    assert folder == tmp_path / "emnist"
    monkeypatch.undo()
    train, _ = emnist.load_data(cache_dir=tmp_path)
    assert len(train) == 2
    assert datasets.fetch("synthetic") is None
