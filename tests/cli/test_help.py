import subprocess
import sys

import pytest
from absl import flags

import fedlearn as fl
from fedlearn.cli import datasets, evaluate, report, train
from fedlearn.cli.main import COMMANDS

pytestmark = pytest.mark.backend_free

MODULES = {
    "train": train,
    "evaluate": evaluate,
    "report": report,
    "datasets": datasets,
}


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
    values = flags.FlagValues()
    groups = MODULES[name].COMMAND.define(values)
    grouped = [flag for group in groups for flag in group.names]
    assert sorted(grouped) == sorted(values)
    for flag in values:
        assert f"\n  --{flag}" in out or f"\n  --[no]{flag}" in out
    assert "--verbosity" not in out
    assert "Examples:" in out
    assert max(map(len, out.splitlines())) < 80


def test_help_shows_defaults(fedlearn):
    _, out, _ = fedlearn("train", "--help")
    text = " ".join(out.split())
    assert "(default: digits)" in text
    assert "(default: 50)" in text
    assert "(default: fedavg)" in text


def test_helpfull_adds_the_flags_of_absl(fedlearn):
    code, out, _ = fedlearn("train", "--helpfull")
    assert code == 0
    assert "--rounds" in out
    assert "--verbosity" in out


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


def test_executors_are_those_of_the_library():
    from fedlearn import executors

    for name in train.EXECUTORS:
        assert isinstance(executors.get(name), executors.Executor)
