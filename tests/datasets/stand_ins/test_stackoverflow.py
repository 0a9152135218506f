import collections
import hashlib
import re

import numpy as np
import pytest

from fedlearn.data import ArraySpec
from fedlearn.datasets.stand_ins import stackoverflow

pytestmark = pytest.mark.backend_free

GOLDEN = "929e949576117a5b"


@pytest.fixture(scope="module")
def parts():
    return stackoverflow.draw()


def _words(client):
    return b" ".join(client["tokens"]).decode().split(" ")


def test_the_features_are_those_of_the_real_set(parts):
    assert list(parts) == ["train", "heldout", "test"]
    text = ArraySpec((), np.dtype("object"))
    for data in parts.values():
        assert data.element_spec == {
            "creation_date": text,
            "score": ArraySpec((), np.dtype("int64")),
            "tags": text,
            "title": text,
            "tokens": text,
            "type": text,
        }
        assert list(data.element_spec) == sorted(data.element_spec)
        for client in data.values():
            for name in set(client) - {"score"}:
                assert {type(v) for v in client[name]} == {bytes}


def test_texts_have_the_form_of_the_real_ones(parts):
    date = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC")
    # Marks stand alone, but for those inside words.
    token = re.compile(rb"[a-z0-9_.'#+-]+|[.,:?!]|<URL>")
    for client in parts["train"].values():
        assert all(date.fullmatch(d) for d in client["creation_date"])
        assert set(client["type"]) <= {b"question", b"answer"}
        for text in [*client["tokens"], *client["title"]]:
            assert all(token.fullmatch(t) for t in text.split(b" ")), text
            assert b"{" not in text
        for tags in client["tags"]:
            names = tags.split(b"|")
            assert len(set(names)) == len(names)


def test_test_users_are_train_users_later_on(parts):
    train, heldout, test = (parts[n] for n in ("train", "heldout", "test"))
    assert (len(train), len(heldout), len(test)) == (50, 5, 25)
    assert set(test.client_ids) < set(train.client_ids)
    assert all(int(i) % 10 == 0 for i in heldout)
    assert all(int(i) % 10 != 0 for i in train)

    def dates(data):
        return [d for c in data.values() for d in c["creation_date"]]

    border = b"2018-01-01 00:00:00 UTC"
    assert max(dates(train)) < border <= min(dates(test))
    assert min(dates(heldout)) < border <= max(dates(heldout))


def test_golden_text():
    client = stackoverflow.draw_client(7, 40, seed=5)
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(client):
        digest.update(repr(client[name].tolist()).encode())
    assert digest.hexdigest() == GOLDEN


def test_a_user_does_not_depend_on_the_others(parts):
    few = stackoverflow.draw(num_clients=3)
    for name in few:
        for i in few[name]:
            assert _words(few[name][i]) == _words(parts[name][i])


def test_sentences_of_a_post_share_all_but_the_tokens():
    client = stackoverflow.draw_client(1, 300)
    posts = collections.defaultdict(set)
    for i, date in enumerate(client["creation_date"]):
        features = ("score", "tags", "title", "type")
        posts[date].add(tuple(client[name][i] for name in features))
    assert {len(features) for features in posts.values()} == {1}
    assert 50 < len(posts) < 250


def test_counts_are_numbers_of_train_users(parts):
    train = parts["train"]
    words = stackoverflow.word_counts()
    assert list(words.values()) == sorted(words.values(), reverse=True)
    users = [set(_words(client)) for client in train.values()]
    assert set(words) == set().union(*users)
    for word in ("the", "python", "<URL>", min(words, key=words.get)):
        assert words[word] == sum(word in user for user in users)
    tags = stackoverflow.tag_counts()
    assert list(tags.values()) == sorted(tags.values(), reverse=True)
    has_python = [
        any(b"python" in t.split(b"|") for t in client["tags"])
        for client in train.values()
    ]
    assert tags["python"] == sum(has_python)


def test_the_words_have_a_long_tail():
    counts = np.array(list(stackoverflow.word_counts().values()))
    assert counts[0] == 50
    assert 500 < len(counts) < 5000
    assert (counts <= 2).mean() > 0.25


def test_tags_decide_words(parts):
    with_tag, without = [], []
    for client in parts["train"].values():
        for tags, tokens in zip(client["tags"], client["tokens"], strict=True):
            found = b"pointer" in tokens.split(b" ")
            group = with_tag if b"c++" in tags.split(b"|") else without
            group.append(found)
    assert np.mean(with_tag) > 0.03
    assert np.mean(without) == 0


@pytest.mark.parametrize("wrong", [0, -1, 2.0, True])
def test_wrong_counts_are_named(wrong):
    for call in (
        stackoverflow.draw,
        stackoverflow.word_counts,
        stackoverflow.tag_counts,
    ):
        with pytest.raises(ValueError, match="num_clients is"):
            call(num_clients=wrong)
    with pytest.raises(ValueError, match="num_examples is"):
        stackoverflow.draw_client(0, wrong)


def test_an_unknown_part_is_named():
    with pytest.raises(ValueError, match=r"part is 'val'.*'heldout'"):
        stackoverflow.draw_client(1, 1, part="val")
