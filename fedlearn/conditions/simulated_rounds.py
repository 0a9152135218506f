import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fedlearn import seeds
from fedlearn.conditions.attempt import Attempt, attempt
from fedlearn.conditions.attendance import Attendance
from fedlearn.conditions.check_ins import MOST_DAYS, CheckIns
from fedlearn.conditions.conditions import Conditions
from fedlearn.data.fingerprint import ids_digest
from fedlearn.runs.schedule import Rounds, Schedule, Turn
from fedlearn.samplers import RoundRobin, Sampler

if TYPE_CHECKING:
    from fedlearn.data.federated_dataset import FederatedDataset
    from fedlearn.messages.server_state import ServerState
    from fedlearn.process import LearningProcess

_MOST_ATTEMPTS = 1000  # at one round


class MayTakePart(Sampler):
    """Who can be in a round at most, where conditions choose.

    Whoever is first counts, so chance hides nobody: for the accounting a
    client is in every round that it can be in.
    """

    draws = "min_separation"

    def __init__(self, sampler: Sampler):
        super().__init__(sampler.client_ids, sampler.clients_per_round)
        self.sampler = sampler
        self.min_separation = getattr(sampler, "min_separation", 1)

    def _sample(self, round_num: int) -> list[int]:
        places = {i: k for k, i in enumerate(self.client_ids)}
        return [places[i] for i in self.sampler.candidates(round_num)]


