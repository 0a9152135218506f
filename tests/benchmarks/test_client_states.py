"""The program about what clients keep, made small."""

import numpy as np

from benchmarks import client_states as program
from fedlearn.runs import client_states


def test_a_save_writes_what_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(client_states, "MEMORY", 20_000)
    found = program.measure(12, 5_000, 3, tmp_path)
    assert found["clients"] == 12
    assert found["last_save_files"] == 3
    size = 4 * (5_000 // 102 * 102 + 1)
    np.testing.assert_allclose(
        found["last_save_mb"], 3 * size / 2**20, atol=0.05
    )
