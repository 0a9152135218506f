"""What to do where Keras can't import its backend."""

import importlib.util
import os

# Keras names a backend as the package that it is.
_BACKENDS = ("tensorflow", "jax", "torch")


def explanation(error: ModuleNotFoundError) -> str | None:
    """Why the import of Keras failed, and the way out.

    Args:
        error: What it raised.

    Returns:
        A text, or None where it isn't a backend that is missing.

    Example:

    >>> error = ModuleNotFoundError("No module named 'x'", name="x")
    >>> explanation(error) is None
    True
    """
    missing = (error.name or "").partition(".")[0]
    if missing not in _BACKENDS:
        return None
    if "KERAS_BACKEND" in os.environ:
        reason = "as the environment variable KERAS_BACKEND says"
    elif missing == "tensorflow":
        reason = "its default"
    else:
        reason = "as its file keras.json says"
    text = f"Keras computes with {missing}, {reason}; it is not installed. "
    others = [b for b in _BACKENDS if b != missing and _is_installed(b)]
    if others:
        text += (
            f"{' and '.join(others)} {'is' if len(others) == 1 else 'are'} "
            f"installed: set KERAS_BACKEND={others[0]} in the environment "
            "before Python starts, or os.environ['KERAS_BACKEND'] = "
            f"'{others[0]}' in the first line of a program or notebook, "
            "before anything imports Keras. Otherwise install "
        )
    else:
        text += "Install "
    text += f"{missing}: pip install {missing}"
    return text


def _is_installed(backend: str) -> bool:
    try:
        return importlib.util.find_spec(backend) is not None
    except ValueError:  # an import of it was stopped
        return False
