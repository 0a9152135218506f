import contextlib
import io

import pytest

from fedlearn.cli.main import run


@pytest.fixture
def fedlearn():
    """Calls the program in this process: `(exit code, stdout, stderr)`."""

    def call(*words):
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as stop,
        ):
            run(["fedlearn", *map(str, words)])
        return stop.value.code or 0, out.getvalue(), err.getvalue()

    return call


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of a run of two rounds; only to be read."""
    path = tmp_path_factory.mktemp("cli") / "run"
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        pytest.raises(SystemExit) as stop,
    ):
        run(["fedlearn", "train", *TINY, "--rounds=2", f"--output_dir={path}"])
    assert not stop.value.code
    (path / "stdout.txt").write_text(out.getvalue())
    return path


# Batches of one example: JAX compiles a program for each length of batch.
TINY = (
    "--model=logistic_regression",
    "--num_clients=30",
    "--clients_per_round=3",
    "--epochs=1",
    "--batch_size=1",
    "--verbose=0",
    "--executor=sequential",
)
