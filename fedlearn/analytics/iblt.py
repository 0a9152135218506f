import dataclasses
import hashlib
import math
from collections.abc import Iterable, Sequence

import numpy as np

from fedlearn import backend, checks
from fedlearn.analytics.query import Query
from fedlearn.encoders import noise_grid
from fedlearn.privacy.ledger import Entry
from fedlearn.privacy.mechanism import Gaussian
from fedlearn.privacy.participation import Participation

_TABLES = 3
_CHECK_BYTES = 3
_LARGEST_CAPACITY = 2**17


@dataclasses.dataclass(frozen=True)
class IBLT:
    """Invertible Bloom lookup tables that clients' words are written into.

    Goodrich and Mitzenmacher 2011, "Invertible Bloom lookup tables",
    arXiv:1101.2245. A word is added to one cell of each of three tables: a
    one, its bytes, and the bytes of a hash. Sums of tables list the words of
    all: a cell with one word alone shows it, and taking that out of the other
    cells leaves more such cells.

    With noise, the server adds it to the counts that it has listed, and keeps
    those words whose count passes a threshold that a word of one client passes
    with a probability of half the delta at most (Korolova et al. 2009,
    "Releasing search queries and clicks privately", with Gaussian noise).

    Args:
        capacity: For how many different words there is room. Without noise it
            is doubled, and clients are asked again, until all are listed. With
            noise, more words are an error: that there are is not hidden.
        max_bytes: Of a word; longer ones are left out.

    Example:

    >>> IBLT(capacity=5000)
    IBLT(capacity=5000, max_bytes=24)
    """

    capacity: int = 1000
    max_bytes: int = 24

    def __post_init__(self) -> None:
        capacity = checks.whole("capacity", self.capacity)
        object.__setattr__(self, "capacity", capacity)
        max_bytes = checks.whole("max_bytes", self.max_bytes)
        object.__setattr__(self, "max_bytes", max_bytes)


class _Table:
    """The shape of a sketch, and what a word is in it."""

    def __init__(self, capacity: int, max_bytes: int):
        # Three tables of 0.41 cells a word each can be listed, if large.
        self.cells = math.ceil(0.45 * capacity) + 8
        self.max_bytes = max_bytes
        self.width = 1 + max_bytes + _CHECK_BYTES
        self.size = _TABLES * self.cells * self.width
        self._known: dict[str, tuple[list[int], np.ndarray]] = {}

    def entry(self, word: str) -> tuple[list[int], np.ndarray]:
        """The cells of a word, and what is added to each."""
        if word not in self._known:
            text = word.encode()
            salt = self.cells.to_bytes(8, "little")
            digest = hashlib.blake2b(text, digest_size=32, salt=salt).digest()
            at = [
                t * self.cells
                + int.from_bytes(digest[8 * t : 8 * t + 8], "little")
                % self.cells
                for t in range(_TABLES)
            ]
            row = np.zeros(self.width)
            row[0] = 1
            row[1 : 1 + len(text)] = list(text)
            row[-_CHECK_BYTES:] = list(digest[-_CHECK_BYTES:])
            self._known[word] = at, row
        return self._known[word]

    def sketch(self, words: Sequence[str]) -> np.ndarray:
        """The sketch of different words."""
        table = np.zeros((_TABLES * self.cells, self.width))
        for word in words:
            if 0 < len(word.encode()) <= self.max_bytes and "\0" not in word:
                at, row = self.entry(word)
                table[at] += row
        return table.reshape(-1)

    def listed(self, sketch: np.ndarray) -> tuple[dict[str, float], bool]:
        """The words of a sum of sketches and their counts; whether all."""
        table = np.rint(sketch).reshape(-1, self.width)
        found: dict[str, float] = {}
        waiting = np.flatnonzero(table[:, 0]).tolist()
        while waiting:
            cell = waiting.pop()
            count = table[cell, 0]
            word = self._alone(table[cell], cell)
            if word is None:
                continue
            found[word] = found.get(word, 0.0) + count
            at, row = self.entry(word)
            table[at] -= count * row
            waiting += [c for c in at if table[c, 0]]
        return found, not table.any()

    def _alone(self, row: np.ndarray, cell: int) -> str | None:
        """The word of a cell, if it is one alone."""
        count = row[0]
        if count <= 0:
            return None
        text = row[1 : 1 + self.max_bytes] / count
        if ((text % 1) != 0).any() or text.min() < 0 or text.max() > 255:
            return None
        try:
            word = bytes(text.astype(np.uint8)).rstrip(b"\0").decode()
        except UnicodeDecodeError:
            return None
        at, expected = self.entry(word)
        same = np.array_equal(expected * count, row)
        return word if same and cell in at else None


def find(
    query: Query, method: IBLT, clients: Iterable[Sequence[str]]
) -> tuple[list[str], np.ndarray, float]:
    """Words, how many clients have them, and the deviation of that."""
    threshold, error = 0.0, 0.0
    if query.is_noisy:
        threshold, error = _stability(query)
    clients = list(clients)
    capacity = method.capacity
    while True:
        table = _Table(capacity, method.max_bytes)
        add = query.summing(table.size, whole=True, plain=True)
        counts, is_all = table.listed(add(map(table.sketch, clients)).value)
        if is_all:
            break
        if query.is_noisy or capacity >= _LARGEST_CAPACITY:
            raise ValueError(
                f"{query.name}: clients have more different words than a "
                f"sketch of capacity {capacity:,} can list. Give "
                "method=IBLT(capacity=...) of a larger one, or let clients "
                "name fewer: `max_per_client` of QueryPrivacy."
            )
        capacity *= 2
    query.charge()
    words = sorted(counts)
    found = np.array([counts[w] for w in words])
    if query.is_noisy and words:
        drawn = noise_grid.draw(found.shape, query.rng)
        with backend.float64():
            steps = noise_grid.to_steps(drawn, "float64")
            found = np.asarray(noise_grid.add(found, steps, error))
        passed = np.flatnonzero(found > threshold)
        words, found = [words[i] for i in passed], found[passed]
    return words, found, error


def _stability(query: Query) -> tuple[float, float]:
    """The threshold, and the noise's deviation.

    A client adds 1 to so many counts at most. Those of words that others have
    as well are hidden by noise, with half the delta. One that nobody else has
    is 1, and passes `1 + deviation * z` with the probability of a normal
    number above z: the other half is for all of them. Neither depends on how
    many words there are, which would tell of it: a client moves no more than
    its own, and so does rounding.
    """
    from scipy import special  # comes with dp-accounting

    assert query.privacy.delta is not None
    half, most = query.privacy.delta / 2, query.max_per_client
    noise = query.noise_multiplier(half)
    with backend.float64():
        deviation = float(
            noise_grid.standard_deviation(noise, math.sqrt(most), most)
        )
    everyone = Participation("full", len(query.data))
    event = Gaussian(noise).compose(everyone, 1)
    query.check(Entry(query.name, event, delta=half))
    # Count and noise are rounded, by half a step each.
    z = 1 / noise_grid.STEPS_PER_DEVIATION - special.ndtri(half / most)
    return 1 + deviation * z, deviation
