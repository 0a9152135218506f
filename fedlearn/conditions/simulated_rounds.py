from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fedlearn.conditions.conditions import Conditions
from fedlearn.conditions.durations import Durations
from fedlearn.conditions.fleet import Fleet
from fedlearn.runs.schedule import Schedule, Turn
from fedlearn.samplers import RoundRobin, Sampler

if TYPE_CHECKING:
    from fedlearn.data.federated_dataset import FederatedDataset
    from fedlearn.messages.server_state import ServerState
    from fedlearn.process import LearningProcess


class MayTakePart(Sampler):
    """Who can be in a round at most, where conditions choose.

    Whoever is first counts, so chance hides nobody: for the accounting a
    client is in every round that it can be in.
    """

    draws = "min_separation"

    def __init__(self, sampler: Sampler):
        super().__init__(sampler.client_ids, sampler.clients_per_round)
        self.sampler = sampler
        # Of a class of its own, an attribute by that name promises nothing.
        self.min_separation = (
            getattr(sampler, "min_separation", 1)
            if sampler.draws == self.draws
            else 1
        )

    def _sample(self, round_num: int) -> list[int]:
        places = {i: k for k, i in enumerate(self.client_ids)}
        return [places[i] for i in self.sampler.candidates(round_num)]


def num_trained(
    process: "LearningProcess", data: "FederatedDataset", conditions: Conditions
) -> Callable[[str], int | None]:
    """How many examples a client trains on, as of `Durations`."""
    # Noise hides a client's data, and not who the others of the round are:
    # that must not depend on them. And to count examples may be to read them.
    is_known = not process.aggregator.noise
    if not is_known or not isinstance(conditions.durations, Durations):
        return lambda client_id: None
    return lambda client_id: process.client.num_trained(
        data.num_examples(client_id)
    )


def bytes_sent(
    process: "LearningProcess",
    state: "ServerState",
    data: "FederatedDataset",
    conditions: Conditions,
) -> tuple[float, float]:
    """What a client downloads and uploads, if there is a network."""
    down, up = map(float, state.schedule["bytes"])
    if conditions.network is not None and not down:
        process.build(data.element_spec)  # metrics are sent, too
        down = float(process.bytes_down(process.broadcast(state)))
        up = float(process.program.bytes_up())
    return down, up


def tell(
    process: "LearningProcess",
    metrics: dict[str, float],
    figures: dict[str, float],
    in_vain: float,
    sent: tuple[float, float],
) -> tuple[float, float]:
    """Adds the simulation's `figures` to a round's metrics.

    `in_vain` are the clients that downloaded, and that its bytes don't count.
    Gives what a client downloads and uploads; `sent` if that can't be told.
    """
    if "bytes_down" not in metrics:  # private: who was asked isn't told either
        metrics["sim_hours"] = figures["sim_hours"]
        return sent
    down, up = sent
    if took_part := metrics["num_clients"] + metrics["num_rejected"]:
        down = metrics["bytes_down"] / took_part
        # Noise doesn't hide how long messages were: who counts must not
        # depend on it.
        if not process.aggregator.noise:
            up = metrics["bytes_up"] / took_part
    metrics["bytes_down"] += down * in_vain
    metrics.update(figures)
    return down, up


class SimulatedRounds(Schedule):
    """Synchronous rounds of the clients that are there, and in time."""

    def __init__(
        self,
        conditions: Conditions,
        sampler: Sampler | None,
        process: "LearningProcess",
        data: "FederatedDataset",
    ):
        drawn = sampler or RoundRobin(data, len(data), seed=None)
        if drawn.draws == "poisson":
            raise ValueError(
                "Under conditions a round is of those that are first, a fixed "
                "number; Poisson draws a varying one, by coins from which "
                "epsilon gains because nothing else decides. Give "
                "`clients_per_round`, or the sampler Uniform."
            )
        aggregator, client = process.aggregator, process.client
        aggregator.check_cohort(int(drawn.clients_per_round))
        self.sampler = MayTakePart(drawn)
        self.fleet = Fleet(
            conditions,
            drawn,
            data.client_ids,
            at_least=max(aggregator.num_required, 1),
            # What a client with noise of its own has sent is out, also where
            # the round was abandoned: once a round, as is accounted for.
            once=client.adds_noise,
        )
        goal = self.fleet.goal
        if aggregator.noise == "clients" and self.fleet.at_least < goal:
            raise ValueError(
                "Each client adds its share of the noise, so a round needs "
                f"all of its {goal:,} clients. Set at_least=1.0 in the "
                "conditions."
            )

    def initialize(self) -> Any:
        # And the bytes that a client downloads and uploads.
        return {**self.fleet.initialize(), "bytes": np.zeros(2)}

    def next(
        self,
        process: "LearningProcess",
        state: "ServerState",
        data: "FederatedDataset",
    ) -> Turn:
        sent = bytes_sent(process, state, data, self.fleet.conditions)
        kept, ids, figures = self.fleet.round(
            state.schedule,
            int(state.round_num),
            int(state.seed),
            num_trained(process, data, self.fleet.conditions),
            *sent,
        )
        clients = data.select(ids)
        state, metrics = process.next(state, clients)
        in_vain = figures["num_asked"] - len(ids)
        sent = tell(process, metrics, figures, in_vain, sent)
        kept = {**kept, "bytes": np.array(sent)}
        return Turn(state._replace(schedule=kept), metrics, clients)

    def facts(self, state: "ServerState") -> dict[str, Any]:
        return {"attendance": self.fleet.attendance(state.schedule)}
