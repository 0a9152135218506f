"""Where fetched data files are kept."""

import os
import tempfile
from pathlib import Path


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder for fetched data files, which is made if need be.

    By default the environment variable `FEDLEARN_CACHE` says which, else it
    is `fedlearn` in Keras's own folder (`KERAS_HOME`, or `~/.keras`).
    """
    # A variable that is set to nothing is as good as unset.
    own = os.environ.get("FEDLEARN_CACHE")
    keras_home = os.environ.get("KERAS_HOME") or "~/.keras"
    folder = Path(cache_dir or own or Path(keras_home, "fedlearn"))
    try:
        folder = folder.expanduser().absolute()
        folder.mkdir(parents=True, exist_ok=True)
        # Only writing tells: rights do not know of read-only disks and quotas.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"The cache folder {folder} cannot be used ({error}). Expected a "
            "folder that can be made and written to: pass another as "
            "cache_dir, or set the environment variable FEDLEARN_CACHE."
        ) from error
    return folder
