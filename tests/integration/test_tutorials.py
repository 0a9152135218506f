"""Every tutorial runs from its first line to its last."""

import os
import pathlib
import subprocess
import sys

import pytest

PROJECT = pathlib.Path(__file__).parents[2]
TUTORIALS = sorted(
    path
    for path in (PROJECT / "tutorials").glob("*")
    if path.suffix in {".ipynb", ".py"}
)

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.name)
def test_runs(path, tmp_path, monkeypatch):
    # Where the package is not installed, as in `python -m pytest`.
    monkeypatch.setenv(
        "PYTHONPATH",
        os.pathsep.join(
            filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])
        ),
    )
    if path.suffix == ".py":
        done = subprocess.run(
            [sys.executable, path],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    else:
        nbclient = pytest.importorskip("nbclient")
        nbformat = pytest.importorskip("nbformat")
        pytest.importorskip("ipykernel")
        notebook = nbformat.read(path, as_version=4)
        nbclient.NotebookClient(
            notebook,
            timeout=600,
            resources={"metadata": {"path": str(tmp_path)}},
        ).execute()
