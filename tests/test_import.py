import subprocess
import sys

import pytest

import fedlearn as fl

pytestmark = pytest.mark.backend_free

HEAVY = ("jax", "keras", "numpy", "pandas", "tensorflow", "torch")


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def test_import_is_light():
    code = (
        "import sys, fedlearn; dir(fedlearn); fedlearn.__version__; "
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    assert run(code) == "[]"


def test_dir_lists_every_public_name():
    assert set(fl.__all__) <= set(dir(fl))
    assert {"FederatedAveraging", "evaluate", "samplers"} <= set(dir(fl))


def test_all_is_what_getattr_resolves():
    assert sorted(fl.__all__) == sorted([*fl._DEFINED_IN, *fl._SUBMODULES])


@pytest.mark.parametrize("name", fl.__all__)
def test_public_name_resolves(name):
    assert getattr(fl, name) is getattr(fl, name)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("FedratedAveraging", "FederatedAveraging"),
        ("federateddataset", "FederatedDataset"),
        ("aggregator", "aggregators"),
    ],
)
def test_unknown_name_suggests_a_near_one(wrong, right):
    with pytest.raises(AttributeError, match=f"Did you mean '{right}'"):
        getattr(fl, wrong)


def test_unknown_name_without_a_near_one():
    with pytest.raises(AttributeError, match=r"no attribute 'xyzzy'\.$"):
        _ = fl.xyzzy
    assert not hasattr(fl, "__wrapped__")
