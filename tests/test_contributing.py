"""The examples of CONTRIBUTING.md run."""

import doctest
import pathlib

import pytest

pytestmark = pytest.mark.integration

GUIDE = pathlib.Path(__file__).parents[1] / "CONTRIBUTING.md"


def test_examples_run():
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    failed, run = doctest.testfile(
        str(GUIDE), module_relative=False, optionflags=flags
    )
    assert run > 10
    assert not failed
