import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np

from fedlearn import backend, checks, seeds
from fedlearn.aggregators.mean import Mean
from fedlearn.algorithms.federated_averaging import FederatedAveraging
from fedlearn.clients.algorithm import Algorithm
from fedlearn.conditions.durations import Durations
from fedlearn.conditions.simulated_rounds import num_trained
from fedlearn.data.client_id import as_client_ids
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
    the buffer, so each counts at most once in a round. That is what epsilon
    rests on where the aggregator adds noise: a fast client may be in every
    round, so nothing is gained by sampling.

    Args:
        model: A compiled `keras.Model`.
        client: As for `FederatedAveraging`.
        buffer_size: How many updates the server waits for.
        concurrency: How many clients are under way; at most as many as there
            are.
        durations: How long clients take, in seconds: one number for all, a
            dict from client id to seconds, or a
            `fedlearn.conditions.Durations`, such as `LogNormal()`.
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
        durations: float | Mapping[str, float] | Durations = 1.0,
        staleness_exponent: float = 0.5,
        max_staleness: int | None = None,
        aggregator: Any = None,
        **arguments: Any,
    ):
        self.buffer_size = checks.whole("buffer_size", buffer_size)
        self.concurrency = checks.whole("concurrency", concurrency)
        if isinstance(durations, Mapping):
            ids = as_client_ids(durations)
            durations = dict(zip(ids, durations.values(), strict=True))
        elif not isinstance(durations, Durations):
            durations = checks.positive("durations", durations)
        self.durations = durations
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
        self, data: "FederatedDataset", sampler: Sampler | None
    ) -> Schedule:
        if sampler is not None:
            raise ValueError(
                "FedBuff starts clients by its `concurrency` and waits for "
                "`buffer_size` of them. Leave `clients_per_round` and "
                "`sampler` out."
            )
        return Buffered(
            data,
            self.buffer_size,
            self.concurrency,
            self.durations,
            self.staleness_exponent,
            self.max_staleness,
        )

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


class _Trip(NamedTuple):
    """A client that is under way.

    Attributes:
        due: When it comes back.
        start: Its number among all starts.
        version: How often the server had moved when it started.
    """

    due: float
    start: int
    version: int


class Buffered(Schedule):
    """What `FedBuff` remembers: the clock, who is under way, what they got.

    A client trains when it is due, with the weights of when it started. Those
    that started with the same weights are run together, by the executor.
    """

    def __init__(
        self,
        data: "FederatedDataset",
        buffer_size: int,
        concurrency: int,
        durations: float | Mapping[str, float] | Durations,
        staleness_exponent: float,
        max_staleness: int | None,
    ):
        if len(data) < buffer_size:
            raise ValueError(
                f"FedBuff waits for buffer_size={buffer_size} clients, and "
                f"the data have {len(data)}. Expected a smaller buffer, or "
                "more clients."
            )
        if isinstance(durations, Mapping):
            for client_id in data.client_ids:
                checks.positive(
                    f"durations[{client_id!r}]", durations.get(client_id)
                )
        # What is known of who takes part: nobody twice in a round.
        self.sampler = MinSeparation(data, buffer_size, min_separation=1)
        self.buffer_size = buffer_size
        self.concurrency = concurrency
        self.durations = durations
        self.staleness_exponent = staleness_exponent
        self.max_staleness = max_staleness

    def initialize(self) -> Any:
        return {
            "seconds": np.zeros(()),
            "starts": np.zeros((), np.int64),
            "client_trips": np.zeros((), np.int64),
            "under_way": {},
            "broadcasts": {},
        }

    def next(
        self,
        process: LearningProcess,
        state: ServerState,
        data: "FederatedDataset",
    ) -> Turn:
        now, knows = int(state.round_num), num_trained(process, data)
        kept = state.schedule
        broadcast = process.broadcast(state)
        broadcasts = {
            **{
                int(version): Broadcast(*sent)
                for version, sent in kept["broadcasts"].items()
            },
            now: broadcast.sent,
        }
        under_way = {
            i: _Trip(float(due), int(start), int(version))
            for i, (due, start, version) in kept["under_way"].items()
            if i in data  # else it doesn't come back
        }
        clock, starts = float(kept["seconds"]), int(kept["starts"])
        came = int(kept["client_trips"])
        buffer: dict[str, int] = {}

        def fill() -> None:
            nonlocal starts
            free = len(data) - len(buffer)
            while len(under_way) < min(self.concurrency, free):
                key = seeds.fold(int(state.seed), "start", starts)
                client_id = _drawn(data, {*under_way, *buffer}, key)
                due = clock + self._seconds(client_id, key, knows(client_id))
                under_way[client_id] = _Trip(due, starts, now)
                starts += 1

        fill()
        while len(buffer) < self.buffer_size:
            client_id = min(under_way, key=lambda i: under_way[i][:2])
            trip = under_way.pop(client_id)
            clock = trip.due
            came += 1
            if (
                self.max_staleness is None
                or now - trip.version <= self.max_staleness
            ):
                buffer[client_id] = trip.version
            # All that come back at a moment do so before anyone starts anew.
            others = any(other.due == clock for other in under_way.values())
            if len(buffer) < self.buffer_size and not others:
                fill()

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
        metrics["client_trips"] = float(came)
        metrics["seconds"] = clock
        needed = {trip.version for trip in under_way.values()}
        kept = {
            "seconds": np.asarray(clock),
            "starts": np.asarray(starts, np.int64),
            "client_trips": np.asarray(came, np.int64),
            "under_way": {
                i: tuple(map(np.asarray, trip)) for i, trip in under_way.items()
            },
            "broadcasts": {
                str(version): backend.to_numpy(tuple(broadcasts[version]))
                for version in sorted(needed)
            },
        }
        state = state._replace(schedule=kept)
        return Turn(state, metrics, data.select(list(buffer)))

    def _seconds(
        self, client_id: str, seed: int, num_examples: int | None
    ) -> float:
        if isinstance(self.durations, Durations):
            seconds = self.durations.seconds(client_id, seed, num_examples)
            return checks.number(f"seconds of {client_id!r}", seconds)
        if isinstance(self.durations, Mapping):
            return float(self.durations[client_id])
        return self.durations


def _drawn(data: "FederatedDataset", busy: set[str], seed: int) -> str:
    """One of the clients that aren't busy, each as likely."""
    for attempt in itertools.count():
        position = seeds.fold(seed, "who", attempt) % len(data)
        client_id = data.client_ids[position]
        if client_id not in busy:
            break
    return client_id