class SimulatedRounds(Schedule):
    """Synchronous rounds of the clients that are there, and in time.

    Remembers the clock, who is still at work, and who took part how often.
    """

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
                "Under conditions a round waits for a fixed number of "
                "clients, and Poisson draws a varying one. Give "
                "`clients_per_round`, or the sampler Uniform."
            )
        process.aggregator.check_cohort(int(drawn.clients_per_round))
        self.conditions = conditions
        self.drawn = drawn
        self.sampler = MayTakePart(drawn)
        self.goal = int(drawn.clients_per_round)
        self.at_least = max(
            math.ceil(conditions.at_least * self.goal),
            process.aggregator.num_required,
            1,
        )
        if process.aggregator.noise == "clients" and self.at_least < self.goal:
            raise ValueError(
                "Each client adds its share of the noise, so a round needs "
                f"all of its {self.goal:,} clients. Set at_least=1.0 in the "
                "conditions."
            )
        # What a client with noise of its own has sent is out, also where the
        # round was abandoned: once a round, as it is accounted for.
        self.once = process.client.adds_noise
        self.ids = data.client_ids
        self.positions = {i: k for k, i in enumerate(self.ids)}
        self.check_ins = None
        if conditions.availability is not None:
            self.check_ins = CheckIns(conditions.availability, self.ids)

    def initialize(self) -> Any:
        total = len(self.positions)
        digest = int(ids_digest(list(self.positions))[:15], 16)
        return {
            "clients": np.asarray(digest, np.int64),
            "seconds": np.zeros(()),
            "bytes": np.zeros(2),  # that a client downloads and uploads
            "free": np.zeros(total),  # when each is through with its work
            "asked": np.zeros(total, np.int64),
            "counted": np.zeros(total, np.int64),
        }

    def next(
        self,
        process: "LearningProcess",
        state: "ServerState",
        kept: Any,
        data: "FederatedDataset",
    ) -> Turn:
        kept = self._of_these_clients(kept)
        conditions = self.conditions
        clock, (down, up) = float(kept["seconds"]), map(float, kept["bytes"])
        if conditions.network is not None and not down:
            process.build(data.element_spec)  # metrics are sent, too
            down = float(process.bytes_down(process.broadcast(state)))
            up = float(process.program.bytes_up())
        free, asked, counted = (
            kept[name].copy() for name in ("free", "asked", "counted")
        )
        tried: set[int] = set()
        num_asked = num_dropped = num_late = 0
        wasted = 0.0
        for number in range(_MOST_ATTEMPTS):
            key = (int(state.seed), "conditions", int(state.round_num), number)
            who, begins = self._who_asks(state, clock, free, tried)
            works, gone = self._work(who, key, down, up)
            one = attempt(begins, works, gone, self.goal, conditions.deadline)
            clock = one.ends
            free[who[one.asked]] = one.free[one.asked]
            asked[who[one.asked]] += 1
            tried.update(who[one.asked].tolist())
            num_asked += int(one.asked.sum())
            num_dropped += int(one.dropped.sum())
            num_late += int(one.late.sum())
            wasted += one.wasted
            if one.counted.sum() >= self.at_least:
                break
            # Its updates go nowhere.
            wasted += float((one.free - begins)[one.counted].sum())
        else:
            raise ValueError(self._never(state, one, works))
        used = who[one.counted]
        counted[used] += 1
        clients = data.select(self._in_order(state, set(used.tolist())))
        state, metrics = process.next(state, clients)
        if "bytes_down" in metrics:  # else it is nobody's business
            sent = metrics["num_clients"] + metrics["num_rejected"]
            if sent:
                up, down = (
                    metrics[f"bytes_{d}"] / sent for d in ("up", "down")
                )
            # All that were asked downloaded the model.
            metrics["bytes_down"] += down * (num_asked - len(used))
            metrics["num_asked"] = float(num_asked)
            metrics["num_dropped"] = float(num_dropped)
            metrics["num_late"] = float(num_late)
            metrics["num_abandoned"] = float(number)
            metrics["wasted_hours"] = wasted / 3600
        metrics["sim_hours"] = clock / 3600
        kept = {
            "clients": kept["clients"],
            "seconds": np.asarray(clock),
            "bytes": np.array([down, up]),
            "free": free,
            "asked": asked,
            "counted": counted,
        }
        return Turn(state, kept, metrics, clients)

    def facts(self, kept: Any) -> dict[str, Any]:
        kept = self._of_these_clients(kept)
        asked, counted = (
            dict(zip(self.positions, kept[name].tolist(), strict=True))
            for name in ("asked", "counted")
        )
        return {"attendance": Attendance(asked, counted)}

    def _of_these_clients(self, kept: Any) -> Any:
        fresh = self.initialize()
        if not kept:  # there were rounds without conditions
            return fresh
        if kept["clients"] == fresh["clients"]:
            return kept
        return {**fresh, "seconds": kept["seconds"]}

    def _who_asks(
        self, state: "ServerState", clock: float, free: Any, tried: set[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions of those that would get work, and when, ascending."""
        wanted = math.ceil(self.conditions.over_select * self.goal - 1e-9)
        may = self._candidates(state)
        if self.once:
            may = (k for k in may if k not in tried)
        if self.check_ins is not None:
            found = self._check_in(wanted, set(may), clock, free)
        else:
            # Others first than those that were tried already.
            found = sorted(
                ((max(clock, float(free[k])), k) for k in may),
                key=lambda one: (one[0], one[1] in tried),
            )[:wanted]
        if not found:
            raise ValueError(self._nobody(state, clock))
        begins, who = zip(*found, strict=True)
        return np.array(who), np.array(begins)

    def _check_in(
        self, wanted: int, may: set[int], clock: float, free: Any
    ) -> list[tuple[float, int]]:
        assert self.check_ins is not None
        deadline = self.conditions.deadline
        found: dict[int, float] = {}
        last = math.inf
        for when, who in self.check_ins.after(clock):
            if len(found) == wanted or when > last:
                break
            if who in may and who not in found and free[who] <= when:
                if not found and deadline is not None:
                    last = when + deadline
                found[who] = when
        return [(when, who) for who, when in found.items()]

    def _work(
        self, who: np.ndarray, key: tuple, down: float, up: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """How long each works, and after how long it is gone, in seconds."""
        works, gone = np.zeros(len(who)), np.full(len(who), np.inf)
        for n, k in enumerate(who.tolist()):
            client_id = self.ids[k]
            seed = seeds.fold(*key, client_id)
            works[n] = self.conditions.seconds(client_id, seed, down, up)
            drops, moment = seeds.uniform(2, seed, "drop_out")
            if drops < self.conditions.drop_out:
                gone[n] = moment * works[n]
        return works, gone

    def _candidates(self, state: "ServerState") -> Iterator[int]:
        for client_id in self.drawn.candidates(int(state.round_num)):
            yield self.positions[client_id]

    def _in_order(self, state: "ServerState", used: set[int]) -> list[str]:
        """Ids in the order in which the sampler draws them."""
        found = (k for k in self._candidates(state) if k in used)
        return [self.ids[k] for k in itertools.islice(found, len(used))]

    def _nobody(self, state: "ServerState", clock: float) -> str:
        told = (
            f"Round {int(state.round_num) + 1} has nobody: within "
            f"{MOST_DAYS} days after hour {clock / 3600:.1f} "
        )
        if self.once:
            return told + (
                "no client asked for work that hadn't been asked in this "
                "round. With noise of clients each is asked once a round, also "
                "where the round is abandoned. Lower `at_least`, or raise "
                "`deadline`."
            )
        return told + (
            "no client that the sampler allows asked for work. Raise the "
            "availability (of a Trace: its clients must be those of `data`), "
            f"as it is: {self.conditions.availability!r}."
        )

    def _never(
        self, state: "ServerState", one: Attempt, works: np.ndarray
    ) -> str:
        return (
            f"Round {int(state.round_num) + 1} was abandoned "
            f"{_MOST_ATTEMPTS:,} times: {self.at_least:,} clients must report "
            f"(`at_least`), and of {int(one.asked.sum()):,} that were asked "
            f"last {int(one.counted.sum()):,} did; "
            f"{int(one.dropped.sum()):,} dropped out, and the quickest takes "
            f"{works.min():.3g} s of a deadline of "
            f"{self.conditions.deadline or math.inf:g} s. Lower `at_least` or "
            "`drop_out`, or raise `deadline`, `over_select` or the "
            "availability."
        )
