"""Words that many clients have, by three methods."""

import math
from collections import Counter

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import stats

import fedlearn as fl
from fedlearn.analytics import IBLT, QueryPrivacy, TrieHH, iblt
from fedlearn.analytics.trie import sampling
from fedlearn.analytics.words import words
from fedlearn.encoders import noise_grid

pytestmark = pytest.mark.backend_free


def dataset(texts):
    return {str(i): {"t": np.array(t, object)} for i, t in enumerate(texts)}


def zipf(num_clients, num_words, length, seed=0):
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, num_words + 1)
    words = [f"w{i}" for i in range(num_words)]
    return [
        [" ".join(rng.choice(words, length, p=share / share.sum()))]
        for _ in range(num_clients)
    ]


def true_counts(texts):
    return Counter(w for t in texts for w in set(" ".join(t).split()))


@pytest.mark.parametrize("method", ["iblt", "dictionary"])
def test_counts_of_clients_are_exact(method):
    texts = [*zipf(60, 300, 20), []]
    true = true_counts(texts)
    known = list(true) if method == "dictionary" else None
    found = fl.analytics.heavy_hitters(
        dataset(texts), k=50, method=method, known=known
    )
    assert dict(zip(found.words, found.counts, strict=True)) == {
        w: true[w] for w in found.words
    }
    assert found.counts.tolist() == sorted(true.values())[::-1][:50]
    assert found.error == 0


WORD = st.text(min_size=1, max_size=6).filter(lambda w: "\0" not in w)


@hypothesis.given(lists=st.lists(st.lists(WORD, max_size=30), max_size=6))
@hypothesis.settings(max_examples=30)
def test_sketches_list_any_words(lists):
    lists = [list(dict.fromkeys(words)) for words in lists]
    table = iblt._Table(capacity=180, max_bytes=24)
    total = sum(map(table.sketch, lists), np.zeros(table.size))
    found, is_all = table.listed(total)
    assert is_all
    assert found == Counter(w for words in lists for w in words)


def test_a_sketch_that_is_too_small_is_made_larger_or_refused():
    texts = zipf(20, 500, 40)
    found = fl.analytics.heavy_hitters(
        dataset(texts), k=1000, method=IBLT(capacity=10)
    )
    assert len(found.words) == len(true_counts(texts))
    with pytest.raises(
        ValueError, match=r"IBLT\(capacity=\.\.\.\) of a larger"
    ):
        fl.analytics.heavy_hitters(
            dataset(texts),
            method=IBLT(capacity=10),
            privacy=QueryPrivacy(1.0, 1e-6, max_per_client=40),
        )


def test_longer_words_are_left_out():
    data = dataset([["short", "muchlonger"]])
    found = fl.analytics.heavy_hitters(data, method=IBLT(max_bytes=5))
    assert found.words == ("short",)


@pytest.mark.statistical
def test_noisy_counts_and_their_threshold():
    """Noise of 40 words in 5 runs: 5 deviations of a mean square, 1e-6."""
    common = [f"c{i}" for i in range(40)]
    texts = [[" ".join([*common, f"own{i}"])] for i in range(300)]
    offs = []
    for seed in range(5):
        found = fl.analytics.heavy_hitters(
            dataset(texts),
            method=IBLT(capacity=500),
            privacy=QueryPrivacy(4.0, 1e-6, max_per_client=41, seed=seed),
        )
        assert set(found.words) == set(common)  # a client's own isn't told
        offs += [(found.counts - 300) / found.error]
    assert np.mean(np.square(offs)) == pytest.approx(
        1, abs=5 * math.sqrt(2 / 200)
    )


def test_noise_doesnt_tell_how_many_words_there_are(monkeypatch):
    seen, add = [], noise_grid.add
    monkeypatch.setattr(
        noise_grid,
        "add",
        lambda value, steps, std: (
            seen.append(float(std)) or add(value, steps, std)
        ),
    )
    for number in (5, 900):
        texts = [[f"w{i}" for i in range(number)], ["w0"]]
        found = fl.analytics.heavy_hitters(
            dataset(texts),
            method=IBLT(capacity=1000),
            privacy=QueryPrivacy(0.1, 1e-6, max_per_client=900),
        )
        assert found.error == seen[-1]
    assert seen[0] == seen[1]


def test_a_word_of_one_client_passes_with_half_the_delta_at_most():
    query = type("Query", (), {})()
    query.privacy = QueryPrivacy(1.0, 1e-4, max_per_client=7)
    query.data, query.name, query.max_per_client = range(9), "", 7
    query.noise_multiplier = lambda delta: 4.0
    charged = []
    query.check = charged.append
    threshold, deviation = iblt._stability(query)
    passes = 7 * stats.norm.sf((threshold - 1) / deviation)
    assert passes == pytest.approx(5e-5, rel=1e-5)
    assert passes < 5e-5
    assert deviation == pytest.approx(4 * math.sqrt(7), rel=1e-5)
    assert charged[0].delta == 5e-5


@hypothesis.given(
    epsilon=st.floats(0.5, 8),
    exponent=st.integers(-9, -3),
    counts=st.lists(st.integers(0, 400), min_size=3, max_size=3),
)
@hypothesis.settings(max_examples=20)
def test_the_trie_s_guarantee_holds_exactly(epsilon, exponent, counts):
    # A word's prefixes pass one after another; so many others have each. All
    # that a client changes is how far its word gets.
    delta, counts = 10.0**exponent, sorted(counts, reverse=True)
    threshold, rate = sampling(epsilon, delta, rounds=3)

    def depths(counts):
        passes = stats.binom.sf(threshold - 1, counts, rate)
        reached = np.concatenate([[1.0], np.cumprod(passes), [0.0]])
        return reached[:-1] - reached[1:]

    one = depths(np.array(counts) + 1)
    other = depths(np.array(counts))
    for p, q in ((one, other), (other, one)):
        excess = np.maximum(p - math.exp(epsilon) * q, 0).sum()
        assert excess <= delta * (1 + 1e-6)


