from pathlib import Path

import numpy as np
import pytest

from fedlearn.data import FormatError
from fedlearn.data.formats.one_by_one import OneByOne, checked_ids

pytestmark = pytest.mark.backend_free


class Counted(OneByOne):
    """Clients with as many examples as their ids say."""

    def __init__(self, ids):
        super().__init__(Path("numbers"), ids)
        self.reads = []

    def num_examples(self, client_id):
        return int(client_id)

    def _read(self, client_id):
        self.reads.append(client_id)
        count = int(client_id)
        width = 3 if count == 13 else 2
        return {"a": np.ones((count, width) if count else 0)}


def test_each_read_is_of_one_client():
    source = Counted(("0", "1", "2"))
    assert source.reads == []
    assert source.load("2")["a"].shape == (2, 2)
    # The first client with examples says what the others have to be like.
    assert sorted(source.reads) == ["1", "2"]
    assert source.load("0")["a"].shape == (0, 2)
    assert not source.load("1")["a"].flags.writeable


def test_client_unlike_the_first():
    source = Counted(("1", "13"))
    with pytest.raises(FormatError, match=r"numbers: Client '13'.*\(3,\)"):
        source.load("13")


@pytest.mark.parametrize(
    ("ids", "match"),
    [
        ([], "no clients"),
        (["a", ""], "empty string"),
        (["a", "\ud800"], "not UTF-8"),
        (["a", "b", "a"], "'a' is there twice"),
    ],
)
def test_ids_are_checked(ids, match):
    with pytest.raises(FormatError, match=match):
        checked_ids(ids, Path("file"))
