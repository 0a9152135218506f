import os
import pydoc
import re
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


@pytest.mark.parametrize(
    "module",
    [
        fl,
        *(getattr(fl, name) for name in fl._SUBMODULES),
        *(getattr(fl.datasets, name) for name in fl.datasets.list()),
    ],
    ids=lambda module: module.__name__,
)
def test_dir_lists_the_public_names_and_no_others(module):
    assert dir(module) == sorted(module.__all__)
    assert not [name for name in dir(module) if name.startswith("_")]
    for name in dir(module):
        getattr(module, name)


def test_help_is_a_map():
    screen = pydoc.plaintext.document(fl).splitlines()[:72]
    words = set(re.findall(r"\w+", "\n".join(screen)))
    assert set(fl.__all__) <= words


@pytest.mark.parametrize(
    ("code", "environment"),
    [
        ("import fedlearn as fl; fl.FederatedAveraging", {}),
        ("from fedlearn import aggregators", {}),
        (
            "from fedlearn.cli.main import run; "
            "run(['fedlearn', 'train', '--rounds=1'])",
            {},
        ),
        (
            "import fedlearn as fl; fl.LocalTraining",
            {"KERAS_BACKEND": "tensorflow"},
        ),
    ],
)
def test_without_its_backend_the_error_says_what_to_do(code, environment):
    variables = {
        name: value
        for name, value in os.environ.items()
        if name != "KERAS_BACKEND"
    }
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.modules['tensorflow'] = None\n{code}",
        ],
        capture_output=True,
        text=True,
        env={**variables, "KERAS_HOME": os.devnull, **environment},
    )
    assert done.returncode != 0
    last = done.stderr.split("error: ")[-1].split("Error: ")[-1]
    reason = "KERAS_BACKEND says" if environment else "its default"
    assert last.startswith("Keras computes with tensorflow, ")
    assert reason in last
    assert "set KERAS_BACKEND=jax in the environment" in last
    assert "pip install tensorflow" in last


def test_on_pytorch_the_error_says_what_fedlearn_runs_on():
    code = "import sys; sys.modules['torch'] = None; import fedlearn as fl"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; fl.models"],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "torch"},
    )
    assert "fedlearn runs on tensorflow and jax only." in done.stderr


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


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Krum", "It is fl.aggregators.Krum."),
        ("FedAdam", "It is fl.algorithms.FedAdam or fl.optimizers.FedAdam."),
        ("digits", "It is fl.datasets.digits."),
        ("FedAvg", "It is fl.algorithms.FedAvg."),
    ],
)
def test_a_name_of_another_place_is_found(name, hint):
    with pytest.raises(AttributeError, match=re.escape(hint)):
        getattr(fl, name)


def test_looking_for_a_name_imports_nothing():
    code = (
        "import sys, fedlearn; hasattr(fedlearn, 'Krum'); "
        "from fedlearn import portable_math; "
        f"print([m for m in {HEAVY} if m in sys.modules and m != 'numpy'])"
    )
    assert run(code) == "[]"


def test_unknown_name_without_a_near_one():
    with pytest.raises(AttributeError, match=r"no attribute 'xyzzy'\.$"):
        _ = fl.xyzzy
    assert not hasattr(fl, "__wrapped__")
