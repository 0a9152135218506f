"""Runs on every data set, by its stand-in that is drawn offline."""

import json
import os
import subprocess
import sys

import pytest

from fedlearn import seeds
from fedlearn.datasets import heart_disease, stand_in
from tests.cli.conftest import TINY

pytestmark = pytest.mark.backend_free

# One example a step: JAX compiles a program for each length of batch.
SMALL = (
    "--rounds=1",
    "--clients_per_round=2",
    "--epochs=1",
    "--batch_size=1",
    "--verbose=0",
    "--executor=sequential",
)

MODELS = """
import keras
from keras import layers

def build(vocab_size):
    return keras.Sequential([
        keras.Input((None,), dtype="int32"),
        layers.Embedding(vocab_size, 2, mask_zero=True),
        layers.Dense(vocab_size, activation="softmax"),
    ])

def characters():
    return build(90)
"""


@pytest.fixture(autouse=True)
def few_clients(monkeypatch):
    few = {
        name: made if name == "heart_disease" else made._replace(num_clients=3)
        for name, made in stand_in._STAND_INS.items()
    }
    monkeypatch.setattr(stand_in, "_STAND_INS", few)


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_sequence_models.py").write_text(MODELS)


@pytest.mark.parametrize(
    ("words", "num_parameters", "metrics"),
    [
        (
            ("emnist", "--noonly_digits", "--model=logistic_regression"),
            784 * 62 + 62,
            {"accuracy"},
        ),
        (
            ("celeba", "--target=eyeglasses", "--model=logistic_regression"),
            84 * 84 * 3 * 2 + 2,
            {"accuracy"},
        ),
        (
            ("shakespeare", "--model=my_sequence_models:characters"),
            90 * 2 + 3 * 90,
            {"accuracy"},
        ),
        (
            ("stackoverflow", "--task=tags"),
            None,
            {"precision", "recall_at_5"},
        ),
    ],
)
def test_train_and_evaluate(
    fedlearn, models, tmp_path, words, num_parameters, metrics
):
    name, *rest = words
    run = tmp_path / "run"
    code, out, err = fedlearn(
        "train", f"--dataset={name}", "--source=synthetic", *rest, *SMALL,
        f"--output_dir={run}",
    )  # fmt: skip
    assert code == 0, err
    assert f"FedAvg on {name} (" in out
    assert "synthetic)" in out
    config = json.loads((run / "config.json").read_text())
    assert config["flags"]["source"] == "synthetic"
    assert num_parameters in (None, config["num_parameters"])
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert set(evaluation["statistics"]) == {"loss", *metrics}
    assert all(0 <= evaluation[metric] <= 1 for metric in metrics)
    code, out, err = fedlearn("evaluate", run)
    assert code == 0, err
    again = json.loads((run / "evaluation.json").read_text())
    assert again["per_client"].keys() == evaluation["per_client"].keys()
    for metric in ("loss", *metrics):
        assert again[metric] == pytest.approx(evaluation[metric], rel=1e-4)


def test_synthetic(fedlearn, tmp_path):
    code, out, err = fedlearn(
        "train", "--dataset=synthetic", "--num_clients=4", *SMALL,
        f"--output_dir={tmp_path}",
    )  # fmt: skip
    assert code == 0, err
    assert "logistic_regression" in (tmp_path / "config.json").read_text()
    assert "over 4 clients" in out


def test_report_without_classes(fedlearn, tmp_path):
    pytest.importorskip("matplotlib")
    code, _, err = fedlearn(
        "train", "--dataset=stackoverflow", "--task=tags",
        "--source=synthetic", *SMALL, f"--output_dir={tmp_path}",
    )  # fmt: skip
    assert code == 0, err
    code, out, err = fedlearn("report", tmp_path)
    assert code == 0, err
    assert "FedAvg on stackoverflow (tags, synthetic)" in out
    assert len((tmp_path / "report.png").read_bytes()) > 40_000


@pytest.fixture
def patients(tmp_path):
    """A CSV file, in a folder of its own: `(folder, name)`."""
    names = heart_disease.COLUMNS
    rows = [",".join(["site", *names, "target"])]
    for site in heart_disease.SITES:
        for k in range(6):
            numbers = seeds.uniform(len(names), "patients", site, k)
            cells = [f"{number:.3f}" for number in numbers]
            rows.append(",".join([site, *cells, str(k % 2)]))
    folder = tmp_path / "first"
    folder.mkdir()
    (folder / "patients.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_goes_on_in_another_folder(fedlearn, patients, tmp_path, monkeypatch):
    from fedlearn import models

    run = tmp_path / "run"
    monkeypatch.chdir(patients)
    models.get("heart_logistic", seed=0).save("my.keras")
    code, _, err = fedlearn(
        "train", "--dataset=heart_disease", "--source=patients.csv",
        "--cache_dir=cache", "--model=my.keras", *TINY[3:], "--rounds=1",
        f"--output_dir={run}",
    )  # fmt: skip
    assert code == 0, err
    config = json.loads((run / "config.json").read_text())
    assert config["flags"]["clients_per_round"] == 4  # all that there are
    other = tmp_path / "second"
    other.mkdir()
    monkeypatch.chdir(other)
    code, out, err = fedlearn(
        "train", "--resume", "--rounds=2", "--verbose=0", f"--output_dir={run}"
    )
    assert code == 0, err
    assert "FedAvg on heart_disease (patients.csv), 2 rounds" in out
    code, _, err = fedlearn("evaluate", run)
    assert code == 0, err
    # Where they were may be said again, but no other data.
    go_on = ("train", "--resume", "--verbose=0", f"--output_dir={run}")
    monkeypatch.chdir(patients)
    code, _, err = fedlearn(*go_on, "--source=patients.csv")
    assert code == 0, err
    code, _, err = fedlearn(*go_on, "--source=synthetic")
    assert code == 2
    assert "can't go on with --source=synthetic" in err
    # What was moved is told.
    moved = other / "moved.csv"
    os.rename("patients.csv", moved)
    code, _, err = fedlearn("evaluate", run)
    assert code == 2
    assert f"no file or folder {patients / 'patients.csv'}" in err
    code, out, err = fedlearn("evaluate", run, f"--source={moved}")
    assert code == 0, err
    assert "over 4 clients" in out


@pytest.mark.slow
@pytest.mark.integration
def test_a_process_of_its_own_loads_a_run_on_sequences(
    fedlearn, models, tmp_path
):
    run = tmp_path / "run"
    code, out, err = fedlearn(
        "train", "--dataset=shakespeare", "--source=synthetic", *SMALL,
        "--model=my_sequence_models:characters", f"--output_dir={run}",
    )  # fmt: skip
    assert code == 0, err
    assert "keras.models.load_model(..., compile=False)" in out
    here = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
    done = subprocess.run(
        [sys.executable, "-m", "fedlearn.cli", "evaluate", str(run)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": here},
    )
    assert done.returncode == 0, done.stderr
    assert "over 60 clients" in done.stdout
