"""Questions without a model: precision, recall, errors and seconds.

Words that most of Shakespeare's roles have: found exactly, with noise at
several epsilons, and by votes on a trie (Zhu et al. 2020), with this library's
threshold and with the paper's. For tries there are far too few roles: there
each snippet is a client, too. And numbers that are drawn at random, against
pooled NumPy.

    python benchmarks/analytics.py --data DIR
"""

import argparse
import json
import math
import os
import pathlib
import time
from collections import Counter

import numpy as np

import fedlearn as fl
from fedlearn.analytics import IBLT, QueryPrivacy, TrieHH, trie
from fedlearn.analytics.words import words

DELTA = 1e-6


def told(what, query, compare):
    """Runs a query and prints what it took and how near it came."""
    start = time.perf_counter()
    found = query()
    line = {
        "what": what,
        "seconds": round(time.perf_counter() - start, 2),
        "bytes_up_per_client": round(found.bytes_up / found.num_clients),
        **compare(found),
    }
    print(json.dumps(line), flush=True)


def by_clients(data):
    """How many clients have each word."""
    return Counter(w for i in data for w in set(words(data[i]["snippets"])))


def hits(found, counts, k):
    """Precision and recall at k of words that were told."""
    order = sorted(counts, key=lambda w: (-counts[w], w))[:k]
    words = found.words if found.counts is None else found.words[:k]
    right = len(set(order) & set(words))
    return {
        "told": len(found.words),
        f"precision@{k}": round(right / max(len(words), 1), 3),
        f"recall@{k}": round(right / k, 3),
    }


def of_words(data, seeds):
    counts = by_clients(data)
    print(json.dumps({"clients": len(data), "different words": len(counts)}))
    for k in (100, 1000):
        told(
            f"iblt, exact, k={k}",
            lambda k=k: fl.analytics.heavy_hitters(data, k=k),
            compare=lambda found, k=k: hits(found, counts, k),
        )
    for epsilon in (1.0, 4.0, 8.0):
        for most in (20, 100):
            for seed in range(seeds):
                privacy = QueryPrivacy(epsilon, DELTA, most, seed=seed)
                told(
                    f"iblt, epsilon {epsilon:g}, {most} words a client",
                    lambda privacy=privacy: fl.analytics.heavy_hitters(
                        data, method=IBLT(16_000), privacy=privacy
                    ),
                    compare=lambda found: hits(found, counts, 100),
                )


def papers(epsilon, delta, rounds):
    """The threshold and share of voters of the authors' code."""
    votes = 4
    while (votes - 3) / (votes - 2) * math.factorial(votes) < 1 / delta:
        votes += 1
    return trie.Sampling(votes, (1 - math.exp(-epsilon / rounds)) / votes)


def of_tries(data, seeds, name):
    counts, ours = by_clients(data), trie.sampling
    for epsilon in (4.0, 8.0):
        for whose, rule in (("ours", ours), ("the paper's", papers)):
            trie.sampling = rule
            needed = rule(epsilon, DELTA, 11).clients_needed
            for seed in range(seeds):
                privacy = QueryPrivacy(epsilon, DELTA, seed=seed)
                told(
                    f"triehh, {whose}, epsilon {epsilon:g}, {name}",
                    lambda privacy=privacy: fl.analytics.heavy_hitters(
                        data, method=TrieHH(10), privacy=privacy
                    ),
                    compare=lambda found, needed=needed: {
                        "clients needed": round(needed),
                        **hits(found, counts, max(len(found.words), 1)),
                    },
                )
    trie.sampling = ours


def of_numbers(num_clients):
    rng = np.random.default_rng(0)
    values = rng.normal(50, 10, size=(num_clients, 10))
    data = {str(i): (v, np.zeros(10)) for i, v in enumerate(values)}
    data = fl.FederatedDataset.from_clients(data)
    pool = values.reshape(-1)
    privacy = QueryPrivacy(1.0, DELTA, max_per_client=10, seed=0)
    for name, one in (("exact", None), ("epsilon 1", privacy)):
        told(
            f"mean, {name}, {num_clients:,} clients",
            lambda one=one: fl.analytics.mean(
                data, bounds=(0, 100), privacy=one
            ),
            compare=lambda f: {
                "off": abs(f.value - pool.clip(0, 100).mean()),
                "error": f.error,
            },
        )
        told(
            f"quantiles, {name}, {num_clients:,} clients",
            lambda one=one: fl.analytics.quantiles(
                data, range=(0, 100), privacy=one
            ),
            compare=lambda f: {
                "off": np.abs(f.values - np.quantile(pool, f.q)).tolist(),
                "error": f.error.tolist(),
            },
        )
    told(
        f"distinct, {num_clients:,} clients",
        lambda: fl.analytics.distinct(data),
        compare=lambda f: {
            "true": len(pool),
            "estimate": f.value,
            "error": f.error,
        },
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("FEDLEARN_TEST_DATA"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=10_000)
    arguments = parser.parse_args()
    of_numbers(arguments.clients)
    path = pathlib.Path(arguments.data) / "shakespeare.sqlite.lzma"
    roles = fl.FederatedDataset.from_tff_sqlite(path, "train")
    of_words(roles, arguments.seeds)
    of_tries(roles, 1, f"{len(roles):,} roles")
    snippets = [s for i in roles for s in roles[i]["snippets"]]
    each = {
        str(i): {"snippets": np.array([s], object)}
        for i, s in enumerate(snippets)
    }
    data = fl.FederatedDataset.from_clients(each)
    of_tries(data, arguments.seeds, f"{len(data):,} snippets")


if __name__ == "__main__":
    main()
