"""The program about messages, made small."""

import pytest

from benchmarks import messages as program

pytestmark = pytest.mark.backend_free


def test_memory_is_told_in_multiples_of_the_message(tmp_path):
    path = tmp_path / "message"
    found = {
        step: program.measure(step, 900_000, path)["peak"]
        for step in ("write", "read", "pack")
    }
    assert path.stat().st_size > 4 * 900_000
    assert found["write"] == pytest.approx(1.0, abs=0.05)
    assert 1.0 <= found["read"] < 1.3
    assert found["pack"] == pytest.approx(2.0, abs=0.05)
