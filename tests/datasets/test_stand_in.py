import hashlib
import itertools
from collections import Counter

import numpy as np
import pytest

from fedlearn.data import element as el
from fedlearn.datasets import celeba, heart_disease, shakespeare, stand_in

pytestmark = pytest.mark.backend_free

TEXT = (np.dtype("object"), ())
WHOLE = (np.dtype("int64"), ())
# By name: the stored features, as of the real sets; clients by part; a digest
# of three clients, which must be the same on every machine.
SETS = {
    "celeba": (
        {
            **dict.fromkeys(celeba.ATTRIBUTES, (np.dtype("bool"), ())),
            "image": (np.dtype("uint8"), (84, 84, 3)),
        },
        (20, 4),
        "47e2d6b415183964",
    ),
    "celeba_examples": (None, (20, 20), "00424e4e5eb53a6c"),
    "cifar100": (
        {
            "coarse_label": WHOLE,
            "image": (np.dtype("uint8"), (32, 32, 3)),
            "label": WHOLE,
        },
        (50, 10),
        "65661a64fae3b29e",
    ),
    "emnist": (
        {
            "label": (np.dtype("int32"), ()),
            "pixels": (np.dtype("float32"), (28, 28)),
        },
        (100, 100),
        "b9fc40109bb70be1",
    ),
    "emnist_letters": (None, (100, 100), "a78773512f895ef1"),
    "heart_disease": (
        {"x": (np.dtype("float32"), (13,)), "y": WHOLE},
        (4, 4),
        "7a9e7317350a4d98",
    ),
    "shakespeare": ({"snippets": TEXT}, (60, 60), "0fcf89eb5226d4ed"),
    "stackoverflow": (
        dict.fromkeys(("tags", "title", "tokens"), TEXT),
        (50, 5, 25),
        "8050ee956f1b5018",
    ),
}


@pytest.fixture(scope="module")
def drawn():
    return {name: stand_in.draw(name) for name in SETS}


def digest(parts):
    found = hashlib.blake2b(digest_size=8)
    for client in parts["train"].values():
        for array in el.arrays(client):
            text = array.dtype == object
            found.update(
                repr(array.tolist()).encode() if text else array.tobytes()
            )
    return found.hexdigest()


@pytest.mark.parametrize("name", SETS)
def test_features_parts_and_bytes(drawn, name):
    features, sizes, golden = SETS[name]
    parts = drawn[name]
    assert tuple(len(data) for data in parts.values()) == sizes
    for data in parts.values():
        assert list(data.client_ids) == sorted(data.client_ids)
        for client in data.values():
            found = {k: (v.dtype, v.shape[1:]) for k, v in client.items()}
            assert found == (features or found)
    few = min(3, sizes[0]) if name != "heart_disease" else None
    assert digest(stand_in.draw(name, few)) == golden
    assert digest(stand_in.draw(name, few, seed=1)) != golden


@pytest.mark.parametrize("name", ["emnist", "celeba_examples", "shakespeare"])
def test_the_same_clients_are_tested(drawn, name):
    train, test = drawn[name].values()
    assert train.client_ids == test.client_ids
    few = stand_in.draw(name, num_clients=2)["train"]
    for client_id in few:  # no client depends on the others
        for a, b in zip(
            el.arrays(few[client_id]), el.arrays(train[client_id]), strict=True
        ):
            np.testing.assert_array_equal(a, b)


def test_heart_disease_is_as_large_as_the_real_set(drawn):
    train, test = drawn["heart_disease"].values()
    assert train.client_ids == heart_disease.SITES
    assert [train.num_examples(i) for i in train] == [199, 172, 30, 85]
    assert [test.num_examples(i) for i in test] == [104, 89, 16, 45]
    sick = [train[i]["y"].mean() for i in train]
    assert 0.3 < sick[1] < sick[0] < sick[3] < sick[2] < 1
    assert not train["switzerland"]["x"][:, 6].any()


def test_who_is_in_which_part_of_stack_overflow(drawn):
    train, heldout, test = drawn["stackoverflow"].values()
    assert set(test.client_ids) < set(train.client_ids)
    assert all(int(i) % 10 == 0 for i in heldout)
    assert all(int(i) % 10 != 0 for i in train)


