import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.backend_free


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("trian",), "there is no command trian. Did you mean train?"),
        (("xyzzy",), "Commands are train, sweep, evaluate, report, datasets."),
        (("--rounds=3",), "there is no flag --rounds=3."),
        (("train", "--round=3"), "Did you mean --rounds?"),
        (("train", "--client_lr=1"), "Did you mean --client_learning_rate?"),
        (("train", "--server-lr=1"), "Did you mean --server_learning_rate?"),
        (
            ("train", "--lr=0.1"),
            "Did you mean --client_learning_rate or --server_learning_rate?",
        ),
        (
            ("train", "--optimizer=sgd"),
            "Did you mean --client_optimizer or --server_optimizer?",
        ),
        (("train", "--local_epochs=1"), "Did you mean --epochs?"),
        (("train", "--num_rounds=1"), "Did you mean --rounds?"),
        (("train", "--mu=0.1"), "Did you mean --proximal?"),
        (("train", "--epsilon=1"), "Did you mean --dp_epsilon?"),
        (("train", "--bs=10"), "Did you mean --batch_size?"),
        (("train", "--xyzzy"), "fedlearn train --help lists them."),
        (("train", "--rounds=0"), "must be a whole number of at least 1."),
        (("train", "--rounds=ten"), "must be a whole number of at least 1."),
        (("train", "--epochs=1.5"), "must be a whole number of at least 1."),
        (("train", "--alpha=-1"), "must be a finite number above 0."),
        (("train", "--alpha=nan"), "must be a finite number above 0."),
        (("train", "--verbose=3"), "must be 0, 1 or 2."),
        (("train", "--algorithm=fedpox"), "Did you mean fedprox?"),
        (("train", "--client_optimizer=adm"), "Did you mean adam?"),
        (("train", "--executor=vectorised"), "Did you mean vectorized?"),
        (("train", "10"), "unexpected '10'. Flags are written --name=value."),
        (("report",), "RUN is missing: fedlearn report RUN [FLAGS]"),
        (("evaluate", "a", "b"), "unexpected 'b'."),
        (("train", "--resume"), "--resume needs --output_dir"),
        (("train", "--dataset=digit"), "Did you mean digits?"),
        (
            ("train", "--model=digit_cnn"),
            "Did you mean digits_cnn?",
        ),
        (("train", "--model=x.keras"), "there is no such file."),
        (("train", "--model=no_such:f"), "No module named 'no_such'"),
        (
            ("train", "--model=os:getcwdd"),
            "module 'os' has no attribute 'getcwdd'",
        ),
        (("train", "--model=os:getcwd"), "returned a str."),
        (("train", "--proximal=1"), "--proximal is for --algorithm=fedprox"),
        (
            ("train", "--algorithm=fedadam", "--server_optimizer=sgd"),
            "fedadam is a server optimizer itself",
        ),
        (("train", "--algorithm=fedper"), "needs --personal=LAYERS"),
        (("train", "--algorithm=ditto:much"), "ditto[:STRENGTH]"),
        (
            ("train", "--algorithm=fedbuff", "--dp_epsilon=8"),
            "may be in every round",
        ),
        (
            ("train", "--conditions=phones", "--dp_epsilon=8"),
            "count that are there first",
        ),
        (("train", "--conditions=phone"), "Did you mean phones?"),
        (("train", "--personal=out"), "is for --algorithm=fedper or fedrep"),
        (("train", "--clients_per_round=51"), "Expected 1 to 50."),
        (("train", "--source=synthetic"), "only with celeba, cifar100"),
        (("train", "--source="), "expected a file or folder."),
        (("train", "--noonly_digits"), "--dataset=digits, only with emnist."),
        (
            ("train", "--dataset=emnist", "--task=tags"),
            "--dataset=emnist, only with stackoverflow. Leave it out.",
        ),
        (("train", "--task=word"), "Did you mean words?"),
        (
            ("train", "--dataset=emnist", "--num_clients=5"),
            "only with digits, synthetic.",
        ),
        (
            ("train", "--dataset=emnist", "--source=no/such"),
            "no/such, given as the source of emnist.",
        ),
        (
            ("train", "--dataset=emnist", "--source=https://x.org/emnist"),
            "Expected a path, a file:// address, or 'synthetic'",
        ),
        (
            ("train", "--dataset=celeba", "--target=smile"),
            "`target` must be 'arched_eyebrows', 'attractive'",
        ),
        (
            ("train", "--model=emnist_autoencoder"),
            "predictions of shape (8, 8, 1) for an example, and labels are "
            "int64 of shape ()",
        ),
        (("train", "--num_clients=5000"), "fedlearn: error: "),
    ],
)
def test_mistakes_are_told_in_a_line(
    fedlearn, tmp_path, monkeypatch, words, message
):
    monkeypatch.chdir(tmp_path)
    code, out, err = fedlearn(*words)
    assert code == 2
    assert not out
    assert message in err
    assert "error: " in err
    assert "Traceback" not in err
    # Such a call leaves nothing behind.
    assert not list(tmp_path.iterdir())


def test_debug_shows_where(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from fedlearn.cli.main import run

    with pytest.raises(ValueError, match="num_clients"):
        run(["fedlearn", "train", "--num_clients=5000", "--debug"])


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_a_folder_that_is_no_run(fedlearn, tmp_path, command):
    (tmp_path / "demo").mkdir()
    code, _, err = fedlearn(command, tmp_path / "dmeo")
    assert code == 2
    assert f"Did you mean {tmp_path}/demo?" in err
    code, _, err = fedlearn(command, tmp_path / "demo")
    assert code == 2
    assert "isn't the folder of a run" in err
    flags = {"algorithm": "fedavg", "dataset": "digits", "model": "m:build"}
    config = json.dumps({"flags": flags})
    (tmp_path / "demo" / "config.json").write_text(config)
    code, _, err = fedlearn(command, tmp_path / "demo")
    assert code == 2
    assert "fedlearn train --resume --output_dir=" in err
    assert "--model=m:build" in err
    (tmp_path / "demo" / "config.json").write_text("{")
    code, _, err = fedlearn(command, tmp_path / "demo")
    assert code == 2
    assert "isn't JSON" in err


@pytest.mark.parametrize("words", [("datasets",), ("train", "--help")])
def test_who_reads_may_stop(words):
    program = subprocess.Popen(
        [sys.executable, "-m", "fedlearn.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    program.stdout.close()
    assert program.stderr.read() == b""
    program.stderr.close()
    assert program.wait() == 1
