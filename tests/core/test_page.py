import doctest
import pathlib

import pytest

# What it shows is tested on each backend by itself.
pytestmark = [pytest.mark.backend_free, pytest.mark.integration]

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "core.md"


def test_the_page_is_true(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    found = doctest.testfile(
        str(PAGE), module_relative=False, optionflags=flags, report=True
    )
    assert found.attempted > 30
    assert found.failed == 0
