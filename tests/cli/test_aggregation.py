import json

import pytest

from tests.cli.conftest import TINY
from tests.cli.test_train import read

pytestmark = pytest.mark.backend_free


def sent_up(path):
    return float(read(path)[0]["bytes_up"])


def test_compressed_and_robust(fedlearn, finished, tmp_path):
    code, out, err = fedlearn(
        "train", *TINY, "--rounds=1", "--aggregator=Median",
        "--compress=eden:2", f"--output_dir={tmp_path}",
    )  # fmt: skip
    assert code == 0, err
    # An odd 2 bits of each of 32, and what a message has beside them.
    assert sent_up(tmp_path) < 0.3 * sent_up(finished)
    assert read(tmp_path)[0]["num_aggregated"] == "3.0"
    assert "of 3 of 30 clients, median, eden:2" in out
    flags = json.loads((tmp_path / "config.json").read_text())["flags"]
    assert (flags["aggregator"], flags["compress"]) == ("median", "eden:2")
    code, _, err = fedlearn(
        "train", "--resume", "--compress=eden:4", f"--output_dir={tmp_path}"
    )
    assert code == 2
    assert "has --compress=eden:2, and can't go on with --comp" in err


def test_error_feedback_is_kept_between_rounds(fedlearn, tmp_path):
    words = ("train", *TINY, "--compress=topk:0.05+huffman", "--error_feedback")
    once, twice = tmp_path / "once", tmp_path / "twice"
    code, out, err = fedlearn(*words, "--rounds=2", f"--output_dir={once}")
    assert code == 0, err
    assert "topk:0.05+huffman with error feedback" in out
    for rounds in (1, 2):
        code, _, err = fedlearn(
            *words, f"--rounds={rounds}", "--resume", f"--output_dir={twice}"
        )
        assert code == 0, err
    assert read(twice) == read(once)


def test_secure_sum(fedlearn, tmp_path):
    code, _, err = fedlearn(
        "train", *TINY, "--rounds=1", "--aggregator=secure_sum:4,10",
        f"--output_dir={tmp_path}",
    )  # fmt: skip
    assert code == 0, err
    assert float(read(tmp_path)[0]["val_accuracy"]) > 0.15


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--aggregator=krum:1"], "needs at least 5 clients a round, and"),
        (["--aggregator=trimmed_mean:0.7"], "at least 0 and below 0.5"),
        (["--compress=eden:9"], "`bits` must be a number from 0 to 8"),
        (["--compress=huffman+eden"], "EntropyCoding makes messages of"),
        (
            ["--aggregator=secure_sum:1", "--compress=eden:2"],
            "SecureSum can't take Eden",
        ),
        (["--error_feedback"], "Add --compress, such as"),
    ],
)
def test_what_cant_work_says_why(fedlearn, tmp_path, words, message):
    path = tmp_path / "run"
    code, _, err = fedlearn("train", *TINY, *words, f"--output_dir={path}")
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not path.exists()
