import importlib
import re
import subprocess
import sys

import pytest

import fedlearn as fl
from fedlearn.cli import train
from fedlearn.cli.flags import KINDS, define
from fedlearn.cli.main import COMMANDS

pytestmark = pytest.mark.backend_free


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_program_help_names_every_command(fedlearn, words):
    code, out, err = fedlearn(*words)
    assert code == 0
    assert not err
    for name in COMMANDS:
        assert f"\n  {name} " in out
    assert max(map(len, out.splitlines())) < 80


@pytest.mark.parametrize("name", COMMANDS)
def test_command_help_has_every_flag_once(fedlearn, name):
    code, out, err = fedlearn(name, "--help")
    assert code == 0
    assert not err
    values = define(importlib.import_module(f"fedlearn.cli.{name}").HELP)
    # Of what has a kind of its own, none is left out or misspelt.
    assert {"debug"} <= set(values)
    assert name != "train" or set(KINDS) < set(values)
    assert len(re.findall(r"^  --", out, re.MULTILINE)) == len(list(values))
    assert "Examples:" in out
    assert max(map(len, out.splitlines())) < 80


def test_defaults_are_those_that_the_help_shows():
    values = define(train.HELP)
    values.mark_as_parsed()
    assert (values.dataset, values.rounds, values.epochs) == ("digits", 50, 5)
    assert (values.algorithm, values.seed) == ("fedavg", 0)
    assert values.only_digits is None
    assert values.resume is False
    assert values.clients_per_round is None


def test_version(fedlearn):
    assert fedlearn("--version") == (0, f"fedlearn {fl.__version__}\n", "")


def test_help_imports_no_backend():
    code = (
        "import sys\n"
        "from fedlearn.cli.main import run\n"
        "try:\n"
        "    run(['fedlearn', 'train', '--help'])\n"
        "except SystemExit:\n"
        "    heavy = ('keras', 'tensorflow', 'jax', 'torch', 'matplotlib')\n"
        "    print([m for m in heavy if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
