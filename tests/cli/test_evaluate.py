import json
import shutil


def test_evaluates_the_saved_model(fedlearn, finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    before = json.loads((folder / "evaluation.json").read_text())
    (folder / "evaluation.json").unlink()
    code, out, err = fedlearn("evaluate", folder)
    assert code == 0, err
    after = json.loads((folder / "evaluation.json").read_text())
    assert after["accuracy"] == before["accuracy"]
    assert after["per_client"].keys() == before["per_client"].keys()
    assert "over 30 clients" in out
    assert "deciles" in out
