import csv
import json
import sys

import numpy as np
import pytest

from tests.cli.conftest import TINY


def read(path):
    with open(path / "history.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def weights(path):
    import keras

    return keras.models.load_model(path / "model.keras").get_weights()


def test_a_run_leaves_its_files(finished):
    names = {path.name for path in finished.iterdir()}
    assert names >= {
        "checkpoint.fedlearn",
        "config.json",
        "evaluation.json",
        "history.csv",
        "model.keras",
    }
    assert not [n for n in names if "partial" in n]
    rows = read(finished)
    assert [row["round"] for row in rows] == ["1", "2"]
    assert {"loss", "accuracy", "val_loss", "bytes_up"} <= set(rows[0])
    config = json.loads((finished / "config.json").read_text())
    assert config["flags"]["num_clients"] == 30
    assert config["versions"].keys() >= {"python", "keras", "numpy"}
    evaluation = json.loads((finished / "evaluation.json").read_text())
    assert len(evaluation["per_client"]) == 30
    last = float(rows[-1]["val_accuracy"])
    assert evaluation["accuracy"] == pytest.approx(last)


def test_it_ends_with_a_table(finished):
    out = (finished / "stdout.txt").read_text()
    for text in ("FedAvg on digits, 2 rounds of 3 of 30 clients", "90%"):
        assert text in out
    assert "model.keras" in out
    assert f"fedlearn report {finished}" in out
    tables = [line for line in out.splitlines() if str(finished) not in line]
    assert max(map(len, tables)) < 80


def test_resumed_equals_unbroken(fedlearn, finished, tmp_path):
    args = ("train", *TINY, f"--output_dir={tmp_path}")
    code, _, err = fedlearn(*args, "--rounds=1", "--resume")
    assert code == 0, err
    # All but the rounds comes from the run itself.
    code, _, err = fedlearn(
        "train", "--resume", "--rounds=2", "--verbose=0",
        f"--output_dir={tmp_path}",
    )  # fmt: skip
    assert code == 0, err
    assert read(tmp_path) == read(finished)
    for a, b in zip(weights(tmp_path), weights(finished), strict=True):
        np.testing.assert_array_equal(a, b)
    # At its end a run only says again what came of it.
    code, out, err = fedlearn("train", "--resume", f"--output_dir={tmp_path}")
    assert code == 0, err
    assert "2 rounds" in out
    assert read(tmp_path) == read(finished)


@pytest.mark.backend_free
def test_a_taken_folder_is_left_alone(fedlearn, finished):
    before = (finished / "config.json").read_bytes()
    code, _, err = fedlearn("train", f"--output_dir={finished}")
    assert code == 2
    assert "isn't empty. Add --resume" in err
    code, _, err = fedlearn(
        "train", "--resume", "--seed=1", f"--output_dir={finished}"
    )
    assert code == 2
    assert "has --seed=0, and can't go on with --seed=1" in err
    assert (finished / "config.json").read_bytes() == before


@pytest.mark.backend_free
def test_own_model_and_default_folder(fedlearn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_cli_models.py").write_text(
        "import keras\n"
        "from absl import flags\n"
        "flags.DEFINE_integer('rounds', 1, 'a flag of the same name')\n"
        "def build():\n"
        "    model = keras.Sequential([\n"
        "        keras.Input((8, 8, 1)), keras.layers.Flatten(),\n"
        "        keras.layers.Dense(10, activation='softmax')])\n"
        "    model.compile('adam', 'sparse_categorical_crossentropy',\n"
        "                  metrics=['accuracy'])\n"
        "    return model\n"
    )
    args = (*TINY[1:], "--rounds=3", "--model=my_cli_models:build")
    code, _, err = fedlearn("train", *args, "--validation_freq=2")
    assert code == 0, err
    path = tmp_path / "runs" / "digits-fedavg"
    config = json.loads((path / "config.json").read_text())
    assert config["optimizers"] == {"client": "Adam", "server": "SGD"}
    assert [row["val_loss"] != "" for row in read(path)] == [False, True, False]
    # The saved model is a model to train, too; and the folder is taken.
    code, _, err = fedlearn(
        "train", *TINY[1:], "--rounds=1", f"--model={path / 'model.keras'}",
        "--validation_freq=0",
    )  # fmt: skip
    assert code == 0, err
    second = tmp_path / "runs" / "digits-fedavg-2"
    assert "val_loss" not in read(second)[0]


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("words", "title"),
    [
        (["--algorithm=scaffold", "--server_learning_rate=0.5"], "Scaffold"),
        (["--algorithm=feddyn"], "FedDyn"),
        (["--algorithm=agnosticfedavg"], "AgnosticFedAvg"),
        (["--algorithm=fedper", "--personal=logits"], "FedPer"),
        (["--algorithm=fedrep:2", "--personal=logits"], "FedRep"),
        (["--algorithm=ditto:0.5"], "Ditto"),
        (["--algorithm=apfl"], "APFL"),
        (["--algorithm=clustered:2"], "Clustered"),
        (["--algorithm=fedrecon:3", "--personal=logits"], "FedRecon"),
        (["--algorithm=reptile", "--server_learning_rate=0.3"], "Reptile"),
        (["--algorithm=fedbuff:20"], "FedBuff"),
        (["--algorithm=fedadam", "--server_learning_rate=0.5"], "FedAdam"),
    ],
)
def test_algorithms(fedlearn, tmp_path, words, title):
    (tmp_path / "my_head.py").write_text(
        "import keras\n"
        "def build():\n"
        "    return keras.Sequential([\n"
        "        keras.Input((8, 8, 1)), keras.layers.Flatten(),\n"
        "        keras.layers.Dense(4), keras.layers.Dense(\n"
        "            10, activation='softmax', name='logits')])\n"
    )
    sys.path.insert(0, str(tmp_path))
    code, out, err = fedlearn(
        "train", *TINY[1:], "--model=my_head:build", *words, "--rounds=1",
        f"--output_dir={tmp_path / 'run'}",
    )  # fmt: skip
    sys.path.remove(str(tmp_path))
    assert code == 0, err
    assert f"{title} on digits" in out


@pytest.mark.backend_free
def test_flags_reach_the_process(fedlearn, tmp_path):
    code, out, err = fedlearn(
        "train", *TINY, "--algorithm=fedprox", "--proximal=0.5",
        "--client_optimizer=adam", "--client_learning_rate=0.01",
        "--server_optimizer=yogi", "--server_learning_rate=0.1",
        "--conditions=phones:0.9,0.5", "--rounds=1", f"--output_dir={tmp_path}",
    )  # fmt: skip
    assert code == 0, err
    assert "FedProx on digits" in out
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["optimizers"] == {"client": "Adam", "server": "Yogi"}
    assert config["flags"]["proximal"] == 0.5
    (row,) = read(tmp_path)
    assert np.isfinite(float(row["val_loss"]))
    hours = float(row["sim_hours"])
    assert 0 < hours < 2
    assert f"{hours:.1f} hours by the simulated clock" in out
    assert "of 30 clients never took part" in out
