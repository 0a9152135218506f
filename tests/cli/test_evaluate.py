import json
import shutil
import sys

import keras
import pytest

HELPER = """
import pathlib

import keras

pathlib.Path("it_ran").touch()


@keras.saving.register_keras_serializable("helper")
class Twice(keras.layers.Layer):
    def call(self, x):
        return 2 * x


def make():
    return keras.Sequential([
        keras.Input((8, 8, 1)), keras.layers.Flatten(), Twice(),
        keras.layers.Dense(10, activation="softmax")])
"""


@pytest.fixture
def received(finished, tmp_path, monkeypatch):
    """The working folder, with a run and a module that the run names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    config["flags"]["model"] = "run_helper:make"
    path.write_text(json.dumps(config))
    (tmp_path / "run_helper.py").write_text(HELPER)
    sys.modules.pop("run_helper", None)
    yield tmp_path
    _forget()


def _forget():
    # This one alone: fedlearn's own classes are among them too.
    keras.saving.get_custom_objects().pop("helper>Twice", None)


@pytest.mark.backend_free
def test_a_folder_runs_no_code(fedlearn, received):
    # The model is of plain layers: it needs nothing of what is named.
    code, _, err = fedlearn("evaluate", "run")
    assert code == 0, err
    code, _, err = fedlearn("train", "--resume", "--output_dir=run")
    assert code == 2
    assert "--output_dir=run --model=run_helper:make" in err
    assert not (received / "it_ran").exists()


@pytest.mark.backend_free
def test_code_runs_that_the_command_line_names(fedlearn, received):
    import run_helper

    model = run_helper.make()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.save(received / "run" / "model.keras")
    _forget()
    (received / "it_ran").unlink()
    del sys.modules["run_helper"]
    code, _, err = fedlearn("evaluate", "run")
    assert code == 2
    assert "needs classes or functions that aren't Keras's" in err
    assert "fedlearn evaluate run --model=run_helper:make" in err
    assert not (received / "it_ran").exists()
    code, _, err = fedlearn("evaluate", "run", "--model=run_helper:make")
    assert code == 0, err
    assert (received / "it_ran").exists()


@pytest.mark.backend_free
def test_a_model_with_code_in_it_is_refused(fedlearn, received):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Lambda(lambda x: 2 * x),
            keras.layers.Dense(10),
        ]
    )
    model.compile("sgd", "mse")
    model.save(received / "run" / "model.keras")
    for more in ((), ("--model=run_helper:make",)):
        code, _, err = fedlearn("evaluate", "run", *more)
        assert code == 2
        assert "contains code (a Lambda layer), which is never run" in err


@pytest.mark.backend_free
def test_what_is_known_of_clients_own_models_stays(fedlearn, received):
    path = received / "run" / "evaluation.json"
    before = json.loads(path.read_text())
    path.write_text(json.dumps({**before, "loss": -1.0, "global": {}}))
    code, out, err = fedlearn("evaluate", "run")
    assert code == 0, err
    assert "the server's model" in out
    after = json.loads(path.read_text())
    assert after["loss"] == -1.0
    assert after["global"]["loss"] == pytest.approx(before["loss"])


@pytest.mark.backend_free
@pytest.mark.parametrize("flags", [None, [], {}, {"model": ["a:b"]}])
@pytest.mark.parametrize(
    "words", [("evaluate", "run"), ("train", "--resume", "--output_dir=run")]
)
def test_a_config_without_flags(fedlearn, received, flags, words):
    path = received / "run" / "config.json"
    path.write_text(json.dumps({"flags": flags}))
    code, _, err = fedlearn(*words)
    assert code == 2
    assert "config.json has no flags of a run" in err


@pytest.mark.backend_free
@pytest.mark.parametrize(
    "flag",
    [
        {"algorithm": "run_helper:make"},
        {"rounds": "many"},
        {"epochs": [1]},
        {"aggregator": "run_helper:make"},
        {"num_clients": -4},
    ],
)
@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "run"),
        ("report", "run"),
        ("train", "--resume", "--output_dir=run"),
    ],
)
def test_flags_of_a_folder_are_checked_as_those_of_a_command(
    fedlearn, received, flag, words
):
    path = received / "run" / "config.json"
    config = json.loads(path.read_text())
    config["flags"].update({"model": "digits_cnn", **flag})
    path.write_text(json.dumps(config))
    code, _, err = fedlearn(*words)
    assert code == 2
    (name,) = flag
    assert f"config.json has --{name}=" in err
    assert "expected" in err.lower() or "must be" in err
    assert not (received / "it_ran").exists()


def test_evaluates_the_saved_model(fedlearn, finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    before = json.loads((folder / "evaluation.json").read_text())
    (folder / "evaluation.json").unlink()
    code, out, err = fedlearn("evaluate", folder)
    assert code == 0, err
    after = json.loads((folder / "evaluation.json").read_text())
    assert after["accuracy"] == before["accuracy"]
    assert after["per_client"].keys() == before["per_client"].keys()
    assert "over 30 clients" in out
    assert "90%" in out
