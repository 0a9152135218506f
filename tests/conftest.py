import os
import pathlib
import tempfile

# Before anything imports a backend.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("MPLBACKEND", "Agg")
# The models are tiny: threads would only wait for each other.
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
if os.environ.get("KERAS_BACKEND") == "jax":
    # Most of the time is that of compiling what is run once or twice.
    os.environ.setdefault(
        "XLA_FLAGS",
        "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0",
    )

import hypothesis
import pytest

PROJECT = pathlib.Path(__file__).parents[1]

# The same examples on every run: a red test is red for everybody. There is no
# deadline because a first call may compile.
hypothesis.settings.register_profile(
    "deterministic", derandomize=True, deadline=None, database=None
)
hypothesis.settings.load_profile("deterministic")


# Of up to a minute each. They come first, or at the end one process works on
# them alone.
_LONGEST = ("test_layers.py", "test_notebooks.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in _LONGEST)
    for item in items:
        # Examples are documentation; what they call has tests on JAX, too.
        if isinstance(item, pytest.DoctestItem):
            item.add_marker(pytest.mark.backend_free)


_compiled: list[tempfile.TemporaryDirectory] = []


def pytest_configure(config):
    """On JAX, keeps what is compiled, for tests that compile the same again.

    In a folder of this process alone, which those that it starts only read:
    JAX doesn't write its files in one step, so a process that is killed could
    leave half of one to others.
    """
    if os.environ.get("KERAS_BACKEND") != "jax":
        return
    import jax

    folder = tempfile.TemporaryDirectory(prefix="fedlearn-jax-")
    _compiled.append(folder)
    jax.config.update("jax_compilation_cache_dir", folder.name)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "1e9"


def pytest_sessionfinish(session):
    while _compiled:
        _compiled.pop().cleanup()


@pytest.fixture(scope="session")
def data_dir():
    """Folder of the federated data sets, for tests that read real files."""
    default = PROJECT.parent / "shared" / "data"
    path = pathlib.Path(os.environ.get("FEDLEARN_TEST_DATA", default))
    if not path.is_dir():
        pytest.skip(
            f"no data sets at {path}; set FEDLEARN_TEST_DATA to their folder"
        )
    return path
