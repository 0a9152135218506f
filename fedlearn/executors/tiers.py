import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from fedlearn import serialization
from fedlearn.clients.cohort import Cohort
from fedlearn.clients.program import ClientProgram
from fedlearn.executors.executor import Executor, Run, Seeds, Shard
from fedlearn.executors.total import Total
from fedlearn.messages import wire
from fedlearn.messages.broadcast import Received
from fedlearn.messages.update import TierTraffic, Update
from fedlearn.names import EXECUTORS


class Tiers(Executor):
    """Adds up in tiers: each sums its part of the cohort, and sends that on.

    Hierarchical aggregation, as in Bonawitz et al. 2019, "Towards federated
    learning at scale", section 4: a server that can't take in the updates of
    all clients gets the sums of those who can take in some. Whatever the tree
    of tiers, a round has the same bits as without: a tier is given neighbours
    among the cohort's shards, and what it sends are nodes of the one tree in
    which partial sums are always added, one or two mostly.

    What went between tiers is in a round's metrics, by level, from 1 for the
    tiers next to the server: `tier_1_bytes_up`, all their partial sums as
    bytes of `fedlearn.messages.wire`, and `tier_1_bytes_down`, the broadcast
    to each. `bytes_up` and `bytes_down` stay those of clients. A tier that is
    given no shard, of fewer shards than tiers, isn't counted.

    Args:
        children: The tiers next to the server: executors, strings for them,
            or `Tiers` again. All must run clients alike; equal ones share
            what they compile and their workers, and take turns.

    Raises:
        ValueError: If there is no child; in a process, if children run
            clients in ways that round differently.
        TypeError: In a process, if a child doesn't run a cohort in shards.

    Example: two regions, one of which has two edges.

    >>> import keras, numpy as np, fedlearn as fl
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    >>> edge = fl.executors.Sequential()
    >>> process = fl.FederatedAveraging(
    ...     model, executor=Tiers([Tiers([edge, edge]), edge]))
    >>> client = (np.ones((4, 2), "float32"), np.ones((4, 1), "float32"))
    >>> _, metrics = process.next(process.initialize(), [client] * 8)
    >>> metrics["tier_2_bytes_down"] == 2 * metrics["bytes_down"] / 8
    True
    """

    def __init__(self, children: Sequence[str | Executor]):
        if not (isinstance(children, (list, tuple)) and children):
            raise ValueError(
                "`children` must be a list of the tiers next to the server, "
                'for example Tiers(["auto", "auto"]). '
                f"Received: {children!r}."
            )
        self.children = tuple(
            serialization.get(child, EXECUTORS, Executor, "children")
            for child in children
        )

    @property
    def in_one_process(self) -> Executor:
        return self.children[0].in_one_process

    @property
    def threads(self) -> int | None:
        return self.children[0].threads

    def bind(self, program: ClientProgram) -> Run:
        self._check(program)
        runs: list[Run] = []
        for child in self.children:
            first = self.children.index(child)
            if first < len(runs):
                runs.append(runs[first])
                continue
            run = child.bind(program)
            if not isinstance(run, Run):
                raise TypeError(
                    f"{child!r} doesn't divide a cohort into shards, so it "
                    "can't be given a part: put Tiers into it, if it takes "
                    "an executor."
                )
            runs.append(run)
        return _Tier(program, runs)

    def _check(self, program: ClientProgram) -> None:
        ways = {
            (child.in_one_process.plan(program), child.threads): child
            for child in self.children
        }
        if len(ways) > 1:
            (one, first), (other, second), *_ = ways.items()
            raise ValueError(
                "All `children` of Tiers must run clients alike, or a sum's "
                f"last bits would depend on who made it. {first!r} runs them "
                f"by {one[0]} with threads={one[1]}, and {second!r} by "
                f"{other[0]} with threads={other[1]}."
            )


class _Tier(Run):
    def __init__(self, program: ClientProgram, children: Sequence[Run]):
        super().__init__(program)
        self._children = children

    def shards(self, cohort: Cohort) -> list[Shard]:
        return self._children[0].shards(cohort)

    def run_shard(self, *args: Any, **kwargs: Any) -> Update:
        return self._children[0].run_shard(*args, **kwargs)

    def run_shards(
        self,
        broadcast: Received,
        cohort: Cohort,
        seeds: Seeds,
        shards: Mapping[int, Shard],
        total: Total,
    ) -> None:
        bounds = division(min(shards), max(shards) + 1, len(self._children))
        for child, part in zip(
            self._children, itertools.pairwise(bounds), strict=True
        ):
            own = {number: shards[number] for number in range(*part)}
            if not own:
                continue
            sums = self.total(total.num_shards)
            child.run_shards(broadcast, cohort, seeds, own, sums)
            for node, first, last in sums.nodes():
                sent = wire.length(node.sums)
                here = TierTraffic(int(first == part[0]), sent)
                node = node._replace(tiers=[here, *node.tiers])
                total.add(node, first, last)


def division(first: int, end: int, parts: int) -> list[int]:
    """Where each part of a range begins, and where the last one ends.

    About equal parts, between multiples of a power of two: what is added up
    in one is then a node or two of the tree of `Total`, or three.

    >>> division(0, 64, 4), division(0, 10, 3), division(0, 2, 3)
    ([0, 16, 32, 48, 64], [0, 4, 6, 10], [0, 1, 1, 2])
    """
    each = (end - first) / parts
    step = 1 << max(int(each).bit_length() - 1, 0)
    inner = [round((first + k * each) / step) * step for k in range(1, parts)]
    return [first, *(min(max(i, first), end) for i in inner), end]