@pytest.mark.parametrize(("epsilon", "delta"), [(4.0, 2.3e-12), (1.0, 1e-6)])
def test_the_trie_finds_what_fewer_clients_have_than_its_paper(epsilon, delta):
    # Zhu et al. 2020, as their code: the threshold, and q = m / n.
    paper = 4
    while (paper - 3) / (paper - 2) * math.factorial(paper) < 1 / delta:
        paper += 1
    rate = (1 - math.exp(-epsilon / 10)) / paper
    ours = sampling(epsilon, delta, rounds=10)
    assert ours.clients_needed < paper / rate


def test_the_trie_tells_frequent_words_and_no_others():
    rng = np.random.default_rng(0)
    texts = [
        [w] for w in rng.choice(["rose", "ros", "ü"], 3000, p=[0.5, 0.4, 0.1])
    ]
    texts += [["rare"]] * 3 + [["muchtoolong"]] * 900 + [[]]
    found = fl.analytics.heavy_hitters(
        dataset(texts),
        method=TrieHH(max_bytes=4),
        privacy=QueryPrivacy(4.0, 1e-6, seed=0, secure_sum=True),
    )
    assert found.words == ("ros", "rose", "ü")
    assert found.counts is None
    assert (found.epsilon, found.delta) == (4.0, 1e-6)


def test_a_vocabulary_is_a_layer():
    texts = zipf(40, 100, 20)
    layer = fl.analytics.vocabulary(dataset(texts), size=10)
    true = true_counts(texts)
    order = sorted(true, key=lambda w: (-true[w], w))[:10]
    assert isinstance(layer, keras.layers.StringLookup)
    assert list(layer.analytics.words) == order
    numbers = np.array(layer(np.array([order[3], "never seen"])))
    assert numbers.tolist() == [4, 0]
    missing = fl.analytics.out_of_vocabulary(dataset(texts), known=layer, k=5)
    rest = sorted(set(true) - set(order), key=lambda w: (-true[w], w))
    assert list(missing.words) == rest[:5]


def test_words_of_shakespeare_s_roles(data_dir):
    path = data_dir / "shakespeare.sqlite.lzma"
    if not path.exists():
        pytest.skip(f"shakespeare.sqlite.lzma is not in {data_dir}")
    roles = fl.FederatedDataset.from_tff_sqlite(path, "train")
    roles = roles.sample(200, seed=0)
    true = Counter(w for i in roles for w in set(words(roles[i]["snippets"])))
    order = sorted(true, key=lambda w: (-true[w], w))
    exact = fl.analytics.heavy_hitters(
        roles, k=500, method=IBLT(capacity=12_000)
    )
    assert list(exact.words) == order[:500]
    noisy = fl.analytics.heavy_hitters(
        roles,
        k=40,
        method=IBLT(capacity=12_000),
        privacy=QueryPrivacy(4.0, 1e-6, max_per_client=100, seed=0),
    )
    assert len(set(noisy.words) & set(order[:40])) >= 36
    true_counts = np.array([true[w] for w in noisy.words])
    # A role names its 100 most frequent words, so no count is too large.
    assert (noisy.counts < true_counts + 5 * noisy.error).all()


@pytest.mark.parametrize("as_layer", [False, True])
def test_known_words_may_be_bytes_or_a_layer(as_layer):
    data, known = dataset([["a rose", "a nose"]]), [b"rose", "a", "a"]
    if as_layer:
        known = keras.layers.StringLookup(vocabulary=["rose", "a"])
    assert fl.analytics.out_of_vocabulary(data, known=known).words == ("nose",)
    found = fl.analytics.heavy_hitters(
        data, k=2.0, method="dictionary", known=known
    )
    assert set(found.words) == {"a", "rose"}


def test_how_texts_are_split():
    data = dataset([["New York!", "rome"], ["new york", "Rome"]])
    found = fl.analytics.heavy_hitters(data)
    assert set(found.words) == {"new", "york", "rome"}
    whole = fl.analytics.heavy_hitters(data, split=False)
    assert whole.counts.tolist() == [1] * 4
    lines = fl.analytics.heavy_hitters(data, split=lambda t: [t[:3].lower()])
    assert lines.words == ("new", "rom")


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        ("give both", {"method": "dictionary"}),
        ("give both", {"known": ["a"]}),
        ("'triehh', 'iblt' or 'dictionary'", {"method": "tries"}),
        ("'triehh', 'iblt' or 'dictionary'", {"method": TrieHH}),
        ("a list of words", {"method": "dictionary", "known": "rose"}),
        ("a list of words", {"method": "dictionary", "known": 3}),
        ("no words to count", {"method": "dictionary", "known": []}),
        ("a function from a text", {"split": "yes"}),
        ("a function from a text", {"split": None}),
        ("give `privacy` with an epsilon", {"method": "triehh"}),
        (
            "give `max_per_client`",
            {"privacy": QueryPrivacy(1.0, 1e-6)},
        ),
        ("about texts", {"column": "n"}),
    ],
)
def test_what_is_refused(error, arguments):
    data = {"a": {"t": np.array(["x"], object), "n": np.zeros(1)}}
    with pytest.raises(ValueError, match=error):
        fl.analytics.heavy_hitters(data, **{"column": "t", **arguments})


def test_no_word_at_all():
    with pytest.raises(ValueError, match="no word was found"):
        fl.analytics.vocabulary(
            dataset([["x"]]), privacy=QueryPrivacy(1.0, 1e-6, max_per_client=1)
        )
