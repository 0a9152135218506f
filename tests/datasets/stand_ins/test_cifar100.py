import hashlib

import numpy as np
import pytest

from fedlearn.data import ArraySpec
from fedlearn.datasets.stand_ins import cifar100

pytestmark = pytest.mark.backend_free

GOLDEN = "ef3c2ba8c09a1501"


@pytest.fixture(scope="module")
def parts():
    return cifar100.draw()


def _pooled(data, label):
    images = np.concatenate([c["image"] for c in data.values()])
    labels = np.concatenate([c[label] for c in data.values()])
    return images.reshape(-1, 3072) / np.float32(255), labels


def test_the_features_are_those_of_the_real_set(parts):
    assert list(parts) == ["train", "test"]
    for data in parts.values():
        assert data.element_spec == {
            "coarse_label": ArraySpec((), np.dtype("int64")),
            "image": ArraySpec((32, 32, 3), np.dtype("uint8")),
            "label": ArraySpec((), np.dtype("int64")),
        }
        assert list(data.element_spec) == sorted(data.element_spec)
        assert {data.num_examples(i) for i in data} == {100}
    assert parts["train"].client_ids == tuple(map(str, range(50)))
    assert parts["test"].client_ids == tuple(map(str, range(10)))


def test_five_labels_lie_under_each_coarse_one(parts):
    under = {}
    for client in parts["train"].values():
        pairs = zip(client["label"], client["coarse_label"], strict=True)
        for label, coarse in pairs:
            assert under.setdefault(int(label), int(coarse)) == coarse
    assert sorted(under) == list(range(100))
    assert np.bincount(list(under.values())).tolist() == [5] * 20


def test_clients_have_few_coarse_labels_and_all_labels_of_those(parts):
    shares, fine = [], []
    for client in parts["train"].values():
        counts = np.bincount(client["coarse_label"], minlength=20)
        most = counts.argmax()
        shares.append(np.sort(counts)[-3:].sum() / 100)
        labels = client["label"][client["coarse_label"] == most]
        fine.append(len(set(labels.tolist())))
    assert 0.75 < np.mean(shares) < 1
    assert np.mean(fine) > 4.2


def test_golden_bytes():
    client = cifar100.draw_client(3, 20, seed=5)
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(client):
        digest.update(client[name].tobytes())
    assert digest.hexdigest() == GOLDEN


def test_clients_parts_and_seeds_differ(parts):
    drawn = [
        cifar100.draw_client(k, 5, part, seed)["image"].tobytes()
        for k, part, seed in [
            (0, "train", 0),
            (1, "train", 0),
            (0, "test", 0),
            (0, "train", 1),
        ]
    ]
    assert len(set(drawn)) == 4
    again = cifar100.draw_client(7, 100)["image"]
    np.testing.assert_array_equal(again, parts["train"]["7"]["image"])


@pytest.mark.parametrize(
    ("label", "low", "high"), [("label", 0.1, 0.6), ("coarse_label", 0.3, 0.8)]
)
def test_the_nearest_mean_is_right_more_than_by_chance(parts, label, low, high):
    x, y = _pooled(parts["train"], label)
    means = np.stack([x[y == c].mean(axis=0) for c in range(y.max() + 1)])
    x, y = _pooled(parts["test"], label)
    distance = (means**2).sum(axis=1) - 2 * x @ means.T
    assert low < np.mean(distance.argmin(axis=1) == y) < high


def test_labels_of_a_family_look_related(parts):
    x, y = _pooled(parts["train"], "label")
    means = np.stack([x[y == c].mean(axis=0) for c in range(100)])
    distance = ((means[:, None] - means) ** 2).sum(axis=2)
    same = np.arange(100) // 5 == np.arange(100)[:, None] // 5
    kin = distance[same & ~np.eye(100, dtype=bool)].mean()
    assert kin < 0.5 * distance[~same].mean()


@pytest.mark.parametrize("wrong", [0, -1, 2.0, True])
def test_wrong_counts_are_named(wrong):
    with pytest.raises(ValueError, match="num_clients is"):
        cifar100.draw(num_clients=wrong)
    with pytest.raises(ValueError, match="num_test_clients is"):
        cifar100.draw(num_test_clients=wrong)
    with pytest.raises(ValueError, match="num_examples is"):
        cifar100.draw_client(0, wrong)


def test_an_unknown_part_is_named():
    with pytest.raises(ValueError, match="part is 'val'"):
        cifar100.draw_client(1, 1, part="val")
