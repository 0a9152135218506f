"""The model that a flag names, and the backend it needs."""

import os
import pkgutil
import sys
from typing import TYPE_CHECKING, Any

from fedlearn.cli.flags import UsageError
from fedlearn.datasets.task import Task

if TYPE_CHECKING:
    import keras


def load(name: str, task: Task, seed: int) -> "keras.Model":
    """A model; compiled, unless it is of code that doesn't compile it."""
    import keras

    keras.utils.set_random_seed(seed % 2**32)
    if name.endswith(".keras"):
        if not os.path.isfile(name):
            raise UsageError(f"--model={name}: there is no such file.")
        return load_file(name)
    if is_code(name):
        model = function(name)()
        if not isinstance(model, keras.Model):
            raise UsageError(
                f"--model={name}: the function returned a "
                f"{type(model).__name__}. Expected a keras.Model."
            )
        return model
    return task.build_model(name, seed)


def load_file(path: str, needs: str = "") -> "keras.Model":
    """A model from a `.keras` file, of which no code is run.

    Classes that it needs beside those of Keras and fedlearn have to be
    registered by now.
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


def is_code(name: Any) -> bool:
    """Whether a model's name is code, which runs when it is loaded."""
    return ":" in str(name) and not str(name).endswith(".keras")


def function(name: str) -> Any:
    """The function that `module:function` names; imports the module."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return pkgutil.resolve_name(name)
    except (AttributeError, ModuleNotFoundError) as error:
        raise UsageError(
            f"--model={name}: {error}. Expected module:function, of a module "
            "that is installed or in the working folder."
        ) from error


def import_keras(debug: bool = False) -> None:
    """Imports Keras and its backend, without what they log meanwhile.

    TensorFlow logs about missing GPUs before it reads its log level.
    """
    if "keras" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # C++ writes to the descriptor, not to `sys.stderr`.
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        if not debug:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 2)
        import keras

        # A first operation starts the devices, which is logged too.
        keras.ops.convert_to_numpy(keras.ops.ones((1,)) + 1)
    except ModuleNotFoundError as error:
        from fedlearn.advice.missing_backend import explanation

        raise ImportError(explanation(error) or str(error)) from error
    finally:
        os.dup2(saved, 2)
        os.close(saved)
