"""FLamby's published accuracy, by the program that shows it."""

import importlib.util
import pathlib

import numpy as np
import pytest

from fedlearn.datasets import heart_disease

pytestmark = [pytest.mark.backend_free, pytest.mark.integration]

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def program():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        spec = importlib.util.spec_from_file_location(
            "heart_disease_benchmark", FOLDER / "heart_disease.py"
        )
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture
def parts(data_dir):
    source = data_dir / "heart_disease"
    if not source.exists():
        pytest.skip(f"heart_disease/ is not in {data_dir}")
    train, test = heart_disease.load_data(source=source, split="flamby")
    raw, _ = heart_disease.load_data(
        source=source, split="flamby", normalize=False
    )
    return train, test, raw


def test_within_two_hundredths_of_the_published(program, parts):
    found = [
        program.run("FedAdam", "pytorch", seed, *parts)
        for seed in range(42, 47)
    ]
    published, _ = program.PUBLISHED["FedAdam"]
    np.testing.assert_allclose(np.mean(found, 0), published, atol=0.02)


def test_the_published_start_is_pytorchs(program):
    # `torch.manual_seed(42); torch.rand(6)`, as its documentation prints it.
    uniform = [0.8823, 0.9150, 0.3829, 0.9593, 0.3904, 0.6009]
    weights, _ = program.published_start(42)
    order = ["age", "sex", "trestbps", "chol", "fbs", "thalach"]
    drawn = [weights[program.COLUMNS.index(name), 0] for name in order]
    bound = 13**-0.5
    expected = 2 * bound * np.array(uniform) - bound
    np.testing.assert_allclose(drawn, expected, atol=1e-4)
