"""The examples of guides run."""

import doctest
import pathlib

import pytest

pytestmark = [pytest.mark.backend_free, pytest.mark.integration]

PROJECT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("guide", "least"), [("CONTRIBUTING.md", 10), ("docs/conditions.md", 6)]
)
def test_examples_run(guide, least):
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    failed, run = doctest.testfile(
        str(PROJECT / guide), module_relative=False, optionflags=flags
    )
    assert run >= least
    assert not failed
