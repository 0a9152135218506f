import functools
import zipfile

import numpy as np
import pytest

from fedlearn.data import FormatError
from fedlearn.datasets import emnist

pytestmark = pytest.mark.backend_free

# By writer, what was written: the first eleven are digits.
WRITTEN = {
    "hsf_0/f0000_14": "01234567890" + "aB",
    "hsf_4/f4000_02": "zZ",
    "hsf_4/f4001_03": "7g",
    "hsf_4/f4002_04": "5",
}


def character(number):
    """A bar on paper, another for each number."""
    ink = np.zeros((128, 128), np.uint8)
    ink[30 : 90 + number % 7, 50 : 56 + number] = 1
    return 255 * (1 - ink)


@pytest.fixture
def source(tmp_path, encode):
    number = 0
    for writer, text in WRITTEN.items():
        part, name = writer.split("/")
        for k, letter in enumerate(text):
            data = encode(character(number), "PNG")
            number += 1
            kind = ("d" if letter.isdigit() else "u") + name[1:]
            for path in (
                f"by_write/{writer}/{kind}/{kind}_{k:05d}.png",
                f"by_class/{ord(letter):x}/{part}/{part}_{number:05d}.png",
                f"by_class/{ord(letter):x}/train_x/train_{number:05d}.png",
            ):
                target = tmp_path / "sd19" / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
    (tmp_path / "sd19/by_class/30/hsf_0.mit").write_text("not an image")
    return tmp_path / "sd19"


def read(path, cache, only_digits=False):
    parts = emnist.load_data(
        only_digits=only_digits, source=path, cache_dir=cache
    )
    return [
        part.map(lambda c: {"label": c[1], "pixels": c[0][..., 0]}, True)
        for part in parts
    ]


def labels(dataset):
    return {name: dataset[name]["label"].tolist() for name in dataset}


def test_everything(recipe, twice, source, tmp_path):
    build = recipe("emnist")
    path = twice(build.main, source, "emnist_all.sqlite")
    train, test = read(path, tmp_path / "cache")
    assert train.client_ids == test.client_ids
    assert train.client_ids == ("f0000_14", "f4000_02", "f4001_03")
    expected = {
        "f0000_14": [*range(10), 0, 36, 11],
        "f4000_02": [61, 35],
        "f4001_03": [7, 42],
    }
    number = 0
    for name, theirs in expected.items():
        found = np.concatenate([train[name]["label"], test[name]["label"]])
        assert sorted(found) == sorted(theirs)
        ours = np.concatenate([train[name]["pixels"], test[name]["pixels"]])
        # Each image is there once, and has its own label.
        for label in theirs:
            small = build.shrunk(1 - character(number) / 255.0)
            paper = 1 - small.astype(np.float32) / np.float32(255)
            same = [k for k in range(len(ours)) if (ours[k] == paper).all()]
            assert len(same) == 1
            assert found[same[0]] == label
            number += 1
    digits, digits_test = read(path, tmp_path / "cache", only_digits=True)
    assert digits.client_ids == digits_test.client_ids == ("f0000_14",)
    assert digits.num_examples("f0000_14") == 9
    # Who trains on all characters can test on digits.
    for part, whole in ((digits, train), (digits_test, test)):
        mine = whole["f0000_14"]
        rows = mine["label"] < 10
        for key, array in part["f0000_14"].items():
            np.testing.assert_array_equal(array, mine[key][rows])


def test_zips_limit_and_seed(recipe, source, tmp_path):
    main = recipe("emnist").main
    zips = tmp_path / "zips"
    zips.mkdir()
    for top in ("by_class", "by_write"):
        with zipfile.ZipFile(zips / f"{top}.zip", "w") as archive:
            for path in (source / top).rglob("*.*"):
                archive.write(path, path.relative_to(source))
    runs = {
        "whole": [source],
        "zips": [zips, "--limit", "1"],
        "other": [zips, "--limit", "1", "--seed", "3"],
    }
    found = {}
    for name, (origin, *options) in runs.items():
        path = tmp_path / f"{name}.sqlite"
        main(["--source", str(origin), "--output", str(path), *options])
        found[name] = labels(read(path, tmp_path / "cache")[0])
    assert [*found["zips"]] == ["f0000_14"]
    assert found["zips"]["f0000_14"] == found["whole"]["f0000_14"]
    assert found["other"] != found["zips"]


