"""Keras without what its backends say while they load."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


def set_log_level() -> None:
    """Asks TensorFlow's C++ part to log errors only, unless the user has
    asked for something else."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def import_keras(debug: bool = False) -> None:
    """Imports Keras and its backend, and keeps what they log meanwhile.

    TensorFlow logs about missing GPUs and CPU instructions before it reads
    its log level.

    Args:
        debug: Whether to let them log.

    Raises:
        ImportError: If the backend that `KERAS_BACKEND` names is missing.
    """
    if "keras" in sys.modules:
        return
    set_log_level()
    with contextlib.nullcontext() if debug else _without_stderr():
        try:
            import keras
        except ModuleNotFoundError as error:
            from fedlearn.advice.missing_backend import explanation

            raise ImportError(explanation(error) or str(error)) from error
        # A first operation starts the devices, which is logged too.
        keras.ops.convert_to_numpy(keras.ops.ones((1,)) + 1)


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    # C++ writes to the descriptor, not to `sys.stderr`.
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            os.dup2(saved, 2)
            file.seek(0)
            os.write(2, file.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
