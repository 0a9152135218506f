import json
import re

import numpy as np
import pytest

pytestmark = pytest.mark.backend_free

RUN = ("--rounds=2", "--epochs=2", "--verbose=0")


@pytest.fixture
def visits(tmp_path):
    """A CSV file of three hospitals, and a function that changes it."""

    def write(name="visits.csv", outcome=None, sep=",", point="."):
        rng = np.random.default_rng(0)
        rows = [sep.join(["hospital", "age", "chol", "outcome"])]
        for k in range(90):
            age = rng.normal(60, 10)
            label = outcome(age) if outcome else "ill" if age > 60 else "well"
            cells = (f"h{k % 3}", f"{age:.1f}", f"{240 + age:.2f}", str(label))
            rows.append(sep.join(c.replace(".", point) for c in cells))
        path = tmp_path / name
        path.write_text("\n".join(rows) + "\n")
        return path

    return write


def train(fedlearn, path, out, *more):
    return fedlearn(
        "train", f"--data={path}", "--client=hospital", "--label=outcome",
        *RUN, f"--output_dir={out}", *more,
    )  # fmt: skip


def test_from_a_table_to_an_evaluation(fedlearn, visits, tmp_path):
    path, out = visits(), tmp_path / "run"
    code, stdout, err = train(fedlearn, path, out, "--rounds=5")
    assert code == 0, err
    assert "visits.csv, 5 rounds of 3 of 3 clients" in stdout
    evaluation = json.loads((out / "evaluation.json").read_text())
    assert evaluation["num_examples"] == 18  # a fifth of each 30
    assert evaluation["accuracy"] > 0.75
    moved = path.rename(tmp_path / "moved.csv")
    code, stdout, err = fedlearn("evaluate", str(out), f"--data={moved}")
    assert code == 0, err
    again = json.loads((out / "evaluation.json").read_text())
    assert again["accuracy"] == pytest.approx(evaluation["accuracy"])


def test_evaluating_another_file_counts_the_same_classes(
    fedlearn, visits, tmp_path
):
    out = tmp_path / "run"
    code, _, err = train(fedlearn, visits(), out, "--rounds=5")
    assert code == 0, err
    lines = visits("all.csv").read_text().splitlines()
    well = [line for line in lines[1:] if line.endswith("well")]
    other = tmp_path / "well.csv"  # alone, "well" would be the first class
    other.write_text("\n".join([lines[0], *well]) + "\n")
    code, _, err = fedlearn("evaluate", str(out), f"--data={other}")
    assert code == 0, err
    evaluation = json.loads((out / "evaluation.json").read_text())
    assert evaluation["accuracy"] > 0.75
    other.write_text(other.read_text() + "h0,60.0,300.00,dead\n")
    code, _, err = fedlearn("evaluate", str(out), f"--data={other}")
    assert code != 0
    assert "'dead' is not among the class names 'ill', 'well'" in err


def test_a_saved_model_takes_rows_of_the_table(fedlearn, visits, tmp_path):
    import keras

    code, _, err = train(fedlearn, visits(), tmp_path / "run", "--rounds=6")
    assert code == 0, err
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    young, old = model.predict(
        np.array([[35.0, 275.0], [85.0, 325.0]]), verbose=0
    )
    assert young[1] > 0.5 > old[1]  # classes are "ill" and "well"


def test_amounts(fedlearn, visits, tmp_path):
    path = visits(outcome=lambda age: f"{1000 * age:.1f}")
    code, _, err = train(fedlearn, path, tmp_path / "run", "--rounds=8")
    assert code == 0, err
    run = tmp_path / "run"
    evaluation = json.loads((run / "evaluation.json").read_text())
    # Of amounts with a standard deviation of 10,000.
    assert evaluation["mean_absolute_error"] < 5000
    config = json.loads((run / "config.json").read_text())
    assert config["flags"]["client_optimizer"] == "adam"


@pytest.mark.parametrize(
    ("outcome", "match"),
    [
        (lambda age: int(age), "numbers below don't occur.*such as [0-9]+.0"),
        (lambda age: int(age) - 90, "lie between -"),
    ],
)
def test_whole_amounts_are_no_classes(
    fedlearn, visits, tmp_path, outcome, match
):
    code, _, err = train(fedlearn, visits(outcome=outcome), tmp_path / "run")
    assert code != 0
    assert re.search(match, err, re.DOTALL)


def test_resume_and_report(fedlearn, visits, tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "run"
    code, _, err = train(fedlearn, visits(), out)
    assert code == 0, err
    code, _, err = fedlearn(
        "train", "--resume", f"--output_dir={out}", "--rounds=3", "--verbose=0"
    )
    assert code == 0, err
    assert len((out / "history.csv").read_text().splitlines()) == 4
    code, _, err = fedlearn("report", str(out))
    assert code == 0, err


def test_semicolons_and_decimal_commas(fedlearn, visits, tmp_path):
    path = visits(sep=";", point=",")
    code, _, err = train(fedlearn, path, tmp_path / "run", "--delimiter=;")
    assert code == 0, err


def test_a_folder_of_files(fedlearn, tmp_path):
    folder = tmp_path / "sites"
    folder.mkdir()
    for name, rows in (("a", "1,0\n2,1\n3,1\n"), ("b", "4,1\n0,0\n")):
        (folder / f"{name}.csv").write_text(f"x,y\n{rows}")
    args = ("train", f"--data={folder}", *RUN, "--label=y")
    code, _, err = fedlearn(*args, f"--output_dir={tmp_path}/one")
    assert code == 0, err
    for name in ("a", "b"):
        rows = "x,y,who\n1,0,u\n2,1,v\n3,1,u\n4,0,v\n"
        (folder / f"{name}.csv").write_text(rows)
    code, out, err = fedlearn(
        *args, f"--output_dir={tmp_path}/2", "--client=who"
    )
    assert code == 0, err
    assert "2 of 2 clients" in out


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        (("--client=hospital",), "--data needs --client and --label"),
        (("--label=outcome",), "--data needs --client and --label"),
        (("--client=hospital", "--label=no"), "no column 'no' (label)"),
        (
            ("--client=hospital", "--label=outcome", "--dataset=digits"),
            "two sets of data",
        ),
        (
            ("--client=age", "--label=outcome"),
            "--features=NAME,NAME",
        ),
        (
            ("--client=hospital", "--label=outcome", "--dp_epsilon=8"),
            "needs --model",
        ),
    ],
)
def test_what_does_not_go(fedlearn, visits, tmp_path, flags, match):
    out = tmp_path / "run"
    code, _, err = fedlearn(
        "train", f"--data={visits()}", *flags, f"--output_dir={out}"
    )
    assert code != 0
    assert match in err
    assert not out.exists()


def test_flags_without_data(fedlearn, tmp_path):
    code, _, err = fedlearn("train", "--label=outcome")
    assert code != 0
    assert "--label goes with --data" in err
