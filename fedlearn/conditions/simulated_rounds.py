from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fedlearn.conditions.conditions import Conditions
from fedlearn.conditions.fleet import Fleet
from fedlearn.runs.schedule import Rounds, Schedule, Turn
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
    process: "LearningProcess", data: "FederatedDataset"
) -> Callable[[str], int | None]:
    """How many examples a client trains on, as of `Durations`."""
    # Noise hides a client's data, and not who the others of the round are:
    # that must not depend on them.
    if process.aggregator.noise:
        return lambda client_id: None
    return lambda client_id: process.client.num_trained(
        data.num_examples(client_id)
    )


class SimulatedRounds(Schedule):
    """Synchronous rounds of the clients that are there, and in time."""

    def __init__(
        self,
        conditions: Conditions,
        rounds: Schedule,
        process: "LearningProcess",
        data: "FederatedDataset",
    ):
        if not isinstance(rounds, Rounds):
            raise ValueError(
                f"`conditions` are for synchronous rounds, and "
                f"{type(process).__name__} has a clock of its own. Leave them "
                "out; how long clients take is its `durations`, such as "
                "FedBuff(model, durations=fl.conditions.LogNormal(60.0))."
            )
        drawn = rounds.sampler
        if drawn is None:
            drawn = RoundRobin(data, len(data), seed=None)
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
        self.is_private = process.privacy.private_metrics
        self.fleet = Fleet(
            conditions,
            drawn,
            data.client_ids,
            num_trained(process, data),
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
        down, up = map(float, state.schedule["bytes"])
        if self.fleet.conditions.network is not None and not down:
            process.build(data.element_spec)  # metrics are sent, too
            down = float(process.bytes_down(process.broadcast(state)))
            up = float(process.program.bytes_up())
        kept, ids, figures = self.fleet.round(
            state.schedule, int(state.round_num), int(state.seed), down, up
        )
        clients = data.select(ids)
        state, metrics = process.next(state, clients)
        if "bytes_down" in metrics:
            sent = metrics["num_clients"] + metrics["num_rejected"]
            if sent:
                down = metrics["bytes_down"] / sent
                # Noise doesn't hide how long messages were: who counts must
                # not depend on it.
                if not process.aggregator.noise:
                    up = metrics["bytes_up"] / sent
            # All that were asked downloaded the model.
            metrics["bytes_down"] += down * (figures["num_asked"] - len(ids))
            metrics.update(figures)
        else:  # of private metrics, who was asked is nobody's business
            metrics["sim_hours"] = figures["sim_hours"]
        kept = {**kept, "bytes": np.array([down, up])}
        return Turn(state._replace(schedule=kept), metrics, clients)

    def facts(self, state: "ServerState") -> dict[str, Any]:
        if self.is_private:
            return {}
        return {"attendance": self.fleet.attendance(state.schedule)}
