import math
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from fedlearn import checks
from fedlearn.encoders import noise_grid, norms
from fedlearn.encoders.encoder import Updated
from fedlearn.encoders.gaussian_noise import GaussianNoise
from fedlearn.privacy.tree import Tree


class TreeNoise(GaussianNoise):
    """Noise that nearly cancels over rounds, for DP-FTRL.

    Of Kairouz et al. 2021, "Practical and private (deep) learning without
    sampling or shuffling" (arXiv:2103.00039), after Dwork et al. 2010,
    "Differential privacy under continual observation". A binary tree stands
    over the rounds; each of its nodes, a run of `2**k` rounds, has noise of
    its own. The sum of the aggregates of rounds 1 to `t` has the noise of at
    most `log2(t) + 1` nodes: round `t` adds the difference to round `t - 1`'s.
    So it needs no random sampling of clients, and it serves a server that
    adds aggregates up (SGD, with or without momentum).

    With `honaker=True` the noise of a node is averaged with what is known of
    the sum of its rounds from the nodes below it, with the weights of the
    smallest variance (Honaker 2015, "Efficient use of differentially private
    binary trees", the estimate from below).

    The noise of a node has the deviation `noise_multiplier` times the clip
    norm. What a run gives away `fedlearn.privacy.Tree` accounts for.

    Args:
        noise_multiplier: 0 for none.
        restart_every: After how many rounds a new tree begins; None for one
            tree. The sum at that time keeps the noise that it has.
        honaker: Whether to reduce the variance.
        max_rounds: How many rounds there is room for in one tree, if
            `restart_every` is None. The state holds `log2(max_rounds) + 1`
            arrays of the size of an update.

    Raises:
        ValueError: If an argument is out of its range; from `draw`, if there
            are more rounds than room.

    Example: three rounds.

    >>> tree = TreeNoise(1.0, honaker=False).build([ops.zeros(5)])
    >>> state, rng = tree.init(), np.random.default_rng(0)
    >>> for _ in range(3):
    ...     noise = tree.draw(state, rng)
    ...     state, _ = tree.update(state, (), noise)
    >>> int(state["round"])
    3
    """

    def __init__(
        self,
        noise_multiplier: float,
        restart_every: int | None = None,
        honaker: bool = True,
        max_rounds: int = 4096,
    ):
        super().__init__(noise_multiplier)
        checks.whole("max_rounds", max_rounds)
        if restart_every is not None:
            checks.whole("restart_every", restart_every)
        self.restart_every = restart_every
        self.honaker = honaker
        self.max_rounds = max_rounds

    @property
    def num_levels(self) -> int:
        """How many nodes the noise of a sum can have."""
        return (self.restart_every or self.max_rounds).bit_length()

    def init(self) -> Any:
        # Nodes are kept as the whole numbers of steps that were added, so
        # that those made of them later are made of what was released.
        return {
            "nodes": [
                ops.zeros(
                    (self.num_levels, *s.shape), noise_grid.steps_dtype(s)
                )
                for s in self.spec
            ],
            "round": ops.zeros((), "int32"),
        }

    def draw(self, state: Any, rng: np.random.Generator) -> Any:
        position = int(state["round"])
        if self.restart_every is not None:
            position %= self.restart_every
        elif position >= self.max_rounds:
            raise ValueError(
                f"This is round {position + 1}, and the tree of TreeNoise has "
                f"room for {self.max_rounds}. Give `max_rounds`, the number of "
                "all rounds of the run, or `restart_every`."
            )
        step = tree_step(position, self.num_levels, self.honaker)
        level = step.level
        # What ends with this node, and what of it is part of its noise: it
        # takes the place of all nodes below it.
        change = (step.of_nodes - 1)[:level] / noise_grid.STEPS_PER_DEVIATION
        steps = []
        for nodes in state["nodes"]:
            noise = step.of_new * noise_grid.draw(nodes.shape[1:], rng)
            below = ops.convert_to_numpy(nodes[:level])
            for weight, node in zip(change, below, strict=True):
                noise += weight * node
            dtype = keras.backend.standardize_dtype(nodes.dtype)
            steps.append(noise_grid.to_steps(noise, dtype))
        levels = np.arange(self.num_levels)
        return {
            "steps": steps,
            "ends": (levels < level).astype(np.int32),
            "begins": (levels == level).astype(np.int32),
            "stays": ((levels > level) & (position > 0)).astype(np.int32),
        }

    def update(self, state: Any, stats: Any, noise: Any) -> Updated:
        nodes = []
        for old, steps in zip(state["nodes"], noise["steps"], strict=True):
            ends, begins, stays = (
                ops.cast(norms.along_rows(noise[name], old), old.dtype)
                for name in ("ends", "begins", "stays")
            )
            # Some backends make more bits of it.
            new = steps + ops.cast(ops.sum(ends * old, axis=0), old.dtype)
            nodes.append(stays * old + begins * new)
        return {"nodes": nodes, "round": state["round"] + 1}, {}

    def dp_event(self) -> Any:
        """The tree as a whole, a `fedlearn.privacy.Tree`."""
        return Tree(self.noise_multiplier, self.restart_every)


class TreeStep(NamedTuple):
    """How the node over `2**level` rounds, completed by one, gets its noise.

    `of_nodes` has weights of the nodes that stand at each level before the
    round, `of_new` is that of a new standard normal number.
    """

    level: int
    of_nodes: np.ndarray
    of_new: float


def tree_step(position: int, num_levels: int, honaker: bool) -> TreeStep:
    """What one round, the `position`-th from 0, does to the tree.

    A round completes a leaf, and every node that ends with it. Only the
    largest of them is needed later. With `z_k` the noise of its own of the
    node at level `k`, `left_k` the node that stands there and `w_k` the
    weight of the smallest variance, the estimate from below is

        x_0 = z_0,  x_(k+1) = w_(k+1) z_(k+1) + (1 - w_(k+1)) (left_k + x_k).

    No `z` is ever used again, so their weighted sum is one normal number.
    """
    end = position + 1
    level = (end & -end).bit_length() - 1
    of_nodes = np.zeros(num_levels)
    variance_of_new = 1.0
    for k in range(1, level + 1):
        weight = node_variance(k) if honaker else 1.0
        of_nodes[k - 1] = 1.0
        of_nodes *= 1 - weight
        variance_of_new = weight**2 + (1 - weight) ** 2 * variance_of_new
    return TreeStep(level, of_nodes, math.sqrt(variance_of_new))


def node_variance(level: int) -> float:
    """The variance of Honaker's estimate of a node, if each node's own is 1.

    It is also the weight of the node's own noise: with that of variance 1 and
    two children of variance `v`, the best average has `2 v / (2 v + 1)`.
    """
    return 1 / (2 - 2.0**-level)
