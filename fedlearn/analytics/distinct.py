import hashlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from fedlearn import checks
from fedlearn.analytics.column import Which
from fedlearn.analytics.query import Query
from fedlearn.analytics.query_privacy import QueryPrivacy
from fedlearn.analytics.result import Estimate
from fedlearn.analytics.words import as_text

# Ranks of hashes beyond it come once in so many billions.
_RANKS = 32


def distinct(
    data: Any,
    column: Which = None,
    precision: int = 12,
    privacy: QueryPrivacy | None = None,
) -> Estimate:
    """How many different values all clients have together.

    By HyperLogLog (Flajolet et al. 2007) with the estimator of Ertl 2017, "New
    cardinality estimation algorithms for HyperLogLog sketches",
    arXiv:1702.01284. Registers merge by a maximum, which a secure
    sum can't make: so a client sends a one for each register at its rank, and
    the largest rank with a sum above 0 is the maximum.

    There is no guarantee: registers tell whether a value is there.

    Args:
        data: The clients; see `mean`.
        column: Which array; see `mean`. Of arrays with more than one axis, a
            row is a value.
        precision: `2**precision` registers, 4 to 16.
        privacy: A `QueryPrivacy` without epsilon, for a secure sum.

    Returns:
        An `Estimate`, whose `error` is the estimator's standard deviation:
        1.04 times the value, over the root of the number of registers.

    Raises:
        ValueError: If `privacy` has an epsilon.

    Example:

    >>> data = {"anna": ([1, 2, 2], [0, 0, 0]), "ben": ([2, 7], [1, 1])}
    >>> round(distinct(data).value)
    3
    """
    precision = checks.whole("precision", precision, 4, most=16)
    query = Query("distinct", data, column, "any", privacy, None)
    if query.is_noisy:
        raise ValueError(
            "distinct has no guarantee: its sketch tells whether a value is "
            "there. Leave the epsilon out; or count how many clients have "
            "values that you name, with heavy_hitters(method='dictionary')."
        )
    registers = 2**precision
    add = query.summing(registers * _RANKS, whole=True)

    def vectors() -> Iterator[np.ndarray]:
        for values in query.values():
            ones = np.zeros((registers, _RANKS))
            ranks = sketch(values, precision)
            seen = np.flatnonzero(ranks)
            ones[seen, ranks[seen] - 1] = 1.0
            yield ones.reshape(-1)

    sums = add(vectors()).value.reshape(registers, _RANKS)
    ranks = ((sums > 0) * np.arange(1, _RANKS + 1)).max(axis=1)
    value = float(cardinality(ranks))
    return query.result(
        Estimate, value=value, error=1.04 * value / math.sqrt(registers)
    )


def sketch(values: np.ndarray, precision: int) -> np.ndarray:
    """The registers of some values: the largest rank of a hash in each."""
    ranks = np.zeros(2**precision, np.int64)
    for item in set(_items(values)):
        digest = hashlib.blake2b(item, digest_size=8).digest()
        word = int.from_bytes(digest, "little")
        rest = word >> precision
        # One more than the zeros at the end.
        rank = (rest & -rest).bit_length() or _RANKS
        at = word % 2**precision
        ranks[at] = max(ranks[at], min(rank, _RANKS))
    return ranks


def _items(values: np.ndarray) -> Iterator[bytes]:
    for row in values:
        if values.dtype.kind in "biuf":
            wide = "<f8" if values.dtype.kind == "f" else "<i8"
            yield np.asarray(row + 0, wide).tobytes()  # -0.0 is 0.0
        else:
            yield "\0".join(map(as_text, np.ravel(row))).encode()


def cardinality(ranks: np.ndarray) -> float:
    """Ertl's estimate, for fewer values than make all ranks the largest."""
    m = len(ranks)
    empty = np.count_nonzero(ranks == 0)
    if empty == m:
        return 0.0
    rest = float((2.0 ** -ranks[ranks > 0]).sum())
    return m * m / (2 * math.log(2) * (m * _sigma(empty / m) + rest))


def _sigma(x: float) -> float:
    """The sum of x and of `x**(2**k) * 2**(k - 1)` over k from 1."""
    total, weight, before = x, 1.0, -1.0
    while total != before:
        x, before = x * x, total
        total, weight = total + x * weight, 2 * weight
    return total
