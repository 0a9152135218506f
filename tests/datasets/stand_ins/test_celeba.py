import hashlib

import numpy as np
import pytest

from fedlearn.data import ArraySpec
from fedlearn.datasets.stand_ins import celeba

pytestmark = pytest.mark.backend_free

GOLDEN = "181e685465c6db63"


@pytest.fixture(scope="module")
def people():
    return [celeba.draw_client(k, 6) for k in range(16)]


def _pooled(people, name):
    return np.concatenate([person[name] for person in people])


@pytest.mark.parametrize("split_by", ["clients", "examples"])
def test_the_features_are_those_of_the_real_set(split_by):
    parts = celeba.draw(num_clients=2, split_by=split_by)
    assert list(parts) == ["train", "test"]
    assert len(celeba.ATTRIBUTES) == 40
    names = sorted([*celeba.ATTRIBUTES, "image"])
    for data in parts.values():
        spec = data.element_spec
        assert list(spec) == names
        assert spec.pop("image") == ArraySpec((84, 84, 3), np.dtype("int64"))
        assert set(spec.values()) == {ArraySpec((), np.dtype("bool"))}


def test_split_by_clients_gives_other_people():
    parts = celeba.draw(num_clients=2, split_by="clients")
    assert [parts[p].client_ids for p in parts] == [("0", "1"), ("2",)]
    for data in parts.values():
        assert all(5 <= data.num_examples(i) <= 35 for i in data)


def test_split_by_examples_gives_the_same_people():
    parts = celeba.draw(num_clients=2, split_by="examples")
    assert parts["train"].client_ids == parts["test"].client_ids == ("0", "1")
    whole = celeba.draw(num_clients=2)["train"]
    for i in whole:
        sizes = [data.num_examples(i) for data in parts.values()]
        assert sum(sizes) == whole.num_examples(i)
        assert 1 <= sizes[1] < sizes[0]


def test_pixels_are_whole_bytes_of_many_values(people):
    image = people[0]["image"]
    assert image.min() >= 0
    assert image.max() <= 255
    assert len(np.unique(image)) > 150


def test_golden_bytes():
    person = celeba.draw_client(3, 3, seed=5)
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(person):
        digest.update(person[name].astype(np.uint8).tobytes())
    assert digest.hexdigest() == GOLDEN


def test_people_and_seeds_differ():
    drawn = [
        celeba.draw_client(k, 2, seed)["image"].tobytes()
        for k, seed in [(0, 0), (1, 0), (0, 1)]
    ]
    assert len(set(drawn)) == 3


def test_a_client_does_not_depend_on_the_others():
    data = celeba.draw(num_clients=2)["train"]
    alone = celeba.draw_client(1, data.num_examples("1"))
    np.testing.assert_array_equal(alone["image"], data["1"]["image"])


def test_every_attribute_comes_and_none_is_universal():
    flags = [
        celeba._draw_flags(5, (0, "who", k), (0, "shot", k)) for k in range(600)
    ]
    for name in celeba.ATTRIBUTES:
        share = np.mean([f[name].mean() for f in flags])
        assert 0.005 < share < 0.95, name


def test_attributes_agree_with_each_other(people):
    colours = ("black_hair", "blond_hair", "brown_hair", "gray_hair")
    assert (sum(_pooled(people, c).astype(int) for c in colours) <= 1).all()
    no_beard = _pooled(people, "no_beard")
    for name in ("goatee", "five_o_clock_shadow"):
        assert not (_pooled(people, name) & no_beard).any()
    women = ~_pooled(people, "male")
    assert women.any()
    assert no_beard[women].all()
    assert not (_pooled(people, "bald") & _pooled(people, "wavy_hair")).any()


def test_what_is_a_persons_own_stays():
    person = celeba.draw_client(0, 30)
    for name in ("male", "black_hair", "oval_face", "young"):
        assert len(set(person[name].tolist())) == 1
    assert 0 < person["smiling"].mean() < 1


# Of each, what it changes: rows and columns of the picture.
@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [
        ("smiling", slice(52, 72), slice(26, 58)),
        ("eyeglasses", slice(28, 52), slice(16, 68)),
        ("wearing_hat", slice(0, 34), slice(8, 76)),
        ("mustache", slice(52, 68), slice(28, 56)),
        ("wearing_lipstick", slice(52, 72), slice(26, 58)),
    ],
)
def test_an_attribute_can_be_seen_where_it_belongs(name, rows, columns):
    key, shot = (0, "who"), (0, "shot")
    flags = celeba._draw_flags(4, key, shot)
    flags = {other: np.zeros(4, bool) for other in flags}
    without = celeba.paint_faces(flags, key, shot).astype(int)
    with_it = celeba.paint_faces(
        {**flags, name: np.ones(4, bool)}, key, shot
    ).astype(int)
    change = np.abs(with_it - without).sum(axis=(0, 3))
    assert change[rows, columns].sum() > 0.95 * change.sum() > 0


def test_hair_has_its_colour(people):
    # The crown of the head, in pictures without hats.
    crown = [p["image"][:, 8:14, 38:46].mean(axis=(1, 2)) for p in people]
    crown = np.concatenate(crown)
    bare = ~_pooled(people, "wearing_hat") & ~_pooled(people, "blurry")
    black = crown[bare & _pooled(people, "black_hair")]
    brown = crown[bare & _pooled(people, "brown_hair")]
    assert black.mean() < 60
    assert brown[:, 0].mean() > 1.5 * brown[:, 2].mean()


@pytest.mark.parametrize("wrong", [0, -1, 2.0, True])
def test_wrong_counts_are_named(wrong):
    with pytest.raises(ValueError, match="num_clients is"):
        celeba.draw(num_clients=wrong)
    with pytest.raises(ValueError, match="num_examples is"):
        celeba.draw_client(0, wrong)


def test_an_unknown_split_is_named():
    with pytest.raises(ValueError, match="split_by is 'rows'"):
        celeba.draw(num_clients=1, split_by="rows")
