"""What is installed and given on: names, requirements, the sdist."""

import ast
import email
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile

import pytest

pytestmark = pytest.mark.backend_free

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """Names and contents of the files of a source distribution."""
    folder = tmp_path_factory.mktemp("sdist")
    subprocess.run(
        [
            sys.executable, "setup.py", "-q",
            "egg_info", "--egg-base", folder,
            "sdist", "--formats=tar", "--dist-dir", folder,
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )  # fmt: skip
    (path,) = folder.glob("*.tar")
    with tarfile.open(path) as archive:
        return {
            member.name.partition("/")[2]: archive.extractfile(member).read()
            for member in archive.getmembers()
            if member.isfile()
        }


@pytest.mark.integration
def test_the_sdist_has_all_that_is_under_version_control(sdist):
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a clone")
    files = subprocess.run(
        ["git", "ls-files"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\n")
    there = {name for name in files if name and (ROOT / name).exists()}
    assert there <= set(sdist)
    assert not [n for n in sdist if "__pycache__" in n or n.endswith(".pyc")]


@pytest.mark.integration
def test_the_metadata(sdist):
    metadata = email.message_from_bytes(sdist["PKG-INFO"])
    assert metadata["Author"] == "The fedlearn authors"
    assert "federated learning" in metadata["Keywords"].split(",")
    assert "Home-page" not in metadata
    text = metadata.get_payload()
    assert "## Install" in text
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert not [a for a in links if not a.startswith(("https://", "#"))]
    # What the links said is still there.
    assert "CONTRIBUTING.md says how" in text


# What a plain installation need not have. Each is imported where it is used,
# or is a backend that Keras has imported already.
OPTIONAL = {"dp_accounting", "jax", "pandas", "ray"}
# Come with Keras, and with scikit-learn.
INDIRECT = {"ml_dtypes", "optree", "scipy"}
DISTRIBUTIONS = {
    "absl": "absl-py",
    "google": "protobuf",
    "sklearn": "scikit-learn",
}


def _imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module


def test_a_plain_installation_has_what_is_imported():
    found = {
        name.partition(".")[0]
        for path in (ROOT / "fedlearn").rglob("*.py")
        for name in _imported(path)
    }
    found -= {"fedlearn", *sys.stdlib_module_names, *OPTIONAL, *INDIRECT}
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    required = re.search(r"install_requires=\[(.*?)\]", setup, re.DOTALL)[1]
    required = set(re.findall(r'"([\w-]+)>=', required))
    assert {DISTRIBUTIONS.get(name, name) for name in found} <= required


def test_no_text_recommends_a_command_that_fails_in_a_clone():
    paths = [
        path
        for pattern in ("*.md", "fedlearn/**/*.py", "*/**/*.md", "*/*.ipynb")
        for path in ROOT.glob(pattern)
        if not path.is_relative_to(ROOT / "runs")
        and ".venv" not in str(path.relative_to(ROOT))
    ]
    assert len(paths) > 100
    # There is no `fedlearn` on PyPI.
    wrong = re.compile(r'pip install (-\S+ )*\\?["\']?fedlearn')
    assert not [p for p in paths if wrong.search(p.read_text("utf-8"))]
