import itertools
from collections.abc import Sequence
from typing import Any

import keras

from fedlearn import checks, serialization
from fedlearn.clients.cohort import Cohort
from fedlearn.clients.program import ClientProgram
from fedlearn.executors.executor import (
    Executor,
    Portable,
    Run,
    RunCohort,
    Seeds,
    Shard,
)
from fedlearn.executors.total import cover
from fedlearn.messages import wire
from fedlearn.messages.broadcast import Received
from fedlearn.messages.update import StackedUpdate, TierTraffic, Update
from fedlearn.names import EXECUTORS


class Tiers(Executor):
    """Tells what goes between tiers that add up a round's updates.

    Hierarchical aggregation, as in Bonawitz et al. 2019, "Towards federated
    learning at scale", section 4: a server that can't take in the updates of
    all clients gets the sums of those who can take in some. A tier has
    neighbours among the cohort's shards, and sends nodes of the one tree in
    which partial sums are always added, one or two mostly. So a round has the
    same bits with any tiers and without, whoever adds up: that is `executor`,
    whose workers, if it has some, sum what they are given.

    What went between tiers is in a round's metrics, by level, from 1 for the
    tiers next to the server: `tier_1_bytes_up`, all their partial sums as
    bytes of `fedlearn.messages.wire`, and `tier_1_bytes_down`, the broadcast
    to each. `bytes_up` and `bytes_down` stay those of clients. A tier that is
    given no shard, of fewer shards than tiers, isn't counted.

    Args:
        children: The tiers below the server: how many there are, or a list
            that says the same of each: 0 of one next to clients. `3` is
            `[0, 0, 0]`, and `[4, 4]` are two tiers of four each.
        executor: Which runs the clients.

    Raises:
        ValueError: If `children` is no such number or list, or 0; in a
            process, if `executor` doesn't run a cohort in shards.

    Example: two regions, one of which has two edges.

    >>> import keras, numpy as np, fedlearn as fl
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    >>> process = fl.FederatedAveraging(
    ...     model, executor=Tiers([2, 0], "sequential"))
    >>> client = (np.ones((4, 2), "float32"), np.ones((4, 1), "float32"))
    >>> _, metrics = process.next(process.initialize(), [client] * 8)
    >>> metrics["tier_2_bytes_down"] == 2 * metrics["bytes_down"] / 8
    True
    """

    def __init__(
        self, children: int | Sequence[Any], executor: str | Executor = "auto"
    ):
        self.children = _checked(children)
        self.executor = serialization.get(
            executor, EXECUTORS, Executor, "executor"
        )

    @property
    def in_one_process(self) -> Executor:
        return self.executor.in_one_process

    @property
    def threads(self) -> int | None:
        return self.executor.threads

    def plan(self, program: ClientProgram) -> str:
        return self.executor.plan(program)

    def place(self, work: Portable) -> Run:
        return self.executor.place(work)

    def bind(self, program: ClientProgram) -> RunCohort:
        run = self.executor.bind(program)
        if not isinstance(run, Run):
            raise ValueError(
                f"{self!r}: this executor doesn't divide a cohort into shards. "
                "Put Tiers into it, if it takes an executor."
            )

        def run_in_tiers(
            broadcast: Received, cohort: Cohort, seeds: Seeds
        ) -> Update:
            total = run(broadcast, cohort, seeds)
            sent = traffic(self.children, run.shards(cohort), total)
            return total._replace(tiers=sent)

        return run_in_tiers


def _checked(children: Any) -> Any:
    if isinstance(children, (list, tuple)) and children:
        return [child if child == 0 else _checked(child) for child in children]
    return checks.whole("children", children, meaning="or a list of tiers")


def traffic(
    children: int | Sequence[Any], shards: Sequence[Shard], total: Update
) -> list[TierTraffic]:
    """Of each level of tiers, from the server down.

    Args:
        children: As of `Tiers`.
        shards: The cohort's.
        total: Their sum.
    """

    def num_bytes(node: range) -> int:
        if not isinstance(total, StackedUpdate):
            return whole
        rows = sum(len(shards[number].positions) for number in node)
        summand = keras.tree.map_structure(
            lambda a: keras.KerasTensor((rows, *a.shape[1:]), a.dtype),
            total.summand,
        )
        return wire.length((summand, *total.sums[1:]))

    whole = wire.length(total.sums)
    levels = []
    tiers = [(children, range(len(shards)))]
    while tiers := [pair for tier in tiers for pair in _below(*tier)]:
        nodes = [node for _, part in tiers for node in cover(part, len(shards))]
        levels.append(TierTraffic(len(tiers), sum(map(num_bytes, nodes))))
    return levels


def _below(
    children: int | Sequence[Any], shards: range
) -> list[tuple[int | Sequence[Any], range]]:
    """The tiers of a tier, and what each has of its shards."""
    if isinstance(children, int):
        children = [0] * children
    parts = division(shards, len(children)) if children else []
    return [pair for pair in zip(children, parts, strict=True) if pair[1]]


def division(shards: range, parts: int) -> list[range]:
    """About equal parts, cut at multiples of a power of two.

    What is added up in one is then a node or two of the tree of `Total`, or
    three.

    >>> division(range(64), 4)
    [range(0, 16), range(16, 32), range(32, 48), range(48, 64)]
    >>> division(range(10), 3), division(range(2), 3)
    ([range(0, 4), range(4, 6), range(6, 10)], \
[range(0, 1), range(1, 1), range(1, 2)])
    """
    first, end, each = shards.start, shards.stop, len(shards) / parts
    step = 1 << max(int(each).bit_length() - 1, 0)
    cuts = [round((first + k * each) / step) * step for k in range(1, parts)]
    bounds = [first, *(min(max(cut, first), end) for cut in cuts), end]
    return list(itertools.starmap(range, itertools.pairwise(bounds)))
