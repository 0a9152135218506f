import numpy as np
import pytest

import fedlearn as fl
from fedlearn import attacks

pytestmark = pytest.mark.backend_free

DATA = fl.FederatedDataset.from_clients(
    {
        name: (
            np.zeros((4, 5, 5, 1), "float32"),
            np.array([0, 3, 9, label]),
        )
        for label, name in enumerate("abcdef")
    }
)


def test_choosing_is_by_seed_and_in_order():
    chosen = attacks.choose(DATA, 0.5, seed=3)
    assert len(chosen) == 3
    assert list(chosen) == sorted(chosen)
    assert chosen == attacks.choose(DATA.client_ids, 0.5, seed=3)
    assert len({attacks.choose(DATA, 0.5, seed=s) for s in range(9)}) > 3
    assert attacks.choose(DATA, 0.0) == ()
    assert attacks.choose(DATA, 1.0) == DATA.client_ids
    with pytest.raises(ValueError, match="between 0 and 1"):
        attacks.choose(DATA, 1.1)


def test_only_malicious_clients_labels_are_flipped():
    bad = attacks.label_flip(DATA, ["b", "e"], num_classes=10)
    assert bad.client_ids == DATA.client_ids
    for name in DATA:
        x, y = bad[name]
        known = DATA[name][1]
        np.testing.assert_array_equal(y, 9 - known if name in "be" else known)
        assert y.dtype == known.dtype
        np.testing.assert_array_equal(x, DATA[name][0])
        assert bad.num_examples(name) == 4
    assert "a" in bad
    assert "x" not in bad


def test_labels_that_cannot_be_flipped():
    bad = attacks.label_flip(DATA, ["b"], num_classes=9)
    with pytest.raises(ValueError, match=r"must be 0 to 8.*Received 0 to 9"):
        bad["b"]
    real = fl.FederatedDataset.from_clients({"a": ([[1.0]], [0.5])})
    with pytest.raises(ValueError, match="array of integers"):
        attacks.label_flip(real, ["a"], num_classes=2)["a"]
    features = fl.FederatedDataset.from_clients({"a": {"label": [1]}})
    with pytest.raises(ValueError, match="Make tuples of dicts"):
        attacks.label_flip(features, ["a"], num_classes=2)["a"]
    with pytest.raises(KeyError, match="nobody"):
        attacks.label_flip(DATA, ["nobody"], num_classes=10)


def test_sample_weights_stay():
    weighted = DATA.map(lambda c: (*c, np.arange(4.0)))
    flipped = attacks.label_flip(weighted, ["a"], num_classes=10)["a"]
    np.testing.assert_array_equal(flipped[2], np.arange(4.0))


def test_a_backdoor_is_planted_in_part_of_the_examples():
    bad = attacks.backdoor(DATA, ["c"], target=7, fraction=0.5)
    x, y = bad["c"]
    assert y.tolist() == [7, 7, 9, 2]
    assert x.dtype == np.float32
    assert x[:2, 2:, 2:].min() == 1
    assert x.sum() == 2 * 9
    np.testing.assert_array_equal(bad["d"][1], DATA["d"][1])


def test_a_trigger_of_ones_own():
    bad = attacks.backdoor(
        DATA, ["c"], target=7, trigger=lambda x: x + 5, fraction=1.0
    )
    x, y = bad["c"]
    assert x.min() == 5
    assert y.tolist() == [7] * 4
    with pytest.raises(ValueError, match="between 0 and 1"):
        attacks.backdoor(DATA, ["c"], target=7, fraction=2.0)


def test_a_pixel_trigger_leaves_the_images_it_got():
    images = np.zeros((2, 6, 6), "uint8")
    stamped = attacks.PixelTrigger(size=2, value=255)(images)
    assert images.max() == 0
    assert stamped.dtype == np.uint8
    assert stamped.sum() == 2 * 4 * 255
    np.testing.assert_array_equal(stamped[:, 4:, 4:], 255)
