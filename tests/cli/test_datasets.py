import socket

import pytest

from fedlearn import datasets
from fedlearn.data.fetching import download
from fedlearn.datasets import heart_disease
from fedlearn.datasets.public_file import PublicFile

pytestmark = pytest.mark.backend_free


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    path = tmp_path / "cache"
    monkeypatch.setenv("FEDLEARN_CACHE", str(path))
    return path


def publish(monkeypatch, base):
    """Lets heart_disease come from another address."""
    files = {
        site: PublicFile(f"{base}/{file.name}")
        for site, file in heart_disease._FILES.items()
    }
    monkeypatch.setattr(heart_disease, "_FILES", files)
    monkeypatch.setattr(heart_disease, "FILES", tuple(files.values()))


@pytest.fixture
def hospitals(tmp_path, monkeypatch):
    """Four files of UCI's kind, three patients each."""
    folder = tmp_path / "public"
    folder.mkdir()
    for site, file in heart_disease._FILES.items():
        rows = [
            f"{50 + k},1,{1 + k},120,{len(site)},0,0,150,0,1.0,1,0,3,{k}\n"
            for k in range(3)
        ]
        (folder / file.name).write_text("".join(rows))
    publish(monkeypatch, folder.as_uri())


@pytest.mark.parametrize("words", [(), ("list",)])
def test_list_has_a_line_each(fedlearn, words, cache):
    code, out, err = fedlearn("datasets", *words)
    assert code == 0, err
    for name in datasets.list():
        (line,) = [k for k in out.splitlines() if k.startswith(f"  {name} ")]
        title = "Photographs of famous people, with 40 attributes"
        assert title in line or name != "celeba"
    emnist = next(k for k in out.splitlines() if "  emnist " in k)
    assert emnist.split()[1:4] == ["171", "MB", "no"]
    digits = next(k for k in out.splitlines() if "  digits " in k)
    assert digits.split()[1:3] == ["nothing", "-"]
    assert str(cache) in out


def test_describe_is_the_card(fedlearn):
    lines = []
    datasets.describe("emnist", lines.append)
    code, out, err = fedlearn("datasets", "describe", "emnist")
    assert code == 0, err
    assert out.splitlines() == lines


def test_describe_counts(fedlearn):
    code, out, err = fedlearn(
        "datasets", "describe", "heart_disease", "--summary",
        "--source=synthetic",
    )  # fmt: skip
    assert code == 0, err
    train, test = out.split("\nheart_disease (synthetic), ")[1:]
    assert "train:" in train
    assert "486" in train
    assert "test:" in test
    assert "254" in test


def test_describe_counts_what_flags_choose(fedlearn):
    code, out, err = fedlearn(
        "datasets", "describe", "digits", "--summary", "--num_clients=7"
    )
    assert code == 0, err
    assert out.count("clients              7\n") == 2


def test_fetch_then_use(fedlearn, hospitals, cache, tmp_path, monkeypatch):
    def cached(name):
        table = fedlearn("datasets")[1].splitlines()
        return next(k for k in table if f"  {name} " in k).split()[2]

    assert cached("heart_disease") == "no"
    code, out, err = fedlearn("datasets", "fetch", "heart_disease")
    assert code == 0, err
    assert str(cache / "heart_disease") in out
    assert "fedlearn train --dataset=heart_disease\n" in out
    assert cached("heart_disease") == "yes"
    # From now on nothing is fetched.
    publish(monkeypatch, (tmp_path / "gone").as_uri())
    code, out, err = fedlearn(
        "datasets", "describe", "heart_disease", "--summary"
    )
    assert code == 0, err
    assert "clients              4\n" in out
    (cache / "heart_disease" / "processed.va.data").unlink()
    assert cached("heart_disease") == "partly"


def test_fetch_elsewhere(fedlearn, hospitals, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = fedlearn(
        "datasets", "fetch", "heart_disease", "--cache_dir=other"
    )
    assert code == 0, err
    other = tmp_path / "other"
    assert (other / "heart_disease" / "processed.va.data").is_file()
    assert f"--cache_dir={other}" in out


def test_nothing_to_fetch(fedlearn, cache):
    code, out, err = fedlearn("datasets", "fetch", "digits")
    assert code == 0, err
    assert "digits needs no fetching" in out
    assert not cache.exists()


@pytest.mark.parametrize(
    "words",
    [
        ("datasets", "fetch", "heart_disease"),
        ("train", "--dataset=heart_disease"),
    ],
)
def test_no_network(fedlearn, cache, monkeypatch, tmp_path, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(download, "_sleep", lambda seconds: None)
    with socket.socket() as taken:
        # Bound but not listening: connections are refused.
        taken.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{taken.getsockname()[1]}"
        publish(monkeypatch, base)
        code, out, err = fedlearn(*words)
    assert code == 2
    assert not out
    assert f"{base}/processed.cleveland.data" in err
    assert str(cache / "heart_disease") in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


def test_a_damaged_file(fedlearn, hospitals, cache):
    path = cache / "heart_disease" / "processed.hungarian.data"
    path.parent.mkdir(parents=True)
    path.write_text("1,2,3\n")
    code, _, err = fedlearn("datasets", "fetch", "heart_disease")
    assert code == 2
    assert f"{path}, line 1: 3 values" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lst",), "Did you mean list?"),
        (("emnist",), "describe and fetch with a data set's name"),
        (("describe",), "NAME is missing. Say fedlearn datasets list"),
        (("fetch",), "NAME is missing."),
        (("describe", "emnits"), "Did you mean emnist?"),
        (("fetch", "shakespear"), "Did you mean shakespeare?"),
        (("list", "emnist"), "unexpected 'emnist'"),
        (("fetch", "emnist", "celeba"), "unexpected 'celeba'"),
        (("fetch", "digits", "--summary"), "--summary is for"),
        (("fetch", "emnist", "--source=x"), "--source is for"),
        (("describe", "emnist", "--cache_dir=x"), "--cache_dir is for"),
        (
            ("describe", "digits", "--summary", "--source=synthetic"),
            "--source doesn't go with --dataset=digits, only with celeba",
        ),
        (("describe", "emnist", "--sumary"), "Did you mean --summary?"),
    ],
)
def test_mistakes(fedlearn, words, message):
    code, out, err = fedlearn("datasets", *words)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert "--summary" in words or not out
