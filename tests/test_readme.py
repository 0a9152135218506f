"""What the README shows runs, in this order, as it stands there."""

import ast
import importlib
import pathlib
import re
import shlex

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from fedlearn.cli import main

# On the default backend; what it shows is tested on each by itself.
pytestmark = [pytest.mark.backend_free, pytest.mark.integration]

README = pathlib.Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def block(start, **numbers):
    """The block that begins so, with fewer rounds."""
    (code,) = [b for b in BLOCKS if b.startswith(start)]
    for words, fewer in numbers.items():
        assert words in code
        code = code.replace(words, fewer)
    return code


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """The names that the first block leaves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("readme"))
        names = {}
        exec(block("import keras", **{"rounds=50": "rounds=2"}), names)
        assert pathlib.Path("digits.keras").exists()
    return names


def test_the_first_block(names):
    assert len(names["history"].history["val_accuracy"]) == 2


def test_one_level_down(names):
    code = block("sampler =", **{"range(50)": "range(1)"})
    exec(code, names)
    assert names["metrics"]["statistics"]["accuracy"]["mean"] > 0


def test_many_models(names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(
        "models = {}\n"
        "for name in 'ab':\n"
        "    models[name] = fl.models.digits_cnn(seed=ord(name))\n"
        "    models[name].compile(loss='sparse_categorical_crossentropy')\n"
        "def build(learning_rate, epochs):\n"
        "    model.compile(keras.optimizers.SGD(learning_rate), model.loss)\n"
        "    return model, fl.LocalTraining(batch_size=10, epochs=epochs)\n",
        names,
    )
    few = {"clients_per_model=50": "clients_per_model=10"}
    exec(block("comparison =", **few), names)
    assert names["comparison"].num_clients == {"a": 10, "b": 10}
    few = {"budget=2000": "budget=240", "[0.01, 0.1, 1.0]": "[0.01, 0.1]"}
    exec(block("found =", **few), names)
    assert names["found"].best["learning_rate"] == 0.1


def test_privacy(names):
    exec(block("fl.FederatedAveraging(\n"), names)


def test_questions_without_a_model(names):
    exec(block("budget ="), names)
    assert names["label"].epsilon == 1
    assert names["budget"].remaining > 2


def test_partitions(names):
    x, y = load_digits(return_X_y=True)
    there = {
        **names,
        "x": x.reshape(-1, 8, 8).astype("float32"),
        "y": y,
        "coarse": y // 2,
        "city": y.astype(str),
    }
    lines = block("fl.partition").splitlines()
    for line in lines:
        assert len(eval(line, there)) == (
            500 if "500" in line else 10 if "city" in line else 100
        )


def test_the_table_of_algorithms(names):
    table = TEXT[TEXT.index("| algorithm | is |") :].partition("\n\n")[0]
    calls = re.findall(r"`(\w+\(model.*?\))`", table)
    assert len(calls) >= 24
    first, last = keras.layers.Flatten(), keras.layers.Dense(10, name="head")

    def model(layer):
        built = keras.Sequential([keras.Input((8, 8, 1)), layer, first, last])
        built.compile("sgd", "mse")
        return built

    plain = model(keras.layers.Conv2D(1, 1, name="conv2d"))
    normal = model(keras.layers.BatchNormalization())
    there = {**vars(names["fl"].algorithms), "train": names["train"]}
    for code in calls:
        one = normal if code.startswith("FedBN") else plain
        assert eval(code, {**there, "model": one}).model is one


def test_own_data(names, tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    tf = pytest.importorskip("tensorflow")
    monkeypatch.chdir(tmp_path)
    x, y = np.ones((4, 2)), np.arange(4)
    people = ["anna", "ben", "anna", "ben"]
    frame = pandas.DataFrame({"user": people, "steps": y, "activity": y})
    named = {"user": "hospital", "activity": "outcome"}
    frame.rename(columns=named).to_csv("visits.csv", index=False)
    for name in ("basel", "bern"):
        site = frame.rename(columns=named).drop(columns="hospital")
        site.to_csv(f"{name}.csv", index=False)
    pathlib.Path("clients").mkdir()
    for name in ("anna", "ben"):
        np.savez(f"clients/{name}.npz", x=x, y=y)
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    there = {
        **names,
        **{"df": frame, "x": x, "y": y, "client_ids": people},
        **{"x1": x, "y1": y, "x2": x, "y2": y},
        **{"dataset1": dataset, "dataset2": dataset},
    }
    # Files of other libraries, which have tests of their own.
    others = ("from_hugging_face", "from_leaf", "from_tff_sqlite")
    for statement in ast.parse(block("fl.FederatedDataset")).body:
        code = ast.unparse(statement)
        if not any(name in code for name in others):
            assert len(eval(code, there)) == 2


def test_command_lines():
    (block,) = re.findall(r"```\n(fedlearn train.*?)```", TEXT, re.DOTALL)
    lines = re.findall(r"^fedlearn (.*?)(?: +#.*)?$", block, re.MULTILINE)
    assert len(lines) > 5
    for line in lines:
        command, *rest = shlex.split(line)
        # Ends the process where a flag or its value is wrong.
        main.parse(
            importlib.import_module(f"fedlearn.cli.{command}"), [command, *rest]
        )
