import json
import shutil
import struct

import pytest

pytestmark = pytest.mark.backend_free


def size_of(png):
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


def test_report_is_a_picture(fedlearn, finished, tmp_path):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    code, out, err = fedlearn("report", folder)
    assert code == 0, err
    png = (folder / "report.png").read_bytes()
    assert size_of(png) == (1600, 1000)
    # A blank picture of that size has 10 kB.
    assert 40_000 < len(png) < 400_000
    assert str(folder / "report.png") in out
    assert "over 30 clients" in out


def test_report_of_a_run_that_diverged(fedlearn, finished, tmp_path):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    evaluation = json.loads((folder / "evaluation.json").read_text())
    evaluation["loss"] = None
    for client in evaluation["per_client"].values():
        client["loss"] = None
    for name in evaluation["statistics"]["loss"]:
        evaluation["statistics"]["loss"][name] = None
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    lines = (folder / "history.csv").read_text().splitlines()
    column = lines[0].split(",").index("val_loss")
    row = lines[-1].split(",")
    row[column] = "nan"
    (folder / "history.csv").write_text(
        "\n".join([*lines[:-1], ",".join(row)]) + "\n"
    )
    code, out, err = fedlearn("report", folder)
    assert code == 0, err
    assert "nan" in out


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"optimizers": None}, "changed after it was written"),
        ({"num_clients": "many"}, None),
        ({"started": 5}, "To write them anew: fedlearn train --resume"),
    ],
)
def test_report_of_what_was_changed_by_hand(
    fedlearn, finished, tmp_path, changed, message
):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changed}))
    code, _, err = fedlearn("report", folder)
    assert code == 2
    assert message is None or message in err
    assert "Traceback" not in err


def test_folders_of_the_version_before(fedlearn, finished, tmp_path):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    config = json.loads((folder / "config.json").read_text())
    for name in ("statistics", "compress", "error_feedback", "aggregator"):
        del config["flags"][name]
    config["flags"]["compress"] = "uniform:4+range"
    (folder / "config.json").write_text(json.dumps(config))
    for command in ("report", "evaluate"):
        code, _, err = fedlearn(command, folder)
        assert code == 0, err
