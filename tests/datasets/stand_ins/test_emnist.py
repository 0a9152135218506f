import hashlib

import numpy as np
import pytest

from fedlearn.data import ArraySpec
from fedlearn.datasets.stand_ins import emnist

pytestmark = pytest.mark.backend_free

GOLDEN = "14b902a4a697b7dc"


@pytest.fixture(scope="module")
def parts():
    return emnist.draw(num_clients=20)


def _flat(clients):
    pixels = np.concatenate([c["pixels"] for c in clients]).reshape(-1, 784)
    return pixels, np.concatenate([c["label"] for c in clients])


def _centroid_accuracy(train, test, num_classes):
    x, y = _flat(train)
    centroids = np.stack([x[y == c].mean(axis=0) for c in range(num_classes)])
    x, y = _flat(test)
    # |x - c|^2 without the term that is the same for all c.
    distance = (centroids**2).sum(axis=1) - 2 * x @ centroids.T
    return float(np.mean(distance.argmin(axis=1) == y))


@pytest.mark.parametrize("only_digits", [True, False])
def test_the_features_are_those_of_the_real_set(only_digits):
    parts = emnist.draw(num_clients=2, only_digits=only_digits)
    assert list(parts) == ["train", "test"]
    for data in parts.values():
        assert data.element_spec == {
            "label": ArraySpec((), np.dtype("int32")),
            "pixels": ArraySpec((28, 28), np.dtype("float32")),
        }
        assert list(data.element_spec) == ["label", "pixels"]


def test_pixels_are_255ths_with_paper_at_1():
    pixels = emnist.draw_client(0, 50)["pixels"]
    np.testing.assert_array_equal(
        pixels, (np.rint(pixels * 255) / 255).astype(np.float32)
    )
    assert pixels.max() == 1
    assert pixels.min() == 0
    corners = pixels[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 1).all()
    assert 0.05 < (pixels < 0.5).mean() < 0.35


def test_every_writer_is_in_train_and_test(parts):
    train, test = parts["train"], parts["test"]
    assert train.client_ids == test.client_ids
    assert list(train.client_ids) == sorted(train.client_ids)
    assert len(set(train.client_ids)) == 20
    sizes = [train.num_examples(i) for i in train]
    assert min(test.num_examples(i) for i in test) >= 1
    assert 90 < np.mean(sizes) < 112
    assert len(set(sizes)) > 10


def test_all_classes_are_drawn(parts):
    _, digits = _flat(parts["train"].values())
    assert sorted(set(digits.tolist())) == list(range(10))
    label = emnist.draw_client(0, 2000, only_digits=False)["label"]
    counts = np.bincount(label, minlength=62)
    assert len(counts) == 62
    assert counts.min() > 0
    assert 0.45 < counts[:10].sum() / 2000 < 0.55


def test_golden_bytes():
    client = emnist.draw_client(3, 40, only_digits=False, seed=5)
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(client):
        digest.update(client[name].tobytes())
    assert digest.hexdigest() == GOLDEN


def test_a_client_does_not_depend_on_the_others(parts):
    other = emnist.draw(num_clients=3)["train"]
    name = emnist.client_id(2)
    np.testing.assert_array_equal(
        other[name]["pixels"], parts["train"][name]["pixels"]
    )


def test_seeds_and_writers_differ():
    images = [
        emnist.draw_client(k, 10, seed=seed)["pixels"].tobytes()
        for k, seed in [(0, 0), (1, 0), (0, 1)]
    ]
    assert len(set(images)) == 3


def test_writers_are_alike_enough_to_learn_from_and_no_more(parts):
    writers = list(parts["train"].values())
    assert 0.4 < _centroid_accuracy(writers[:14], writers[14:], 10) < 0.9
    # Letters: 62 classes, of which some look alike.
    writers = [emnist.draw_client(k, 200, only_digits=False) for k in range(20)]
    assert 0.15 < _centroid_accuracy(writers[:14], writers[14:], 62) < 0.7


def test_a_writer_is_known_best_from_own_examples():
    own, others = [], []
    for k in range(4):
        writer = emnist.draw_client(k, 300)
        half = {name: array[:150] for name, array in writer.items()}
        rest = {name: array[150:] for name, array in writer.items()}
        own.append(_centroid_accuracy([half], [rest], 10))
        strangers = [emnist.draw_client(j, 100) for j in range(4, 8)]
        others.append(_centroid_accuracy([half], strangers, 10))
    assert np.mean(own) > np.mean(others) + 0.2


@pytest.mark.parametrize("wrong", [0, -1, 2.0, True])
def test_wrong_counts_are_named(wrong):
    with pytest.raises(ValueError, match="num_clients is"):
        emnist.draw(num_clients=wrong)
    with pytest.raises(ValueError, match="num_examples is"):
        emnist.draw_client(0, wrong)
