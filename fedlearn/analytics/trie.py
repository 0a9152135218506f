import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from fedlearn import checks
from fedlearn.analytics.query import Query

_END = b"\0"


@dataclasses.dataclass(frozen=True)
class TrieHH:
    """Votes on prefixes, one byte longer in each round.

    Zhu et al. 2020, "Federated heavy hitters discovery with differential
    privacy", arXiv:1902.08534, algorithm 1: each client has one word; in each
    round a sample of them votes for the next prefix of its word, and prefixes
    with `threshold` votes or more are kept. Which pass is all that is told,
    and sampling hides who voted: see `sampling`.

    A client's word is one of its own, drawn once, each as likely as it is
    frequent. Votes are counts for all bytes after all prefixes that are left,
    so a secure sum can add them.

    Args:
        max_bytes: Of a word, in UTF-8: each is a round, and one more ends it.

    Example:

    >>> TrieHH(max_bytes=8)
    TrieHH(max_bytes=8)
    """

    max_bytes: int = 10

    def __post_init__(self) -> None:
        max_bytes = checks.whole("max_bytes", self.max_bytes)
        object.__setattr__(self, "max_bytes", max_bytes)


class Sampling(NamedTuple):
    """How many votes a prefix needs, and how likely a client votes."""

    threshold: int
    rate: float

    @property
    def clients_needed(self) -> float:
        """How many clients have a prefix that reaches it on average."""
        return self.threshold / self.rate


def sampling(epsilon: float, delta: float, rounds: int) -> Sampling:
    """The votes that find the least frequent words within a guarantee.

    Each client votes by its own coin of probability q. Of a prefix that k
    clients have, `P(k)` is the probability that a binomial of k and q reaches
    the threshold. Let c be the largest k with `P(k) <= delta`. One client more
    or less makes a prefix of more clients pass with a probability at most

        P(c + 1) / P(c) = 1 + q b / P(c)

    times as large, with b that of one vote less than the threshold of c
    clients, and fail at most `1 / (1 - q)` times as likely. At the first of
    its prefixes that c clients or fewer have, the client's votes make it pass
    with probability delta at most, and after it has failed they count no more.
    So `rounds` times the larger logarithm is epsilon, and delta is the delta.

    Zhu et al. sample a fixed number of clients, and take the
    threshold `t` with `(t - 2) / ((t - 3) t!) <= delta` and q so that c is
    `1 / q`; other thresholds find words that fewer clients have.
    """
    from scipy import optimize  # comes with dp-accounting

    each = epsilon / rounds
    most = -math.expm1(-each)  # with which a failure tells no more
    best = Sampling(0, 0.0)
    threshold = 2
    # Up to where larger ones are worse, or there is no hope.
    while threshold < 2 * best.threshold + 40:

        def excess(log_q: float, t: int = threshold) -> float:
            return _loss(t, math.exp(log_q), delta) - each

        low, high = math.log(most) - 12.0, math.log(most)
        if excess(low) <= 0:
            log_q = high
            if excess(high) > 0:
                log_q = optimize.brentq(excess, low, high, xtol=1e-6)
            while excess(log_q) > 0:  # the root is within the tolerance
                log_q -= 1e-4
            found = Sampling(threshold, math.exp(log_q))
            if not best.rate or found.clients_needed < best.clients_needed:
                best = found
        threshold = math.ceil(1.1 * threshold)
    if not best.rate:
        raise ValueError(
            f"No sampling was found for epsilon {epsilon:g} in {rounds} rounds "
            f"at delta {delta:g}. Expected a larger one, or TrieHH of fewer "
            "`max_bytes`."
        )
    return best


def _loss(threshold: int, rate: float, delta: float) -> float:
    """The logarithm of the larger ratio of a round, by `sampling`."""
    from scipy import special

    def passes(k: int, votes: int = threshold) -> float:
        return float(special.bdtrc(votes - 1, k, rate))

    low, high = threshold - 1, threshold
    while passes(high) <= delta:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if passes(middle) <= delta else (low, middle)
    rest = passes(low)
    if not rest:  # one client alone would pass
        return math.inf
    one_less = passes(low, threshold - 1) - rest
    return max(math.log1p(rate * one_less / rest), -math.log1p(-rate))


def find(query: Query, method: TrieHH, each: Iterable[list[str]]) -> list[str]:
    """The words whose prefixes all pass, sorted."""
    epsilon, delta = query.privacy.epsilon, query.privacy.delta
    if epsilon is None or delta is None:
        raise ValueError(
            "method='triehh' finds its threshold for a guarantee: give "
            "`privacy` with an epsilon. Without one there is method='iblt'."
        )
    rounds = method.max_bytes + 1
    threshold, rate = sampling(epsilon, delta, rounds)
    query.check((epsilon, delta))
    voters = []
    for found in each:
        texts = [w.encode() for w in found if w and "\0" not in w]
        voters.append(
            texts[query.rng.integers(len(texts))] + _END if texts else b""
        )
    query.charge()
    prefixes, words = [b""], []
    for _ in range(rounds):
        voting = np.flatnonzero(query.rng.random(len(voters)) < rate)
        add = query.summing(256 * len(prefixes), whole=True, plain=True)
        votes = add(_ballots([voters[i] for i in voting], prefixes)).value
        passed = [
            prefixes[i // 256] + bytes([i % 256])
            for i in np.flatnonzero(np.rint(votes) >= threshold)
        ]
        words += [p[:-1] for p in passed if p.endswith(_END)]
        prefixes = [p for p in passed if not p.endswith(_END)]
        if not prefixes:
            break
    return sorted(w.decode("utf-8", "replace") for w in words)


def _ballots(
    voters: list[bytes], prefixes: list[bytes]
) -> Iterator[np.ndarray]:
    """A one at the next byte of a voter's word, after its prefix."""
    places = {prefix: 256 * i for i, prefix in enumerate(prefixes)}
    length = len(prefixes[0])
    for word in voters:
        ballot = np.zeros(256 * len(prefixes))
        at = places.get(word[:length])
        if at is not None and len(word) > length:
            ballot[at + word[length]] = 1.0
        yield ballot  # empty too: who sends one tells nothing
