from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from fedlearn.messages.update import StackedUpdate, Update, added


class Total:
    """Adds up the partial sums of shards, in whatever order they come.

    The sum is a fixed binary tree over the shards' numbers, `((0 + 1) + (2 +
    3)) + ...`: who ran them and when changes no bit of it. A node of the tree
    is a range of shards whose length is a power of two, and whose first is a
    multiple of it; the last may be cut short by the number of shards. Two
    neighbours are added as soon as both are there. So at most
    `log2(num_shards) + 1` partial sums are kept of those that came in order,
    besides those that came early.

    Args:
        num_shards: How many there are in the cohort.
        add: Of two `Update.sums`; `fedlearn.messages.update.added`, compiled.

    Example: shards 4 to 6 are added up elsewhere, and come as one node.

    >>> def partial(value):
    ...     return Update({"update": value}, [], 1, 1, 0)
    >>> tier, server = Total(num_shards=7), Total(num_shards=7)
    >>> for shard in (6, 4, 5):
    ...     tier.add(partial(float(shard)), shard)
    >>> for shard in (3, 1, 2, 0):
    ...     server.add(partial(float(shard)), shard)
    >>> for node, first, last in tier.nodes():
    ...     print(first, last)
    ...     server.add(node, first, last)
    4 6
    >>> server.result().summand
    {'update': 21.0}
    """

    def __init__(
        self, num_shards: int, add: Callable[[tuple, tuple], tuple] = added
    ):
        self.num_shards = num_shards
        self._add = add
        # By first shard and number of places, a power of two.
        self._nodes: dict[tuple[int, int], _Node] = {}

    def add(self, partial: Update, first: int, last: int | None = None) -> None:
        """Takes the sum of a shard, or of a node, shards `first` to `last`.

        Raises:
            ValueError: If the range is no node of the tree, or came before.
        """
        last = first if last is None else last
        places = 1 << (last - first).bit_length()
        end = min(first + places, self.num_shards)
        if first % places or not 0 <= first <= last == end - 1:
            raise ValueError(
                f"Shards {first} to {last} of {self.num_shards} are no node "
                "of the tree in which partial sums are added. Expected a power "
                "of two of them, from a multiple of it (fewer at the end)."
            )
        if any(f <= last and first < f + p for f, p in self._nodes):
            raise ValueError(f"Shards {first} to {last} were added before.")
        node = _Node(partial)
        while places < self.num_shards:
            sibling = first ^ places
            if sibling < self.num_shards:
                other = self._nodes.pop((sibling, places), None)
                if other is None:
                    break
                pair = (other, node) if sibling < first else (node, other)
                node = _Node.of(*pair, self._add)
            first, places = min(first, sibling), 2 * places
        self._nodes[first, places] = node

    def nodes(self) -> Iterator[tuple[Update, int, int]]:
        """What came so far, added up: `(partial, first shard, last shard)`."""
        for (first, places), node in sorted(self._nodes.items()):
            last = min(first + places, self.num_shards) - 1
            yield node.update(), first, last

    def result(self) -> Update:
        """The sum of all shards.

        Raises:
            ValueError: If one is missing.
        """
        whole = list(self.nodes())
        if [node[1:] for node in whole] != [(0, self.num_shards - 1)]:
            raise ValueError("Some shards' partial sums are missing.")
        return whole[0][0]


def halves(node: range) -> list[range]:
    """The two nodes of which one is the sum; a single shard as it is."""
    if len(node) == 1:
        return [node]
    middle = node.start + (1 << ((len(node) - 1).bit_length() - 1))
    return [range(node.start, middle), range(middle, node.stop)]


def cover(shards: range, num_shards: int) -> list[range]:
    """The fewest nodes that together are some neighbours among the shards.

    >>> cover(range(3, 7), 7), cover(range(0, 6), 7)
    ([range(3, 4), range(4, 7)], [range(0, 4), range(4, 6)])
    """

    def parts(node: range) -> list[range]:
        if node.stop <= shards.start or shards.stop <= node.start:
            return []
        if shards.start <= node.start and node.stop <= shards.stop:
            return [node]
        return [part for half in halves(node) for part in parts(half)]

    return parts(range(num_shards))


class _Node:
    """A partial sum, whose stacked summands are put together at the end."""

    def __init__(self, update: Update):
        self._update = update
        self._stacks: list[Any] = []
        if isinstance(update, StackedUpdate):
            self._stacks = [update.summand]
            self._update = update._replace(summand=())

    @classmethod
    def of(cls, left: "_Node", right: "_Node", add: Callable) -> "_Node":
        """The sum of two."""
        one, other = left._update, right._update
        node = cls.__new__(cls)
        node._stacks = left._stacks + right._stacks
        node._update = type(one).of(
            add(one.sums, other.sums), *one.host_added(other)
        )
        return node

    def update(self) -> Update:
        if not self._stacks:
            return self._update
        return self._update._replace(
            summand=keras.tree.map_structure(
                lambda *arrays: ops.concatenate(arrays, axis=0), *self._stacks
            )
        )
