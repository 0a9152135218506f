import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.data.fingerprint import ids_digest
from fedlearn.privacy.guarantee import Guarantee
from fedlearn.privacy.mechanism import as_mechanism
from fedlearn.privacy.participation import Participation
from fedlearn.samplers import Sampler

if TYPE_CHECKING:
    from fedlearn.clients.program import ClientProgram
    from fedlearn.messages.server_state import ServerState
    from fedlearn.process import LearningProcess

    _Rounds = tuple[ServerState, dict[str, str]]

# Of each process the state of its last `fit`, and the terms of its rounds. By
# its program, as processes that are configured alike are equal.
_ROUNDS: "weakref.WeakKeyDictionary[ClientProgram, _Rounds]" = (
    weakref.WeakKeyDictionary()
)

# Where a history has the statement for a client, and for one of its examples.
_PRIVACY_OF = {"client": "privacy", "example": "privacy_example"}


class RunPrivacy:
    """The guarantees of a run: for clients, for single examples, or none.

    Raises ValueError if noise and sampling don't go together.
    """

    def __init__(
        self,
        process: "LearningProcess",
        data: FederatedDataset,
        sampler: Sampler | None,
    ):
        self.guarantees = process.guarantees(data, sampler)
        of = {g.unit: g for g in self.guarantees}
        examples = of.get("example")
        self._process = process
        # What all rounds are taken to have had in common.
        self._terms: dict[str, str] = {}
        if self.guarantees:
            drawn = data.client_ids if sampler is None else sampler.client_ids
            self._terms = {
                "sampling": "everyone"
                if sampler is None
                else sampler.terms(who_counts=examples is not None),
                "clients": ids_digest(drawn),
            }
        if examples is not None:
            sizes = examples.num_examples.items()
            self._terms["numbers of examples"] = ids_digest(
                [f"{n} {i}" for i, n in sizes]
            )
        self._as_if = 0

    def give_to(self, callbacks: Sequence[Any]) -> None:
        """Tells callbacks that have a use for it, such as `PrivacyBudget`."""
        for callback in callbacks:
            if self.guarantees and hasattr(callback, "set_guarantee"):
                callback.set_guarantee(*self.guarantees)

    def check_earlier_rounds(self, state: "ServerState", known: bool) -> None:
        """Raises ValueError if a state's rounds are known to have been others.

        Unless it is `known` to be the process's own, they count as if they had
        been like this run's.
        """
        if not self.guarantees or not int(state.round_num):
            return
        at, terms = _ROUNDS.get(self._process.program, (None, {}))
        if at is not state:
            self._as_if = int(state.round_num)
            return
        differ = [n for n, term in self._terms.items() if terms.get(n) != term]
        if differ and known:
            raise ValueError(
                f"The {int(state.round_num):,} rounds so far had other "
                f"{' and '.join(differ)} than this `fit`, and one epsilon "
                "can't count both. Go on with the same, start afresh with "
                "`initial_state=process.initialize(seed)` and add up the "
                "epsilons, or give `initial_state=process.state` to count "
                "them as if they had been like these."
            )
        self._as_if = int(state.round_num) if differ else 0

    def remember(self, state: "ServerState") -> None:
        """Notes under which terms the rounds of a state were run."""
        if self.guarantees:
            _ROUNDS[self._process.program] = state, self._terms

    def epsilons(self, rounds: int) -> dict[str, float]:
        """What is spent after some rounds, by its name in the logs."""
        return {g.log_name: g.epsilon(rounds) for g in self.guarantees}

    def state_in(self, history: Any, rounds: int) -> list[Any]:
        """The statements after some rounds, which a history gets too."""
        statements = []
        for guarantee in self.guarantees:
            statements.append(guarantee.statement(rounds))
            setattr(history, _PRIVACY_OF[guarantee.unit], statements[-1])
        return statements

    def tell_limits(self) -> None:
        """Prints what a private run doesn't promise."""
        if not self.guarantees:
            return
        process, told = self._process, []
        for guarantee in self.guarantees:
            part = getattr(guarantee, "participation", None)
            if part is not None and part.sampler == "poisson":
                told.append(
                    f"{part.description}: each takes part by its own coin, so "
                    "that rounds differ in size, which is what noise is "
                    "planned for. For a fixed number give a `sampler`."
                )
            if part is not None and part.sampler == "min_separation":
                told.append(
                    f"{part.description}: sampling hides nobody, and epsilon "
                    "counts each round that a client may be in."
                )
        if self._as_if:
            told.append(
                f"the {self._as_if:,} rounds of the initial state are counted "
                "as if they had had this noise, these clients and this "
                "sampling. If they hadn't, epsilon is another."
            )
        if process.privacy.delta is None:
            at = " and ".join(f"{g.delta:.3g}" for g in self.guarantees)
            told.append(
                f"epsilon is at delta {at}, as nobody gave one. "
                "privacy=Privacy(delta=...) sets another; of a plan it is "
                "privacy=plan.privacy()."
            )
        if not process.privacy.secure_noise:
            way_out = (
                "clients of a deployment draw their shares themselves."
                if process.aggregator.noise == "clients"
                else "privacy=Privacy(secure_noise=True) draws from the "
                "operating system."
            )
            told.append(
                "the noise is drawn from the run's seed: reproducible, for "
                "simulation. Whoever knows the seed can take it off; "
                f"{way_out}"
            )
        if not process.privacy.private_metrics:
            told.append(
                "clients' metrics (loss, num_examples, ...) are exact, "
                "outside the guarantee. privacy=Privacy(private_metrics=True) "
                "leaves them out."
            )
        for text in told:
            print(f"Privacy: {text}")


