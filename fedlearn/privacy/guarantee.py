from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from fedlearn import checks
from fedlearn.privacy.accountant import (
    Accountant,
    AccountantName,
    check_delta,
)
from fedlearn.privacy.composition import Composition, Neighbouring
from fedlearn.privacy.mechanism import as_mechanism
from fedlearn.privacy.participation import Participation

if TYPE_CHECKING:
    from fedlearn.samplers.sampler import Sampler

_NEIGHBOURS = {
    "add-or-remove-one": "one client is there or not",
    "replace-one": "one client has other data",
    "zero-out": "one client's data are there or not",
}


class Statement(NamedTuple):
    """An epsilon and all that it takes to mean something.

    Attributes:
        epsilon: Of (epsilon, delta)-differential privacy.
        delta: The delta that belongs to it.
        rounds: Number of rounds.
        neighbouring: Which data sets are neighbours; see `Composition`. The
            unit is a client with all of its data.
        sampling: How clients take part.
        mechanism: What noise is added.
        accountant: `"pld"` or `"rdp"`.
        composition: What was released, for a `fedlearn.privacy.Ledger`.
    """

    epsilon: float
    delta: float
    rounds: int
    neighbouring: Neighbouring
    sampling: str
    mechanism: str
    accountant: str
    composition: Composition | None = None

    def __str__(self) -> str:
        return (
            f"epsilon {self.epsilon:.4g} at delta {self.delta:.3g} after "
            f"{self.rounds:,} rounds, for a client with all of its data "
            f"({self.neighbouring}: {_NEIGHBOURS[self.neighbouring]}); "
            f"{self.sampling}; {self.mechanism}; accountant "
            f"{self.accountant.upper()}"
        )


class Guarantee:
    """The privacy of a run as a function of the number of its rounds.

    All rounds are taken for alike: of a run that began with other noise, other
    clients or another sampler it knows nothing. The epsilons of such parts add
    up, and so do the deltas.

    Args:
        mechanism: A `Mechanism`, or a `dp_accounting.DpEvent` that each round
            releases anew of those who take part: what a private aggregator's
            `dp_event()` returns.
        participation: A sampler or a `Participation`.
        delta: Above 0 and below 1; `None` for `population ** -1.1`, that of
            Andrew et al. 2021, https://arxiv.org/abs/1905.03871.

    Raises:
        NotImplementedError: If the sampler has no accounting.

    Example:

    >>> from fedlearn import samplers
    >>> from fedlearn.privacy import Gaussian
    >>> sampler = samplers.Poisson(map(str, range(10_000)), 100)
    >>> guarantee = Guarantee(Gaussian(1.0), sampler, delta=1e-5)
    >>> round(guarantee.epsilon(1000), 4)
    2.1014
    >>> print(guarantee.statement(1000, accountant="rdp"))
    epsilon 2.101 at delta 1e-05 after 1,000 rounds, for a client with all of
    its data (add-or-remove-one: one client is there or not); Poisson sampling
    of 100 in 10,000 clients; Gaussian noise, multiplier 1; accountant RDP
    """

    unit: ClassVar = "client"
    log_name: ClassVar = "epsilon"

    def __init__(
        self,
        mechanism: Any,
        participation: "Sampler | Participation",
        delta: float | None = None,
    ) -> None:
        self.mechanism = as_mechanism(mechanism)
        self.participation = (
            participation
            if isinstance(participation, Participation)
            else participation.participation
        )
        if delta is None:
            delta = self.participation.population**-1.1
        self.delta = check_delta(delta)
        self._accountant = Accountant()

    def composition(self, rounds: int) -> Composition:
        """What the first `rounds` rounds release."""
        rounds = checks.whole("rounds", rounds, least=0)
        if not rounds:
            # The sensitivity of no rounds is 0, which no multiplier matches.
            once = self.mechanism.compose(self.participation, 1)
            return once._replace(times=0)
        return self.mechanism.compose(self.participation, rounds)

    def epsilon(
        self,
        rounds: int,
        accountant: AccountantName | None = "rdp",
        delta: float | None = None,
    ) -> float:
        """Epsilon after some rounds.

        Args:
            rounds: Number of rounds.
            accountant: `"rdp"`, milliseconds; `"pld"`, tighter, seconds;
                `None` for the tightest that there is.
            delta: Another than that of the guarantee.
        """
        return self.statement(rounds, accountant, delta).epsilon

    def statement(
        self,
        rounds: int,
        accountant: AccountantName | None = None,
        delta: float | None = None,
    ) -> Statement:
        """Epsilon after some rounds, with all that it takes to mean something.

        Args as for `epsilon`; without an `accountant` the tightest is taken:
        PLD, or RDP where PLD can't account: with the sampler `Uniform`, noise
        that clients share, or so little noise that PLD would take too long.
        """
        composition = self.composition(rounds)
        delta = self.delta if delta is None else check_delta(delta)
        spent, name = self._accountant.epsilon(composition, delta, accountant)
        return Statement(
            spent,
            delta,
            int(rounds),
            composition.neighbouring,
            self.participation.description,
            repr(self.mechanism),
            name,
            composition,
        )