def test_the_picture(recipe):
    """A square of ink fills the picture but for the blur and the border."""
    build = recipe("emnist")
    ink = np.zeros((128, 128))
    ink[20:64, 60:104] = 1
    small = build.shrunk(ink)
    assert small.shape == (28, 28)
    assert small.dtype == np.uint8
    assert small.max() == 255
    # Pillow rounds after each of the two directions.
    same = functools.partial(np.testing.assert_allclose, atol=1, rtol=0)
    same(small.astype(int), small.T)
    same(small.astype(int), small[::-1])
    # 44 of ink, 2 x 3 of blur, 2 x 2 of border: 54 pixels go to 28, and the
    # ink takes the 22 or so in the middle.
    assert (small[4:24, 4:24] > 250).all()
    assert (small[0] == 0).all()
    assert 40 < small[2, 14] < 200
    # A bar keeps its shape.
    ink[20:64, 80:104] = 0
    columns = (build.shrunk(ink) > 127).any(axis=0)
    assert 8 <= columns.sum() <= 13
    assert build.shrunk(np.zeros((128, 128))) is None


def test_the_blur(recipe):
    ink = np.zeros((5, 7))
    ink[2, 4] = 1
    blurred = recipe("emnist")._blurred(ink)
    assert blurred.shape == (13, 15)
    assert blurred.sum() == pytest.approx(1)
    # The density of a normal distribution of deviation 1.
    down, right = np.indices((13, 15)) - np.array([[[6]], [[8]]])
    density = np.exp(-(down**2 + right**2) / 2) / (2 * np.pi)
    near = np.maximum(abs(down), abs(right)) <= 4
    np.testing.assert_allclose(blurred, density * near, atol=1e-4)


def test_images_left_out_are_counted(recipe, source, encode, tmp_path, capsys):
    blank = encode(np.full((128, 128), 255), "PNG")
    kind = source / "by_write/hsf_4/f4000_02/u4000_02"
    (kind / "u4000_02_00009.png").write_bytes(blank)
    (source / "by_class/41/hsf_4").mkdir(parents=True)
    (source / "by_class/41/hsf_4/hsf_4_1.png").write_bytes(blank)
    (source / "by_class/42/hsf_4").mkdir(parents=True)
    (source / "by_class/42/hsf_4/hsf_4_1.png").write_bytes(blank)
    stranger = encode(character(40), "PNG")
    (kind / "u4000_02_00010.png").write_bytes(stranger)
    path = tmp_path / "out.sqlite"
    recipe("emnist").main(["--source", str(source), "--output", str(path)])
    said = capsys.readouterr().err
    assert "1 images are in two classes" in said
    assert "1 images are in no class" in said
    assert "1 images have no ink" in said
    train, test = read(path, tmp_path / "cache")
    name = "f4000_02"
    assert train.num_examples(name) + test.num_examples(name) == 2


def replace(source, top, data):
    path = next((source / top).rglob("*.png"))
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        ((64, 64), "PNG", "64 x 64 pixels"),
        ((128, 128), "JPEG", "no whole PNG"),
    ],
)
def test_other_images_are_refused(recipe, encode, shape, kind, message):
    data = encode(np.zeros(shape), kind)
    with pytest.raises(FormatError, match=f"a.png.*{message}"):
        recipe("emnist").decoded(data, "a.png")


def test_a_truncated_image_is_refused(recipe, encode):
    noise = np.random.default_rng(0).integers(0, 255, (128, 128))
    data = encode(noise, "PNG")
    with pytest.raises(FormatError, match="no whole PNG"):
        recipe("emnist").decoded(data[: len(data) // 2], "a.png")


def test_other_folders_are_refused(recipe, source, tmp_path):
    build = recipe("emnist")
    out = tmp_path / "out" / "emnist.sqlite"
    args = ["--source", str(source), "--output", str(out)]
    (source / "by_class/zz/hsf_0").mkdir(parents=True)
    (source / "by_class/zz/hsf_0/a.png").write_bytes(b"")
    with pytest.raises(FormatError, match="in the class 'zz'"):
        build.main(args)
    (source / "by_class/zz/hsf_0/a.png").unlink()
    big = source / "by_class/30/hsf_0/big.png"
    big.write_bytes(bytes(2 << 20))
    with pytest.raises(FormatError, match="2,097,152 bytes"):
        build.main(args)
    big.unlink()
    (source / "by_write").rename(tmp_path / "by_write")
    with pytest.raises(FileNotFoundError, match=r"no by_write\.zip"):
        build.main(args)
    (source / "by_write.zip").write_bytes(b"PK\3\4 cut short")
    with pytest.raises(FormatError, match="cannot be unpacked"):
        build.main(args)
    (source / "by_write.zip").unlink()
    (source / "by_write").mkdir()
    with pytest.raises(FormatError, match="No writer has two characters"):
        build.main(args)
    assert [*out.parent.iterdir()] == []
