import io
import tarfile

import numpy as np
import pytest

from fedlearn import FederatedDataset
from fedlearn.data import FormatError

pytestmark = pytest.mark.backend_free


def drawn(total, seed):
    """Records as the original has them: coarse, fine, then planes of colour."""
    rng = np.random.default_rng(seed)
    fine = rng.integers(0, 100, total)
    images = rng.integers(0, 256, (total, 3, 32, 32))
    # A number that tells each image from the others.
    images[:, 0, 0, 0], images[:, 0, 0, 1] = divmod(np.arange(total), 256)
    records = np.concatenate(
        [fine[:, None] // 5, fine[:, None], images.reshape(total, -1)], axis=1
    )
    return records.astype(np.uint8)


TRAIN, TEST = drawn(330, 0), drawn(200, 1)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "original"
    folder.mkdir()
    (folder / "train.bin").write_bytes(TRAIN.tobytes())
    (folder / "test.bin").write_bytes(TEST.tobytes())
    return folder


def check(part, records, num_clients):
    assert part.client_ids == tuple(map(str, range(num_clients)))
    seen = []
    for name in part:
        client = part[name]
        assert client["image"].shape == (100, 32, 32, 3)
        number = client["image"][:, 0, 0, 0].astype(int) * 256
        number += client["image"][:, 0, 1, 0]
        theirs = records[number]
        np.testing.assert_array_equal(client["coarse_label"], theirs[:, 0])
        np.testing.assert_array_equal(client["label"], theirs[:, 1])
        np.testing.assert_array_equal(
            client["image"].transpose(0, 3, 1, 2).reshape(100, -1),
            theirs[:, 2:],
        )
        seen += number.tolist()
    assert len(set(seen)) == 100 * num_clients


def stored(path, part):
    def images(client):
        return {**client, "image": client["image"].reshape(-1, 32, 32, 3)}

    return FederatedDataset.from_tff_sqlite(path, part).map(images, True)


def test_every_image_goes_to_one_client(recipe, twice, source, tmp_path):
    path = twice(recipe("cifar100").main, source, "cifar100.sqlite")
    train, test = (stored(path, part) for part in ("train", "test"))
    check(train, TRAIN, 3)
    check(test, TEST, 2)


def test_a_client_has_few_coarse_labels(recipe, source):
    """With alpha 0.1 the first client's images are of few kinds."""
    found = recipe("cifar100").records(TRAIN.tobytes(), "train")
    clients = recipe("cifar100").divided(found, "train", 0)
    counts = np.bincount(clients["0"]["coarse_label"], minlength=20)
    # Of 330 images dealt evenly, five kinds would be 25 of 100.
    assert np.sort(counts)[-5:].sum() > 60


def test_the_archive_and_limit_and_seed(recipe, source, tmp_path):
    archive = tmp_path / "cifar-100-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source, "cifar-100-binary")
    main = recipe("cifar100").main
    options = ["--source", str(archive), "--limit", "1", "--output"]
    main([*options, str(tmp_path / "a.sqlite")])
    main([*options, str(tmp_path / "b.sqlite"), "--seed", "1"])
    main(["--source", str(source), "--output", str(tmp_path / "c.sqlite")])
    a, b, c = (stored(tmp_path / f"{k}.sqlite", "train") for k in "abc")
    assert a.client_ids == b.client_ids == ("0",)
    np.testing.assert_array_equal(a["0"]["image"], c["0"]["image"])
    assert (a["0"]["label"] != b["0"]["label"]).any()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "has 0 bytes"),
        (TRAIN.tobytes()[:-1], "cut short"),
        (bytes([20]) + TRAIN.tobytes()[1:], "labels beyond 19 and 99"),
        (TRAIN[:99].tobytes(), "has 99 images"),
    ],
)
def test_other_files_are_refused(recipe, source, tmp_path, data, message):
    (source / "train.bin").write_bytes(data)
    out = tmp_path / "out" / "cifar100.sqlite"
    with pytest.raises(FormatError, match=message):
        recipe("cifar100").main(["--source", str(source), "--output", str(out)])
    assert [*out.parent.iterdir()] == []


def test_other_archives_are_refused(recipe, source, tmp_path):
    read_part = recipe("cifar100").read_part
    archive = tmp_path / "cifar-100-binary.tar.gz"
    with pytest.raises(FileNotFoundError, match=r"no train\.bin"):
        read_part(tmp_path, "train")
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("x/train.txt"), io.BytesIO())
    with pytest.raises(FormatError, match=r"has no train\.bin"):
        read_part(tmp_path, "train")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source, "cifar-100-binary")
    archive.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(FormatError, match="cannot be unpacked"):
        read_part(archive, "train")
