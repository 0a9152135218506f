"""Randomness that is the same on every machine, backend and NumPy version.

Everything random that a result depends on (who takes part, the order in which
a client reads its examples, the seeds of its Dropout layers) is drawn on the
host from NumPy's Philox counter generator (Salmon et al. 2011, "Parallel
random numbers: as easy as 1, 2, 3"), keyed by what the draw is for. There is
no global state: the same key gives the same bits, whatever was drawn before,
so a resumed run draws what an unbroken one would have drawn.

Only `Philox.random_raw` is used. Its bits are fixed by the algorithm, while
NumPy may change how the methods of `numpy.random.Generator` turn bits into
permutations or normals.
"""

import hashlib
import threading
from typing import Any

import numpy as np

from fedlearn import portable_math

__all__ = [
    "Key",
    "bits",
    "fold",
    "generator",
    "normal",
    "permutation",
    "uniform",
]
__dir__ = __all__.copy  # `dir` shows what is public

Key = int | str


def _digest(key: tuple[Key, ...]) -> bytes:
    # The length and type of each part are hashed too, so that ("a", "bc") and
    # ("ab", "c"), or 1 and "1", are different keys.
    parts = []
    for part in key:
        kind = "s" if isinstance(part, str) else "i"
        text = part if isinstance(part, str) else str(int(part))
        data = text.encode("utf-8", "surrogatepass")
        parts.append(b"%s%d:%s" % (kind.encode(), len(data), data))
    return hashlib.blake2b(b"".join(parts), digest_size=16).digest()


def fold(*key: Key) -> int:
    """An integer seed in [0, 2**64) that stands for `key`."""
    return int.from_bytes(_digest(key)[:8], "little")


class _Stream(threading.local):
    """One Philox a thread, set back to the start of a key's stream.

    Making a `Philox` costs some 25 microseconds, setting one back 3: it
    matters with a hundred clients in a round that lasts milliseconds.
    """

    def __init__(self) -> None:
        self.philox = np.random.Philox(0)
        self.start: Any = dict(self.philox.state)
        self.start["state"] = {"counter": np.zeros(4, np.uint64)}
        self.start["buffer_pos"] = 4

    def read(self, size: int, key: tuple[Key, ...]) -> np.ndarray:
        self.start["state"]["key"] = np.frombuffer(_digest(key), np.uint64)
        self.philox.state = self.start
        return self.philox.random_raw(size)


_stream = _Stream()


def bits(size: int, *key: Key) -> np.ndarray:
    """`size` random 64-bit integers, uint64."""
    return _stream.read(size, key)


def uniform(size: int, *key: Key) -> np.ndarray:
    """`size` float64 numbers, uniform in [0, 1), with 53 random bits each."""
    return (bits(size, *key) >> np.uint64(11)) * (1.0 / (1 << 53))


def normal(size: int, *key: Key) -> np.ndarray:
    """`size` float64 numbers of the normal distribution with deviation 1.

    With the logarithm and cosine of `fedlearn.portable_math`: the same bits
    everywhere. The largest magnitude that can come is 8.57; it is exceeded with
    probability 1e-17.
    """
    # Number i is made of numbers 2i and 2i + 1, so a longer draw begins the
    # same. 1 - u is never 0.
    radius, turn = (1 - uniform(2 * size, *key)).reshape(-1, 2).T
    return portable_math.normals(radius, turn)


def permutation(size: int, *key: Key) -> np.ndarray:
    """A uniformly random order of `range(size)`, int64.

    Sorting by 64 random bits makes every order equally likely, up to ties,
    whose probability is below `size**2 / 2**65`.
    """
    return np.argsort(bits(size, *key), kind="stable")


def generator(*key: Key) -> np.random.Generator:
    """A NumPy generator for draws that NumPy alone knows how to make.

    Reproducible on every machine for one version of NumPy; use `bits`,
    `uniform` or `permutation` where versions must agree too.
    """
    key_bits = np.frombuffer(_digest(key), np.uint64)
    return np.random.Generator(np.random.Philox(key=key_bits))
