"""The model that a flag names."""

import importlib
import inspect
import os
import sys
from typing import TYPE_CHECKING, Any

from fedlearn.advice.did_you_mean import did_you_mean
from fedlearn.cli.errors import UsageError
from fedlearn.cli.task import Task

if TYPE_CHECKING:
    import keras

# The model of `fl.models` for a data set, where no flag names another.
DEFAULTS = {
    "csv": "tabular",
    "celeba": "celeba_cnn",
    "cifar100": "resnet18_gn",
    "digits": "digits_cnn",
    "emnist": "emnist_cnn",
    "heart_disease": "heart_logistic",
    "shakespeare": "shakespeare_lstm",
    "stackoverflow": "stackoverflow_lstm",
    "synthetic": "logistic_regression",
}


def default(flags: Any) -> str | None:
    """The name of the model for a data set; None if there is no such set.

    Args:
        flags: With `dataset` and `task`.
    """
    if flags.dataset == "stackoverflow" and flags.task == "tags":
        return "stackoverflow_tags"
    return DEFAULTS.get(flags.dataset)


def absolute(name: str) -> str:
    """A model's name that means the same in another working folder.

    Example:

    >>> absolute("digits_cnn"), os.path.isabs(absolute("model.keras"))
    ('digits_cnn', True)
    """
    if not name.endswith(".keras"):
        return name
    return os.path.abspath(os.path.expanduser(name))


def load(name: str, task: Task, seed: int) -> "keras.Model":
    """A model, compiled or not.

    Args:
        name: Of a function of `fl.models`; or a `.keras` file; or
            `module:function`, a function without arguments that returns a
            model. The module may be in the working folder.
        task: What it will be trained for, for the sizes of `fl.models`.
        seed: Of the initial weights.

    Raises:
        UsageError: If there is no such model.
    """
    import keras

    keras.utils.set_random_seed(seed % 2**32)
    if name.endswith(".keras"):
        if not os.path.isfile(name):
            raise UsageError(f"--model={name}: there is no such file.")
        return load_file(name)
    if is_code(name):
        model = _function(name)()
        if not isinstance(model, keras.Model):
            raise UsageError(
                f"--model={name}: the function returned a "
                f"{type(model).__name__}. Expected a keras.Model."
            )
        return model
    from fedlearn import models

    known = [n for n in models.__all__ if n != "get"]
    if name not in known:
        raise UsageError(
            f"there is no model {name!r}. Expected one of "
            f"{', '.join(sorted(known))}; or a .keras file; or "
            f"module:function.{did_you_mean(name, known, '--model=')}"
        )
    sizes = {**task.sizes, "seed": seed}
    accepted = inspect.signature(getattr(models, name)).parameters
    return models.get(
        name, **{key: value for key, value in sizes.items() if key in accepted}
    )


def load_file(path: str, needs: str = "") -> "keras.Model":
    """A model from a `.keras` file, which may come from anywhere.

    No code in it or named by it is run: classes that it needs beside those
    of Keras and fedlearn have to be registered by now, because the command
    line itself named their module (see `import_module_of`).

    Args:
        path: Of the file.
        needs: What to say of code that the model may need.

    Raises:
        UsageError: If it needs code that isn't there, or contains code.
    """
    import keras

    # Registers with Keras what runs on sequences are compiled with.
    from fedlearn.metrics import MaskedAccuracy  # noqa: F401

    try:
        return keras.models.load_model(path, safe_mode=True)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{path} can't be loaded by itself: it needs classes or functions "
            "that aren't Keras's, or contains code (a Lambda layer), which is "
            f"never run.{needs} Keras said: {error}"
        ) from error


def is_code(name: str) -> bool:
    """Whether a model's name is code, which runs when it is loaded.

    Example:

    >>> is_code("my_models:build"), is_code("digits_cnn"), is_code("m.keras")
    (True, False, False)
    """
    return ":" in name and not name.endswith(".keras")


def how_to_load(model: "keras.Model") -> str:
    """What loads the file of a model where nobody has imported fedlearn."""
    from fedlearn.metrics import mergeable

    own = any(
        type(metric).__module__.startswith("fedlearn.")
        for metric in mergeable.metrics_of(model)
    )
    arguments = "(..., compile=False)" if own else ""
    return f"keras.models.load_model{arguments}"


def import_module_of(name: str) -> None:
    """Imports the module of `module:function`, if the name is of that kind.

    What it registers with Keras, a saved model may need.
    """
    if is_code(name):
        _function(name)


def _function(name: str):
    module_name, _, function_name = name.partition(":")
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name not in (module_name, module_name.split(".")[0]):
            raise  # the module is there, but something that it imports isn't
        raise UsageError(
            f"--model={name}: there is no module {module_name!r}, neither "
            "installed nor in the working folder."
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UsageError(
            f"--model={name}: {module_name} has no function "
            f"{function_name!r}." + did_you_mean(function_name, dir(module))
        )
    return function
