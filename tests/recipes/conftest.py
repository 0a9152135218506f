import importlib.util
import io
import pathlib
import sys

import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "datasets"


@pytest.fixture
def recipe(monkeypatch):
    """Gives the module `datasets/<name>/build.py`."""

    def load(name):
        # The script adds its parent's folder to the path; put back here.
        monkeypatch.setattr(sys, "path", [*sys.path])
        spec = importlib.util.spec_from_file_location(
            f"recipe_{name}", FOLDER / name / "build.py"
        )
        module = importlib.util.module_from_spec(spec)
        # Dataclasses look their module up.
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def encode():
    """Gives the bytes of an image file of an array."""

    def image(array, kind):
        pil = pytest.importorskip("PIL.Image", reason="needs Pillow")
        buffer = io.BytesIO()
        pil.fromarray(np.asarray(array, np.uint8)).save(buffer, kind)
        return buffer.getvalue()

    return image


@pytest.fixture
def twice(tmp_path):
    """Runs `main` twice, and checks that both files have the same bytes."""

    def run(main, source, name, *options):
        outputs = [tmp_path / k / name for k in ("first", "second")]
        for output in outputs:
            main(["--source", str(source), "--output", str(output), *options])
        first, second = (
            {
                p.relative_to(output.parent): p.read_bytes()
                for p in output.parent.rglob("*.*")
            }
            for output in outputs
        )
        assert first == second
        return outputs[0]

    return run
