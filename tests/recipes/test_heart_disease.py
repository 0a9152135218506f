import numpy as np
import pytest

from fedlearn.data import FormatError
from fedlearn.datasets import heart_disease

pytestmark = pytest.mark.backend_free

SITES = heart_disease.SITES


def patients(total, first_age):
    """Rows as UCI has them; the last three columns but one often missing."""
    return [
        f"{first_age + k}.0,{k % 2}.0,{k % 4 + 1}.0,130.5,{200 + k}.0,0.0,"
        f"{k % 3}.0,150.0,1.0,{k / 10},?,?,?,{k % 5}"
        for k in range(total)
    ]


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "uci"
    folder.mkdir()
    for k, site in enumerate(SITES):
        rows = patients(10 + k, 30 + k)
        rows.insert(1, "61.0,1.0,4.0,?,0.0,0.0,0.0,1.0,1.0,0.1,?,?,?,1")
        text = "\n".join(rows) + "\n"
        (folder / f"processed.{site}.data").write_text(text)
    return folder


def same(first, second):
    for ours, theirs in zip(first, second, strict=True):
        assert ours.client_ids == theirs.client_ids == SITES
        for site in SITES:
            for a, b in zip(ours[site], theirs[site], strict=True):
                np.testing.assert_array_equal(a, b)
                assert a.dtype == b.dtype


def test_reads_as_the_original(recipe, twice, source, tmp_path):
    main = recipe("heart_disease").main
    first = twice(main, source, "out")
    parts = heart_disease.load_data(source=first)
    same(parts, heart_disease.load_data(source=source))
    assert [parts[0].num_examples(s) for s in SITES] == [6, 7, 7, 8]
    assert [parts[1].num_examples(s) for s in SITES] == [4, 4, 5, 5]


def test_the_text(recipe, source, tmp_path):
    out = tmp_path / "out"
    main = recipe("heart_disease").main
    main(["--source", str(source), "--output", str(out), "--limit", "2"])
    assert sorted(p.name for p in out.iterdir()) == sorted(
        f"{site}.csv" for site in SITES
    )
    header, *rows = (out / "va.csv").read_text().splitlines()
    assert header == (
        "age,sex,cp_2,cp_3,cp_4,trestbps,chol,fbs,restecg_1,restecg_2,"
        "thalach,exang,oldpeak,target,split"
    )
    assert [row.rsplit(",", 1)[1] for row in rows] == ["train"] * 2 + [
        "test"
    ] * 2
    expected = {
        f"{33 + k},{k % 2},{int(k % 4 == 1)},{int(k % 4 == 2)},"
        f"{int(k % 4 == 3)},130.5,{200 + k},0,{int(k % 3 == 1)},"
        f"{int(k % 3 == 2)},150,1,{k / 10:g},{int(k % 5 > 0)}"
        for k in range(13)
    }
    assert {row.rsplit(",", 1)[0] for row in rows} < expected


def test_the_seed_decides_who_is_for_testing(recipe, source, tmp_path):
    main = recipe("heart_disease").main
    for seed in "01":
        out = str(tmp_path / seed)
        main(["--source", str(source), "--output", out, "--seed", seed])
    a, b = ((tmp_path / k / "va.csv").read_text() for k in "01")
    assert a != b
    assert sorted(a) == sorted(b)


def test_other_files_are_refused(recipe, source, tmp_path):
    main = recipe("heart_disease").main
    out = tmp_path / "out"
    args = ["--source", str(source), "--output", str(out)]
    va = source / "processed.va.data"
    va.write_text(va.read_text()[:-4])
    with pytest.raises(FormatError, match=r"va\.data: .* 14 to 13 at row 14\."):
        main(args)
    va.unlink()
    with pytest.raises(FileNotFoundError, match=r"no .*processed\.va"):
        main(args)
    (source / "processed.cleveland.data").unlink()
    with pytest.raises(FileNotFoundError, match="cleveland"):
        main(args)
    assert [*out.iterdir()] == []
