import collections
import hashlib
import itertools

import numpy as np
import pytest

from fedlearn.data import ArraySpec
from fedlearn.datasets.shakespeare import VOCABULARY
from fedlearn.datasets.stand_ins import shakespeare

pytestmark = pytest.mark.backend_free

GOLDEN = "3ca7a940b4f32d55"


@pytest.fixture(scope="module")
def parts():
    return shakespeare.draw()


def _text(client):
    return b"\n".join(client["snippets"]).decode()


def _pairs(text):
    return collections.Counter(itertools.pairwise(text))


def test_the_features_are_those_of_the_real_set(parts):
    assert list(parts) == ["train", "test"]
    for data in parts.values():
        assert data.element_spec == {
            "snippets": ArraySpec((), np.dtype("object"))
        }
        for client in data.values():
            assert {type(s) for s in client["snippets"]} == {bytes}


def test_the_same_roles_are_in_train_and_test(parts):
    train, test = parts["train"], parts["test"]
    assert train.client_ids == test.client_ids
    assert list(train.client_ids) == sorted(train.client_ids)
    assert len(train) == 60
    assert min(test.num_examples(i) for i in test) >= 1
    sizes = [train.num_examples(i) for i in train]
    assert 12 < np.mean(sizes) < 32
    assert max(sizes) > 2 * np.median(sizes)


def test_every_role_has_a_name_of_its_own():
    assert len({shakespeare.client_id(k) for k in range(500)}) == 500


def test_only_the_86_characters_are_used(parts):
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    assert len(VOCABULARY) == 86
    texts = [_text(c) for data in parts.values() for c in data.values()]
    used = set("".join(texts))
    assert used <= set(VOCABULARY)
    assert set("aeiouthsAIOWT\n.,;!?' ") <= used
    assert all(len(text) > 5 for text in texts)


def test_golden_text():
    text = _text(shakespeare.draw_client(7, 30, seed=5))
    digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    assert digest == GOLDEN


def test_a_role_does_not_depend_on_the_others(parts):
    other = shakespeare.draw(num_clients=3)["train"]
    for name in other:
        assert _text(other[name]) == _text(parts["train"][name])


def test_articles_suit_the_word_after_them(parts):
    words = " ".join(_text(c) for c in parts["train"].values()).split()
    following = collections.defaultdict(set)
    for article, word in itertools.pairwise(words):
        following[article.lower()].add(word[0])
    assert following["a"].isdisjoint("aeiou")
    assert following["an"] <= set("aeiou")
    assert following["an"]


def test_the_next_character_can_be_learnt(parts):
    pairs = sum(
        (_pairs(_text(c)) for c in parts["train"].values()),
        collections.Counter(),
    )
    best: dict[str, str] = {}
    for (one, two), _ in sorted(pairs.items(), key=lambda item: item[1]):
        best[one] = two
    text = "\n".join(_text(c) for c in parts["test"].values())
    right = np.mean([best.get(a) == b for a, b in itertools.pairwise(text)])
    # By the last character alone. The commonest one, the space, is less
    # than a fifth of the text.
    assert 0.25 < right < 0.5
    assert text.count(" ") < 0.2 * len(text)


def test_roles_prefer_other_words():
    def words(k, seed):
        text = _text(shakespeare.draw_client(k, 60, seed))
        count = collections.Counter(text.lower().split())
        total = sum(count.values())
        return {word: n / total for word, n in count.items()}

    def overlap(one, other):
        return sum(min(one[w], other.get(w, 0)) for w in one)

    first, second = words(0, 0), words(1, 0)
    half = shakespeare.draw_client(0, 120)["snippets"][60:]
    again = collections.Counter(b"\n".join(half).decode().lower().split())
    again = {w: n / sum(again.values()) for w, n in again.items()}
    assert overlap(first, again) > 0.75
    assert overlap(first, second) < 0.55
    assert overlap(first, words(0, 1)) < 0.55


@pytest.mark.parametrize("wrong", [0, -1, 2.0, True])
def test_wrong_counts_are_named(wrong):
    with pytest.raises(ValueError, match="num_clients is"):
        shakespeare.draw(num_clients=wrong)
    with pytest.raises(ValueError, match="num_examples is"):
        shakespeare.draw_client(0, wrong)