def test_counts_are_numbers_of_people(drawn):
    train = drawn["stackoverflow"]["train"]
    words = stand_in.counts("tokens", b" ")
    assert list(words.values()) == sorted(words.values(), reverse=True)
    said = [
        set(b" ".join(c["tokens"]).decode().split()) for c in train.values()
    ]
    assert set(words) == set().union(*said)
    assert words["."] == 50
    for word in itertools.islice(words, 0, None, 97):
        assert words[word] == sum(word in one for one in said)
    assert (np.array(list(words.values())) <= 25).mean() > 0.3  # a long tail


def test_characters_are_those_of_shakespeare(drawn):
    texts = [
        b"".join(c["snippets"]).decode()
        for data in drawn["shakespeare"].values()
        for c in data.values()
    ]
    assert set("".join(texts)) <= set(shakespeare.VOCABULARY)
    pieces = [
        shakespeare.tokens(c["snippets"])
        for c in drawn["shakespeare"]["train"].values()
    ]
    assert any((rows[:, -1] > 0).any() for rows in pieces)  # some are long


def share_right(train, test):
    """By the nearest mean of the training examples of each label."""
    (x, y), (rows, truth) = train, test
    known = np.unique(y)
    means = np.stack([x[y == label].mean(axis=0) for label in known])
    far = -2 * rows @ means.T + (means * means).sum(axis=1)
    return np.mean(known[far.argmin(axis=1)] == truth)


def flat(data, feature, label):
    parts = [(c[feature], c[label]) for c in data.values()]
    x, y = map(np.concatenate, zip(*parts, strict=True))
    return x.reshape(len(x), -1).astype(np.float64), y


@pytest.mark.parametrize(
    ("name", "feature", "label", "low", "high"),
    [
        ("emnist", "pixels", "label", 0.9, 1.001),
        ("cifar100", "image", "label", 0.2, 0.9),
        ("celeba", "image", "smiling", 0.6, 0.97),
        ("heart_disease", "x", "y", 0.6, 0.9),
    ],
)
def test_labels_can_be_learned(drawn, name, feature, label, low, high):
    train, test = (flat(d, feature, label) for d in drawn[name].values())
    scale = train[0].std(axis=0)
    train, test = ((x / scale, y) for x, y in (train, test))
    assert low < share_right(train, test) < high


def test_clients_have_pictures_and_labels_of_their_own(drawn):
    lights = [c["pixels"].mean() for c in drawn["emnist"]["train"].values()]
    assert np.std(lights) > 0.03
    kinds = [
        len(np.unique(c["coarse_label"]))
        for c in drawn["cifar100"]["train"].values()
    ]
    assert np.median(kinds) < 10
    smiles = [c["smiling"].mean() for c in drawn["celeba"]["train"].values()]
    assert min(smiles) < 0.3
    assert max(smiles) > 0.7


def test_the_next_word_can_be_learned_and_clients_differ(drawn):
    def pairs(client):
        return Counter(
            pair
            for text in client["tokens"]
            for pair in itertools.pairwise(text.split(b" "))
        )

    train, _, test = drawn["stackoverflow"].values()
    best: dict[bytes, bytes] = {}
    total = sum(map(pairs, train.values()), Counter())
    for (one, two), _ in sorted(total.items(), key=lambda item: item[1]):
        best[one] = two
    found = sum(map(pairs, test.values()), Counter())
    right = sum(n for (a, b), n in found.items() if best.get(a) == b)
    share = max(total.values()) / sum(total.values())
    assert 0.1 < right / sum(found.values()) < 0.5
    assert share < 0.05  # not by always saying the same

    def overlap(a, b):
        return sum((a & b).values()) / min(sum(a.values()), sum(b.values()))

    words = [
        Counter(b" ".join(data[i]["tokens"]).split())
        for i in test.client_ids[:6]
        for data in (train, test)
    ]
    own = np.mean([overlap(*words[k : k + 2]) for k in range(0, 12, 2)])
    other = np.mean([overlap(*words[k : k + 2]) for k in range(1, 10, 2)])
    assert own > other + 0.1


def test_tags_decide_words(drawn):
    tag = max(stand_in.counts("tags", b"|"), key=len).split("-")[0].encode()
    words = {True: Counter(), False: Counter()}
    for client in drawn["stackoverflow"]["train"].values():
        for tags, text in zip(client["tags"], client["tokens"], strict=True):
            words[tag in tags.split(b"|")].update(text.split())
    share = {
        k: {w: n / sum(c.values()) for w, n in c.items()}
        for k, c in words.items()
    }
    more = max(
        share[True], key=lambda w: share[True][w] - share[False].get(w, 0)
    )
    assert share[True][more] > 3 * share[False].get(more, 0)