def guarantees(
    process: "LearningProcess", data: FederatedDataset, sampler: Sampler | None
) -> list[Any]:
    """What is promised: to clients, to single examples, both or neither.

    Args:
        data: All clients.
        sampler: Who takes part; None for everyone in every round.

    Raises:
        ValueError: If noise and sampling don't go together.
    """
    of = _of_clients, _of_examples
    found = (f(process, data, sampler) for f in of)
    return [g for g in found if g is not None]


def draws_by_poisson(
    process: "LearningProcess", population: int, clients_per_round: float
) -> bool:
    """Whether `clients_per_round` is a number on average, each by a coin.

    Of a `population` of all clients. Noise that clients share, or that is on
    sums which wrap around, takes rounds of a fixed size.
    """
    aggregator = process.aggregator
    if not aggregator.noise or not 0 < clients_per_round <= population:
        return False
    drawn = Participation("poisson", population, clients_per_round)
    try:
        as_mechanism(aggregator.dp_event()).compose(drawn, 1)
    except ValueError:
        return False
    return True


def _of_clients(
    process: "LearningProcess", data: FederatedDataset, sampler: Sampler | None
) -> Any:
    """The privacy of the run by its noise and sampling; None without noise."""
    aggregator = process.aggregator
    if not aggregator.noise:
        return None
    expected = len(data) if sampler is None else sampler.clients_per_round
    divided_by = getattr(aggregator, "denominator", None)
    if divided_by is not None and divided_by != expected:
        raise ValueError(
            f"The aggregator divides by {divided_by:g} clients per round, but "
            f"{expected:g} take part. Give both the same number; else updates "
            "count too much or too little."
        )
    return Guarantee(
        aggregator.dp_event(),
        Participation("full", len(data)) if sampler is None else sampler,
        delta=process.privacy.delta,
    )


def _of_examples(
    process: "LearningProcess", data: FederatedDataset, sampler: Sampler | None
) -> Any:
    """The privacy of clients' single examples; None without their noise."""
    if not process.client.adds_noise:
        return None
    ids = data.client_ids if sampler is None else sampler.client_ids
    sizes = {i: data.num_examples(i) for i in ids}
    return process.client.guarantee(sizes, sampler, process.privacy.delta)
