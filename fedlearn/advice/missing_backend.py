import importlib.util
import os

_BACKENDS = ("tensorflow", "jax")
# Keras names a backend as the package that it is.
_OF_KERAS = (*_BACKENDS, "torch", "openvino")


def explanation(error: ModuleNotFoundError) -> str | None:
    """Why the import of Keras failed, and the way out.

    None where it isn't a backend that is missing.
    """
    missing = (error.name or "").partition(".")[0]
    if missing not in _OF_KERAS:
        return None
    if "KERAS_BACKEND" in os.environ:
        reason = "as the environment variable KERAS_BACKEND says"
    elif missing == "tensorflow":
        reason = "its default"
    else:
        reason = "as its file keras.json says"
    text = f"Keras computes with {missing}, {reason}; it is not installed. "
    if missing not in _BACKENDS:
        text += f"fedlearn runs on {' and '.join(_BACKENDS)} only. "
    installed = [b for b in _BACKENDS if _is_installed(b)]
    if installed:
        text += (
            f"{' and '.join(installed)} "
            f"{'is' if len(installed) == 1 else 'are'} installed: set "
            f"KERAS_BACKEND={installed[0]} in the environment before Python "
            f"starts, or os.environ['KERAS_BACKEND'] = '{installed[0]}' in the "
            "first line of a program or notebook, before anything imports "
            "Keras. Otherwise install "
        )
    else:
        text += "Install "
    wanted = missing if missing in _BACKENDS else _BACKENDS[0]
    return f"{text}{wanted}: pip install {wanted}"


def _is_installed(backend: str) -> bool:
    try:
        return importlib.util.find_spec(backend) is not None
    except ValueError:  # an import of it was stopped
        return False
