"""What all the build scripts do alike, run as a user runs them."""

import pathlib
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "datasets"
NAMES = sorted(path.parent.name for path in FOLDER.glob("*/build.py"))

pytestmark = pytest.mark.backend_free


def test_each_set_has_a_card():
    assert NAMES == [
        "celeba",
        "cifar100",
        "emnist",
        "heart_disease",
        "shakespeare",
        "stackoverflow",
    ]
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        card = (FOLDER / name / "README.md").read_text(encoding="utf-8")
        for part in (
            "## Source",
            "## Licence and citation",
            "## Clients and splits",
            "## Counts and label skew",
            "## Quirks",
            "## Build",
        ):
            assert part in card, (name, part)
        assert f"({name}/README.md)" in index


@pytest.mark.parametrize("name", NAMES)
def test_help_has_an_example(recipe, name, capsys):
    with pytest.raises(SystemExit) as stopped:
        recipe(name).main(["--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert "example:\n  python build.py --source" in said
    assert "--limit" in said


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_source_leaves_nothing(recipe, name, tmp_path):
    out = tmp_path / "out"
    args = ["--source", str(tmp_path / "no"), "--output", str(out / "a")]
    with pytest.raises(FileNotFoundError, match="no"):
        recipe(name).main(args)
    assert not out.exists() or [*out.rglob("*.*")] == []


def test_what_is_there_is_kept(recipe, tmp_path):
    out = tmp_path / "a.sqlite"
    out.write_text("mine")
    with pytest.raises(FileExistsError, match="Choose another output"):
        recipe("cifar100").main(["--source", ".", "--output", str(out)])
    assert out.read_text() == "mine"


@pytest.mark.parametrize("limit", ["0", "-1", "few"])
def test_limit_is_a_count(recipe, limit, capsys):
    with pytest.raises(SystemExit):
        recipe("shakespeare").main(
            ["--source", "a", "--output", "b", "--limit", limit]
        )
    assert "--limit" in capsys.readouterr().err


@pytest.mark.integration
def test_as_a_script(tmp_path):
    speech = "<SPEECH><SPEAKER>A</SPEAKER><LINE>B</LINE></SPEECH>"
    play = tmp_path / "play.xml"

    def run():
        return subprocess.run(
            [
                sys.executable,
                str(FOLDER / "shakespeare" / "build.py"),
                *("--source", str(play)),
                *("--output", str(tmp_path / "out.sqlite")),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=FOLDER.parent,
        )

    play.write_text("<PLAY>")
    result = run()
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    play.write_text(f"<PLAY><TITLE>T</TITLE>{speech * 2}</PLAY>")
    result = run()
    assert result.returncode == 0
    assert "train: 1 of 1" in result.stderr
    assert (tmp_path / "out.sqlite").stat().st_size > 0
