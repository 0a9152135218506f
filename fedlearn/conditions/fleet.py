import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedlearn import seeds
from fedlearn.conditions.attempt import Attempt, attempt
from fedlearn.conditions.attendance import Attendance
from fedlearn.conditions.check_ins import MOST_DAYS, CheckIns
from fedlearn.conditions.conditions import Conditions
from fedlearn.data.fingerprint import ids_digest
from fedlearn.samplers import Sampler

_MOST_ATTEMPTS = 1000  # at one round


class FleetRound(NamedTuple):
    """A round of a fleet.

    Attributes:
        kept: What the fleet remembers after it.
        clients: The ids of those that count, in the sampler's order.
        figures: What is logged of it.
    """

    kept: Any
    clients: list[str]
    figures: dict[str, float]


class Fleet:
    """Clients under conditions: who is in which round, and when it ends.

    Remembers, in what it is given and gives back, the clock, who is still at
    work, and who took part how often.

    Args:
        conditions: What they are like.
        sampler: Who may be asked in a round.
        client_ids: All of them.
        at_least: How many must report for a round.
        once: Whether nobody is asked twice for a round, not even where it was
            abandoned.
    """

    def __init__(
        self,
        conditions: Conditions,
        sampler: Sampler,
        client_ids: Sequence[str],
        at_least: int = 1,
        once: bool = False,
    ):
        self.conditions = conditions
        self.sampler = sampler
        self.goal = int(sampler.clients_per_round)
        self.at_least = max(
            math.ceil(conditions.at_least * self.goal), at_least
        )
        self.once = once
        self.ids = client_ids
        self.positions = {i: k for k, i in enumerate(client_ids)}
        self._digest = int(ids_digest(list(client_ids))[:15], 16)
        self.check_ins = None
        if conditions.availability is not None:
            self.check_ins = CheckIns(conditions.availability, client_ids)

    def initialize(self) -> Any:
        """What it remembers at midnight of the first day."""
        total = len(self.ids)
        return {
            "clients": np.asarray(self._digest, np.int64),
            "seconds": np.zeros(()),
            "free": np.zeros(total),  # when each is through with its work
            "asked": np.zeros(total, np.int64),
            "counted": np.zeros(total, np.int64),
        }

    def round(
        self,
        kept: Any,
        round_num: int,
        seed: int,
        num_trained: Callable[[str], int | None],
        bytes_down: float = 0.0,
        bytes_up: float = 0.0,
    ) -> FleetRound:
        """The round that follows; what is given isn't changed.

        Args:
            kept: From `initialize`, or of the round before.
            round_num: Its number, from 0.
            seed: Of the run.
            num_trained: How many examples a client trains on, as of
                `Durations`.
            bytes_down: What a client downloads.
            bytes_up: What it uploads.

        Raises:
            ValueError: If nobody asks for work, or too few report ever again.
        """
        kept = self.of_these_clients(kept)
        clock = float(kept["seconds"])
        free, asked, counted = (
            kept[name].copy() for name in ("free", "asked", "counted")
        )
        tried: set[int] = set()
        num_asked = num_dropped = num_late = 0
        wasted = 0.0
        for number in range(_MOST_ATTEMPTS):
            who, begins = self._who_asks(round_num, clock, free, tried)
            key = (seed, "conditions", round_num, number)
            works, gone = self._work(
                who, key, num_trained, bytes_down, bytes_up
            )
            deadline = self.conditions.deadline
            one = attempt(begins, works, gone, self.goal, deadline)
            clock = one.ends
            at = who[one.asked]
            free[at] = one.free[one.asked]
            asked[at] += 1
            tried.update(at.tolist())
            num_asked += len(at)
            num_dropped += int(one.dropped.sum())
            num_late += int(one.late.sum())
            wasted += one.wasted
            if one.counted.sum() >= self.at_least:
                break
            # Its updates go nowhere.
            wasted += float((one.free - begins)[one.counted].sum())
        else:
            raise ValueError(self._never(round_num, one, works))
        used = who[one.counted]
        counted[used] += 1
        kept = {
            "clients": kept["clients"],
            "seconds": np.asarray(clock),
            "free": free,
            "asked": asked,
            "counted": counted,
        }
        figures = {
            "sim_hours": clock / 3600,
            "num_asked": float(num_asked),
            "num_dropped": float(num_dropped),
            "num_late": float(num_late),
            "num_abandoned": float(number),
            "wasted_hours": wasted / 3600,
        }
        clients = self._in_order(round_num, set(used.tolist()))
        return FleetRound(kept, clients, figures)

    def attendance(self, kept: Any) -> Attendance:
        """Who took part so far."""
        kept = self.of_these_clients(kept)
        return Attendance(
            *(
                dict(zip(self.ids, kept[name].tolist(), strict=True))
                for name in ("asked", "counted")
            )
        )

    def of_these_clients(self, kept: Any) -> Any:
        """What it remembers, but the clock, only of the same clients."""
        if kept["clients"] == self._digest:
            return kept
        return {**kept, **self.initialize(), "seconds": kept["seconds"]}

    def _who_asks(
        self, round_num: int, clock: float, free: Any, tried: set[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions of those that would get work, and when, ascending."""
        wanted = math.ceil(self.conditions.over_select * self.goal - 1e-9)
        may = self._candidates(round_num)
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
            raise ValueError(self.nobody(round_num, clock))
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
        self,
        who: np.ndarray,
        key: tuple,
        num_trained: Callable[[str], int | None],
        *sent: float,
    ) -> tuple[np.ndarray, np.ndarray]:
        """How long each works, and after how long it is gone, in seconds."""
        works, gone = np.zeros((2, len(who)))
        for n, k in enumerate(who.tolist()):
            client_id = self.ids[k]
            seed = seeds.fold(*key, client_id)
            works[n] = self.conditions.seconds(
                client_id, seed, num_trained(client_id), *sent
            )
            gone[n] = self.conditions.leaves_after(works[n], seed)
        return works, gone

    def _candidates(self, round_num: int) -> Iterator[int]:
        for client_id in self.sampler.candidates(round_num):
            yield self.positions[client_id]

    def _in_order(self, round_num: int, used: set[int]) -> list[str]:
        """Ids in the order in which the sampler draws them."""
        found = (k for k in self._candidates(round_num) if k in used)
        return [self.ids[k] for k in itertools.islice(found, len(used))]

    def nobody(self, round_num: int, clock: float) -> str:
        """What is said where no client asks for work."""
        told = (
            f"Round {round_num + 1} has nobody: within "
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

    def _never(self, round_num: int, one: Attempt, works: np.ndarray) -> str:
        return (
            f"Round {round_num + 1} was abandoned "
            f"{_MOST_ATTEMPTS:,} times: {self.at_least:,} clients must report "
            f"(`at_least`), and of {int(one.asked.sum()):,} that were asked "
            f"last {int(one.counted.sum()):,} did; "
            f"{int(one.dropped.sum()):,} dropped out, and the quickest takes "
            f"{works.min():.3g} s of a deadline of "
            f"{self.conditions.deadline or math.inf:g} s. Lower `at_least` or "
            "`drop_out`, or raise `deadline`, `over_select` or the "
            "availability."
        )
