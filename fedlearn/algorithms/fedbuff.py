import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from fedlearn import backend, checks
from fedlearn.aggregators.mean import Mean
from fedlearn.algorithms.federated_averaging import FederatedAveraging
from fedlearn.clients.algorithm import Algorithm
from fedlearn.conditions.conditions import Conditions
from fedlearn.conditions.durations import Durations
from fedlearn.conditions.fleet import Fleet
from fedlearn.conditions.simulated_rounds import bytes_sent, num_trained, tell
from fedlearn.conditions.trips import Trips
from fedlearn.encoders.integer_bytes import ModularIntegers
from fedlearn.messages.broadcast import Broadcast
from fedlearn.messages.server_state import ServerState
from fedlearn.process import LearningProcess
from fedlearn.runs.schedule import Schedule, Turn
from fedlearn.samplers import MinSeparation, Sampler

if TYPE_CHECKING:
    from fedlearn.data.federated_dataset import FederatedDataset


class FedBuff(FederatedAveraging):
    """FedBuff: asynchronous rounds, in which nobody waits for the slowest.

    Nguyen et al. 2022, "Federated learning with buffered asynchronous
    aggregation", arXiv:2106.06639, algorithm 1. Always `concurrency` clients
    are under way, each from the weights of when it started. When
    `buffer_size` of them have come back, the server moves by their mean, each
    times `(1 + staleness) ** -staleness_exponent`, its staleness being how
    often the server has moved since it started; whoever starts next gets the
    new weights.

    In `fit` a round is one move of the server. Time is simulated: what comes
    of a client doesn't depend on the machine, and a resumed run equals an
    unbroken one. `next` is a synchronous round. Logged with each round are the
    mean `staleness`, `client_trips` (how many came back so far) and `seconds`
    since the beginning.

    Who starts is drawn among those that are neither under way nor waiting in
    the buffer; under `fit(conditions=...)` with an availability it is who of
    them asks first. Each counts at most once in a round. That is what epsilon
    rests on where the aggregator adds noise: a fast client may be in every
    round, so nothing is gained by sampling.

    Of the conditions `deadline` is then a client's: one that takes longer is
    given up, is late, and another may start. `over_select` and `at_least` are
    of synchronous rounds: here `concurrency` and `buffer_size` say as much.

    Args:
        model: A compiled `keras.Model`.
        client: As for `FederatedAveraging`.
        buffer_size: How many updates the server waits for.
        concurrency: How many clients are under way; at most as many as there
            are.
        durations: How long clients take where `fit` has no `conditions`, as
            of `fedlearn.conditions.Conditions`; None for a second.
        staleness_exponent: 0.5 is the paper's; 0 weighs all alike.
        max_staleness: Updates that are staler are thrown away; None for none.
        aggregator: A mean whose denominator is `buffer_size`, such as
            `PrivateMean(..., clients_per_round=buffer_size)`; None for
            `Mean(weighting="uniform", denominator=buffer_size)`.
        **arguments: The others of `FederatedAveraging`.

    Raises:
        ValueError: If the aggregator can't weigh updates, or what clients
            send depends on the round in which they started.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> client = (np.ones((4, 2), "float32"), np.ones((4, 1), "float32"))
    >>> process = FedBuff(model, buffer_size=2, concurrency=3)
    >>> history = process.fit([client] * 5, rounds=3, verbose=0)
    >>> history.history["client_trips"]
    [2.0, 4.0, 6.0]
    """

    def __init__(
        self,
        model: keras.Model,
        client: Any = None,
        *,
        buffer_size: int = 10,
        concurrency: int = 100,
        durations: float | Mapping[str, float] | Durations | None = None,
        staleness_exponent: float = 0.5,
        max_staleness: int | None = None,
        aggregator: Any = None,
        **arguments: Any,
    ):
        self.buffer_size = checks.whole("buffer_size", buffer_size)
        self.concurrency = checks.whole("concurrency", concurrency)
        self.durations = durations
        if durations is not None:
            self.durations = Conditions(durations=durations).durations
        self.staleness_exponent = checks.number(
            "staleness_exponent", staleness_exponent
        )
        if max_staleness is not None:
            checks.whole("max_staleness", max_staleness, least=0)
        self.max_staleness = max_staleness
        if aggregator is None:
            aggregator = Mean(
                weighting="uniform", denominator=float(buffer_size)
            )
        super().__init__(model, client, aggregator=aggregator, **arguments)
        self._check()

    def schedule(
        self,
        data: "FederatedDataset",
        sampler: Sampler | None,
        conditions: Conditions | None = None,
    ) -> Schedule:
        if sampler is not None:
            raise ValueError(
                "FedBuff starts clients by its `concurrency` and waits for "
                "`buffer_size` of them. Leave `clients_per_round` and "
                "`sampler` out."
            )
        if conditions is not None and self.durations is not None:
            raise ValueError(
                "FedBuff's `durations` and the `conditions` both say how long "
                "clients take. Leave one of them out."
            )
        return Buffered(self, data, conditions)

    def _check(self) -> None:
        if self.client.adds_noise:
            raise ValueError(
                "How often a client's noise covers its examples depends on "
                "how often it comes back, which FedBuff doesn't know "
                "beforehand. Leave LocalTraining(dp=...) out, or train in "
                "synchronous rounds."
            )
        aggregator = self.aggregator
        fixed = isinstance(aggregator, Mean) and math.isclose(
            aggregator.denominator or 0.0, self.buffer_size
        )
        if not fixed or any(
            isinstance(link, ModularIntegers) for link in aggregator.encoders
        ):
            raise ValueError(
                "FedBuff weighs updates by their staleness and divides by "
                f"buffer_size={self.buffer_size}. Expected a mean of floats "
                "with that denominator: Mean(weighting='uniform', denominator="
                f"{self.buffer_size}), or PrivateMean(..., clients_per_round="
                f"{self.buffer_size}). Received: {aggregator!r}."
            )
        broadcast = self.broadcast(self.initialize())
        told = {
            "The aggregator's encoders": broadcast.params,
            "Its algorithm's methods": broadcast.algorithm,
        }
        for name, part in told.items():
            if keras.tree.flatten(part):
                raise ValueError(
                    f"{name} have told clients what changes from round "
                    "to round (a shared rotation, an adaptive norm, a control "
                    "variate), and FedBuff adds up updates of clients that "
                    "started in different ones. Leave it out, or train in "
                    "synchronous rounds."
                )
        if type(self.algorithm).server is not Algorithm.server:
            raise ValueError(
                f"What {type(self.algorithm).__name__} does at the server is "
                "of updates that count alike, and FedBuff weighs them by "
                "their staleness. Leave it out, or train in synchronous "
                "rounds."
            )


