import json
import shutil
import types

import pytest

from fedlearn.cli import process
from tests.cli.conftest import TINY
from tests.cli.test_report import size_of
from tests.cli.test_train import read

pytestmark = pytest.mark.backend_free

pytest.importorskip("dp_accounting")

# Everybody takes part: accounting without sampling is quick.
PRIVATE = (
    *TINY,
    "--num_clients=8",
    "--clients_per_round=8",
    "--dp_epsilon=20",
    "--dp_delta=1e-3",
    "--rounds=2",
)


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    """The folder of a private run; only to be read."""
    import contextlib
    import io

    from fedlearn.cli.main import run

    path = tmp_path_factory.mktemp("private") / "run"
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        pytest.raises(SystemExit) as stop,
    ):
        run(["fedlearn", "train", *PRIVATE, f"--output_dir={path}"])
    assert not stop.value.code
    (path / "stdout.txt").write_text(out.getvalue())
    return path


def test_all_rounds_keep_to_the_budget(private):
    epsilons = [float(row["epsilon"]) for row in read(private)]
    assert epsilons == sorted(epsilons)
    # The least noise: the budget is spent to the last bit, and not passed.
    assert 19.9 < epsilons[-1] <= 20
    plan = json.loads((private / "config.json").read_text())["privacy"]
    assert plan["spent"] <= epsilons[-1]
    assert (plan["accountant"], plan["rounds"]) == ("rdp", 2)
    assert plan["clip_norm"] == "adaptive"
    assert {"clip_norm", "loss"} <= set(read(private)[0])
    text = " ".join((private / "stdout.txt").read_text().split())
    assert "2 rounds of about 8 of 8 clients" in text
    assert "found with RDP for a budget of 20 in 2 rounds." in text
    assert "failed to converge" not in text


def test_a_run_cant_go_on_past_its_budget(fedlearn, private):
    code, _, err = fedlearn(
        "train", "--resume", "--rounds=3", f"--output_dir={private}"
    )
    assert code == 2
    assert "keeps epsilon at 20 for 2 rounds, and --rounds=3 would" in err


def test_at_its_end_it_says_again_what_came_of_it(fedlearn, private, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(private, folder)
    code, out, err = fedlearn("train", "--resume", f"--output_dir={folder}")
    assert code == 0, err
    assert "for a budget of 20" in " ".join(out.split())
    assert read(folder) == read(private)


def test_report_draws_the_budget(fedlearn, private, tmp_path):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "run"
    shutil.copytree(private, folder)
    code, out, err = fedlearn("report", folder)
    assert code == 0, err
    assert "for a budget of 20" in " ".join(out.split())
    png = (folder / "report.png").read_bytes()
    assert size_of(png) == (1600, 1000)


def test_private_metrics_and_a_norm_of_ones_own(fedlearn, tmp_path):
    pytest.importorskip("matplotlib")
    code, out, err = fedlearn(
        "train", *PRIVATE, "--dp_private_metrics", "--dp_secure_noise",
        "--dp_clip_norm=0.5", "--compress=drive", "--validation_freq=0",
        f"--output_dir={tmp_path}",
    )  # fmt: skip
    assert code == 0, err
    assert not {"loss", "accuracy", "num_examples"} & set(read(tmp_path)[0])
    assert "clip norm 0.5" in " ".join(out.split())
    code, _, err = fedlearn("report", tmp_path)
    assert code == 0, err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dp_delta=1e-5"], "--dp_delta is for private training. Add --dp_e"),
        (["--dp_epsilon=0"], "must be a finite number above 0."),
        (
            ["--dp_epsilon=8", "--aggregator=median"],
            "and --aggregator=median isn't that.",
        ),
        (["--dp_epsilon=8", "--dp_accountant=rpd"], "Did you mean rdp?"),
        (["--dp_epsilon=8", "--dp_delta=2"], "`delta` must be above 0 and"),
        (
            ["--dp_epsilon=8", "--rounds=2", "--compress=huffman+drive"],
            "Put it last.",
        ),
    ],
)
def test_what_cant_work_says_why(fedlearn, tmp_path, words, message):
    path = tmp_path / "run"
    code, _, err = fedlearn(
        "train", *TINY, "--num_clients=8", "--clients_per_round=8", *words,
        f"--output_dir={path}",
    )  # fmt: skip
    assert code == 2
    assert message in err
    assert not path.exists()


def test_pld_asks_for_less_noise():
    def noise(accountant):
        flags = types.SimpleNamespace(
            dp_epsilon=4.0,
            dp_delta=1e-3,
            dp_clip_norm=None,
            dp_accountant=accountant,
            rounds=3,
            clients_per_round=8,
        )
        return process.plan(flags, 8, None)["noise_multiplier"]

    assert 0.7 * noise("rdp") < noise("pld") < noise("rdp")
