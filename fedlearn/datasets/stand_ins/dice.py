"""One choice after another, as writing text takes."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from fedlearn import seeds

T = TypeVar("T")

_BLOCK = 1024


class Dice:
    """Throws that follow from a key alone.

    Args:
        *key: Integers and strings that say what the throws are for.

    Example:

    >>> dice, same = Dice(0, "doc"), Dice(0, "doc")
    >>> [dice.below(6) for _ in range(9)] == [same.below(6) for _ in range(9)]
    True
    """

    def __init__(self, *key: seeds.Key) -> None:
        self._key = key
        self._throws: list[float] = []
        self._num_blocks = 0

    def throw(self) -> float:
        """A number, uniform in [0, 1)."""
        if not self._throws:
            block = seeds.uniform(_BLOCK, *self._key, self._num_blocks)
            self._throws = block[::-1].tolist()
            self._num_blocks += 1
        return self._throws.pop()

    def small(self) -> float:
        """The square of a throw: in [0, 1), and mostly small."""
        # A product, since the last bit of a power is the machine's.
        throw = self.throw()
        return throw * throw

    def below(self, bound: int) -> int:
        """An integer, uniform in [0, bound)."""
        return int(self.throw() * bound)

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, each as likely."""
        return options[self.below(len(options))]

    def pick_early(self, options: Sequence[T]) -> T:
        """One of the options, the earlier the likelier.

        The option at a share `p` of the list is drawn with a density that
        falls as `1 / sqrt(p)`, a little like the frequencies of words.
        """
        return options[int(self.small() * len(options))]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """The options in a random order."""
        throws = np.array([self.throw() for _ in options])
        return [options[i] for i in np.argsort(throws, kind="stable")]
