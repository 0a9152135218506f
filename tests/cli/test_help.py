import subprocess
import sys

import pytest

import fedlearn as fl
from fedlearn.cli.main import COMMANDS, _command

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
    names = _command(name).names()
    assert len(set(names)) == len(names)
    for flag in names:
        assert f"\n  --{flag}" in out or f"\n  --[no]{flag}" in out
    assert "Examples:" in out
    assert max(map(len, out.splitlines())) < 80


def test_help_shows_defaults(fedlearn):
    _, out, _ = fedlearn("train", "--help")
    text = " ".join(out.split())
    assert "(default: digits)" in text
    assert "(default: 50)" in text
    assert "(default: fedavg)" in text


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
