import csv

import pytest

from tests.cli.conftest import TINY

pytestmark = pytest.mark.backend_free

SWEEP = (
    "sweep",
    *TINY,
    "--client_learning_rate=0.001,0.1",
    "--epochs=1,2",
    "--rounds=4",
)


def rows(path):
    with open(path / "sweep.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_sweep_leaves_table_picture_and_model_and_resumes(
    fedlearn, tmp_path, monkeypatch
):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, out, err = fedlearn(*SWEEP, f"--output_dir={whole}")
    assert code == 0, err
    table = rows(whole)
    assert len(table) == 4
    best = table[0]
    assert best["client_learning_rate"] == "0.1"
    # Halving four by three: all four for some rounds, then the best two.
    assert sorted({int(row["rounds"]) for row in table}) == [1, 4]
    losses = [float(row["loss"]) for row in table if row["rounds"] == "4"]
    assert losses == sorted(losses)
    assert len(losses) == 2
    assert "4 candidates" in out
    assert "fedlearn train --client_learning_rate=0.1 --epochs=" in out
    for name in ("sweep.png", "model.keras"):
        assert (whole / name).stat().st_size > 1000

    import fedlearn as fl

    fit = fl.LearningProcess.fit
    left = [3]

    def stopping(process, *args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return fit(process, *args, **kwargs)

    monkeypatch.setattr(fl.LearningProcess, "fit", stopping)
    code, _, _ = fedlearn(*SWEEP, f"--output_dir={killed}")
    assert code == 130
    monkeypatch.undo()
    code, _, err = fedlearn(*SWEEP, f"--output_dir={killed}")
    assert code == 2
    assert "Add --resume" in err
    code, _, err = fedlearn(*SWEEP, f"--output_dir={killed}", "--resume")
    assert code == 0, err
    assert rows(killed) == table


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--epochs=1",), "no flag has several values"),
        (("--epochs=1,x",), "epochs"),
        (("--epochs=1,2", "--dp_epsilon=8"), "no flag --dp_epsilon"),
        (("--epochs=1,2", "--method=halfing"), "Did you mean halving"),
        (("--epochs=1,2", "--metric=accuracie"), "Did you mean accuracy"),
        (("--algorithm=fedavg,fedper",), "--personal=LAYERS"),
    ],
)
def test_mistakes_are_told(fedlearn, tmp_path, words, message):
    tiny = [word for word in TINY if not word.startswith("--epochs")]
    code, _, err = fedlearn("sweep", *tiny, *words, f"--output_dir={tmp_path}")
    assert code == 2
    assert message in err
