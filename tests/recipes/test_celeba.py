import zipfile

import numpy as np
import pytest

from fedlearn import FederatedDataset
from fedlearn.data import FormatError
from fedlearn.datasets import celeba

pytestmark = pytest.mark.backend_free

# Photographs of each person; "30" and "4" have too few.
COUNTS = {"7": 10, "12": 5, "30": 4, "200": 6, "4": 1}
# As in the original, not in alphabetical order.
HEADER = [
    name.title().replace("O_C", "o_C") for name in sorted(celeba.ATTRIBUTES)
]
HEADER = HEADER[7:] + HEADER[:7]
NAMES = [f"{k + 1:06d}.jpg" for k in range(sum(COUNTS.values()))]


@pytest.fixture
def source(tmp_path, encode):
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    for k, name in enumerate(NAMES):
        # Smooth, so that what JPEG loses is small.
        image = np.full((218, 178, 3), 9 * k)
        image[:, :, 1] = np.arange(178)
        data = encode(image, "JPEG")
        (folder / "img_align_celeba" / name).write_bytes(data)
    lines = [
        " ".join([name, *("1" if has else "-1" for has in attributes(k))])
        for k, name in enumerate(NAMES)
    ]
    (folder / "list_attr_celeba.txt").write_text(
        "\n".join([str(len(NAMES)), " ".join(HEADER) + " ", *lines, ""])
    )
    owners = [person for person, n in COUNTS.items() for _ in range(n)]
    pairs = zip(NAMES, owners, strict=True)
    (folder / "identity_CelebA.txt").write_text(
        "".join(f"{name} {person}\n" for name, person in pairs)
    )
    return folder


def attributes(k):
    """Of image k, in the order of the header."""
    return np.random.default_rng(k).random(40) < 0.5


def first_numbers():
    ends = np.cumsum([*COUNTS.values()]).tolist()
    return dict(zip(COUNTS, [0, *ends], strict=False))


def check(dataset, counts):
    """Images and attributes are those of the person; gives their numbers."""
    assert {n: dataset.num_examples(n) for n in dataset} == counts
    seen = []
    for person in dataset:
        client = dataset[person]
        first = first_numbers()[person]
        for row in range(counts[person]):
            image = client["image"][row]
            assert image.shape == (84, 84, 3)
            number = round(image[:, :, 0].mean() / 9)
            assert first <= number < first + COUNTS[person]
            assert abs(image[:, :, 0] - 9 * number).max() <= 4
            # From left to right, as before.
            assert (np.diff(image[0, :, 1]) >= 0).all()
            has = dict(zip(HEADER, attributes(number).tolist(), strict=True))
            assert {n: bool(client[n.lower()][row]) for n in has} == {
                n: has[n] for n in has
            }
            seen.append(number)
    assert len(set(seen)) == len(seen)
    return set(seen)


def read(path, cache, split_by):
    def images(client):
        return {**client, "image": client["image"].reshape(-1, 84, 84, 3)}

    return [
        FederatedDataset.from_tff_sqlite(
            path, f"split_by_{split_by}_{part}"
        ).map(images, True)
        for part in ("train", "test")
    ]


def test_everything(recipe, twice, source, tmp_path):
    path = twice(recipe("celeba").main, source, "celeba.sqlite")
    train, test = read(path, tmp_path / "cache", "examples")
    trained = check(train, {"12": 4, "200": 5, "7": 9})
    tested = check(test, {"12": 1, "200": 1, "7": 1})
    assert trained | tested == {*range(15), *range(19, 25)}
    train, test = read(path, tmp_path / "cache", "clients")
    assert len(train) == 2
    assert {*train} | {*test} == {"7", "12", "200"}
    for part in (train, test):
        check(part, {person: COUNTS[person] for person in part})


def test_zip_limit_and_seed(recipe, source, tmp_path):
    main = recipe("celeba").main
    images = source / "img_align_celeba"
    with zipfile.ZipFile(source / "img_align_celeba.zip", "w") as archive:
        for path in images.iterdir():
            archive.write(path, path.relative_to(source))
    images.rename(tmp_path / "away")
    found = []
    for seed in "01":
        path = tmp_path / f"{seed}.sqlite"
        options = ["--limit", "1", "--seed", seed]
        main(["--source", str(source), "--output", str(path), *options])
        train, _ = read(path, tmp_path / "cache", "examples")
        found.append(check(train, {"12": 4}))
    assert found[0] != found[1]


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("list_attr_celeba.txt", "Bald", "Bold", "names of the 40"),
        ("list_attr_celeba.txt", " 1 ", " 2 ", "line 3: expected the name"),
        ("list_attr_celeba.txt", "26", "27", "has 26 images and states 27"),
        ("list_attr_celeba.txt", "000001.jpg", "1.jpg", "000001.jpg is in"),
        ("identity_CelebA.txt", " 7", "", "line 1: '000001.jpg'"),
        ("identity_CelebA.txt", "000001.jpg", "../x.jpg", "line 1: '../x"),
    ],
)
def test_other_lists_are_refused(recipe, source, name, old, new, message):
    edit(source / name, old, new)
    out = source / "out.sqlite"
    with pytest.raises(FormatError, match=message):
        recipe("celeba").main(["--source", str(source), "--output", str(out)])
    assert not out.exists()


def test_other_images_are_refused(recipe, source, tmp_path, encode):
    main = recipe("celeba").main
    out = tmp_path / "out" / "celeba.sqlite"
    args = ["--source", str(source), "--output", str(out)]
    image = source / "img_align_celeba" / "000001.jpg"
    whole = image.read_bytes()
    for data, message in [
        (whole[: len(whole) // 2], "no whole JPEG"),
        (b"GIF89a", "no whole JPEG"),
        (encode(np.zeros((1001, 1000, 3)), "JPEG"), "1000 x 1001 pixels"),
        (bytes(5 << 20), "5,242,880 bytes"),
    ]:
        image.write_bytes(data)
        with pytest.raises(FormatError, match=f"000001.jpg.*{message}"):
            main(args)
    image.unlink()
    with pytest.raises(FileNotFoundError, match=r"000001\.jpg"):
        main(args)
    image.parent.rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError, match=r"no img_align_celeba\.zip"):
        main(args)
    (source / "img_align_celeba.zip").write_bytes(b"PK\3\4")
    with pytest.raises(FormatError, match="cannot be unpacked"):
        main(args)
    assert [*out.parent.iterdir()] == []