class Buffered(Schedule):
    """What `FedBuff` remembers: the clock, who is under way, what they got.

    A client trains when it is back, with the weights of when it started. Those
    that started with the same weights are run together, by the executor.
    """

    def __init__(
        self,
        process: FedBuff,
        data: "FederatedDataset",
        conditions: Conditions | None,
    ):
        if len(data) < process.buffer_size:
            raise ValueError(
                f"FedBuff waits for buffer_size={process.buffer_size} clients, "
                f"and the data have {len(data)}. Expected a smaller buffer, or "
                "more clients."
            )
        # What is known of who takes part: nobody twice in a round.
        self.sampler = MinSeparation(data, process.buffer_size, 1)
        self.staleness_exponent = process.staleness_exponent
        self.is_simulated = conditions is not None
        if conditions is None:
            seconds = 1.0 if process.durations is None else process.durations
            conditions = Conditions(durations=seconds)
        self.trips = Trips(
            Fleet(conditions, self.sampler, data.client_ids),
            process.buffer_size,
            process.concurrency,
            process.max_staleness,
        )

    def get_config(self) -> dict[str, Any]:
        """What two runs must have alike."""
        return {
            "buffer_size": self.trips.buffer_size,
            "concurrency": self.trips.concurrency,
            "durations": self.trips.fleet.conditions.durations,
            "staleness_exponent": self.staleness_exponent,
            "max_staleness": self.trips.max_staleness,
        }

    def initialize(self) -> Any:
        # And what a client downloads and uploads, and was sent at its start.
        return {
            **self.trips.initialize(),
            "bytes": np.zeros(2),
            "broadcasts": {},
        }

    def facts(self, state: ServerState) -> dict[str, Any]:
        if not self.is_simulated:
            return {}
        return {"attendance": self.trips.fleet.attendance(state.schedule)}

    def next(
        self,
        process: LearningProcess,
        state: ServerState,
        data: "FederatedDataset",
    ) -> Turn:
        now, before = int(state.round_num), state.schedule
        broadcast = process.broadcast(state)
        broadcasts = {
            **{
                int(version): Broadcast(*sent)
                for version, sent in before["broadcasts"].items()
            },
            now: broadcast.sent,
        }
        conditions = self.trips.fleet.conditions
        lengths = bytes_sent(process, state, data, conditions)
        kept, buffer, figures, in_vain = self.trips.round(
            before,
            now,
            int(state.seed),
            num_trained(process, data, conditions),
            *lengths,
        )
        total: Any = 0
        for version in sorted(set(buffer.values()), reverse=True):
            # In the order of the data, as in a synchronous round.
            together = [i for i in data.client_ids if buffer.get(i) == version]
            update = process.cohort_update(
                state._replace(round_num=np.asarray(version, np.int64)),
                broadcasts[version]._replace(resident=broadcast.resident),
                data.select(together),
            )
            staleness = float(now - version)
            total += update.scaled((1 + staleness) ** -self.staleness_exponent)
        state, metrics = process.server_update(state, broadcast, total)
        metrics["staleness"] = now - float(np.mean(list(buffer.values())))
        metrics["client_trips"] = float(kept["client_trips"])
        metrics["seconds"] = float(kept["seconds"])
        if self.is_simulated:
            lengths = tell(process, metrics, figures, in_vain, lengths)
        needed = {int(trip[2]) for trip in kept["under_way"].values()}
        kept = {
            **kept,
            "bytes": np.array(lengths),
            "broadcasts": {
                str(version): backend.to_numpy(tuple(broadcasts[version]))
                for version in sorted(needed)
            },
        }
        state = state._replace(schedule=kept)
        return Turn(state, metrics, data.select(list(buffer)))
