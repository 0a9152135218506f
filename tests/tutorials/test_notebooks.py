import ast
import base64
import io
import os
import pathlib
import sys

import keras
import matplotlib
import pytest
from matplotlib import pyplot as plt

nbformat = pytest.importorskip("nbformat")

PROJECT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = sorted((PROJECT / "tutorials").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.name)
def path(request):
    return request.param


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 2


def run_cell(source, names):
    """As a kernel does: the value of its last line is shown, and figures."""
    *body, last = ast.parse(source).body
    if not isinstance(last, ast.Expr):
        body, last = [*body, last], None
    exec(compile(ast.Module(body, []), "<cell>", "exec"), names)
    if last is not None:
        value = eval(
            compile(ast.Expression(last.value), "<cell>", "eval"), names
        )
        getattr(value, "_repr_html_", value.__repr__)()
    for number in plt.get_fignums():
        plt.figure(number).savefig(io.BytesIO())
    plt.close("all")


# Once, on the default backend: on JAX most of the time would be compilation,
# and what the notebooks call is tested there by itself. In this process, as a
# kernel for each would first import TensorFlow for seconds; one has its own.
@pytest.mark.backend_free
@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("path", NOTEBOOKS[1:], ids=lambda path: path.name)
def test_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keras.utils.clear_session()  # layers are numbered anew
    names = {"__name__": "__main__"}
    with matplotlib.rc_context():
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                run_cell(cell.source, names)


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """The kernel `python3` as this Python, whatever else is installed."""
    kernelspec = pytest.importorskip("ipykernel.kernelspec")
    folder = tmp_path / "jupyter" / "kernels" / "python3"
    kernelspec.write_kernel_spec(str(folder))
    assert sys.executable in (folder / "kernel.json").read_text()
    # Folders in JUPYTER_PATH come first.
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    inherited = os.environ.get("PYTHONPATH")
    paths = [str(PROJECT), *([inherited] if inherited else [])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    return "python3"


@pytest.mark.backend_free
@pytest.mark.slow
@pytest.mark.integration
# It would be zmq's, of the kernel's sockets.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_first_runs_from_a_clean_kernel(kernel, tmp_path):
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name=kernel,
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    kinds = [
        output.output_type
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    ]
    assert kinds
    assert "error" not in kinds


@pytest.mark.backend_free
def test_is_committed_with_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    assert counts == list(range(1, len(code) + 1)), "not run from the top"
    outputs = [output for cell in code for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    # Neither warnings nor what C++ logs.
    assert not [o for o in outputs if o.get("name") == "stderr"]
    pictures = [
        o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})
    ]
    assert len(pictures) >= 3
    for picture in pictures:
        assert base64.b64decode(picture)[:8] == b"\x89PNG\r\n\x1a\n"
    assert path.stat().st_size < 400_000
