"""What noise releases of a run."""

import abc
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from fedlearn import checks
from fedlearn.privacy.composition import Composition
from fedlearn.privacy.participation import Participation
from fedlearn.privacy.require_dp_accounting import require_dp_accounting


class Mechanism(abc.ABC):
    """Noise that is added to the sums of a run.

    A private aggregator names one: `aggregator.dp_event()`.
    """

    @abc.abstractmethod
    def compose(self, participation: Participation, rounds: int) -> Composition:
        """What the first `rounds` rounds release."""


def check_noise_multiplier(value: float) -> float:
    """The value as a float; a ValueError if it is negative or no number."""
    return checks.number(
        "noise_multiplier",
        value,
        meaning="the noise's standard deviation over the clip norm",
    )


class Gaussian(Mechanism):
    """Independent Gaussian noise on each round's sum of clipped updates.

    Args:
        noise_multiplier: The noise's standard deviation over the clip norm.
        *others: Those of further sums of the same round, such as the count
            that adaptive clipping needs. Sums of the same clients are one
            sum, and its noise multiplier is `combined(...)`.

    >>> Gaussian(1.0).noise_multiplier
    1.0
    """

    def __init__(self, noise_multiplier: float, *others: float) -> None:
        self.noise_multiplier = combined(noise_multiplier, *others)

    def compose(self, participation: Participation, rounds: int) -> Composition:
        dp = require_dp_accounting()
        if not self.noise_multiplier:
            # No accountant takes a sampled one.
            return Composition(
                dp.NonPrivateDpEvent(), rounds, participation.neighbouring
            )
        event = dp.GaussianDpEvent(self.noise_multiplier)
        return participation.compose(event, rounds)

    def __repr__(self) -> str:
        return f"Gaussian noise, multiplier {self.noise_multiplier:.4g}"


def combined(*noise_multipliers: float) -> float:
    """The noise multiplier of some Gaussian sums taken as one.

    Scaled to the same noise, the norms that one client adds to them make one
    vector, so `z**-2 = z_1**-2 + z_2**-2 + ...` (McMahan et al. 2018, "A
    general approach to adding differential privacy to iterative training
    procedures", https://arxiv.org/abs/1812.06210, section 3).

    >>> combined(3.0, 4.0)
    2.4
    """
    values = [check_noise_multiplier(z) for z in noise_multipliers]
    if 0 in values or len(values) == 1:
        return min(values)
    return sum(z**-2 for z in values) ** -0.5


class Released(Mechanism):
    """Whatever `dp_accounting` can describe, released anew each round.

    Args:
        event: A `dp_accounting.DpEvent`: what one round releases of those who
            take part in it.
    """

    def __init__(self, event: Any) -> None:
        self.event = event

    def compose(self, participation: Participation, rounds: int) -> Composition:
        return participation.compose(self.event, rounds)

    def __repr__(self) -> str:
        return str(self.event)


class Correlated(Mechanism):
    """Noise correlated over rounds, which together are one Gaussian."""

    noise_multiplier: float

    @abc.abstractmethod
    def sensitivity(self, participation: Participation, rounds: int) -> float:
        """How far one client with updates of norm 1 moves all releases."""

    def compose(self, participation: Participation, rounds: int) -> Composition:
        dp = require_dp_accounting()
        if not self.noise_multiplier:
            return Composition(dp.NonPrivateDpEvent(), rounds, "zero-out")
        sensitivity = self.sensitivity(participation, rounds)
        event = dp.GaussianDpEvent(self.noise_multiplier / sensitivity)
        return Composition(event, 1, "zero-out")


class CohortSize(NamedTuple):
    """How many clients a round must have for what is claimed of it.

    Noise that clients add in shares is too little if fewer come; a sum modulo
    a number wraps around if more do, and then one client moves it further
    than any clip allows.

    Attributes:
        least: No round may have fewer clients.
        most: No round may have more.
        why: What happens otherwise, and the way out: for an error.
    """

    least: float
    most: float
    why: str

    def check(self, participation: Participation) -> None:
        """Raises ValueError if a round may be smaller or larger."""
        least, most = participation.cohort_sizes
        if least < self.least or most > self.most:
            wanted = (
                f"{self.least:,g} or more"
                if self.most == math.inf
                else f"{self.least:,g} to {self.most:,g}"
            )
            raise ValueError(
                f"Rounds may have {least:,} to {most:,} clients "
                f"({participation.description}). Expected {wanted}. {self.why}"
            )


class Sized(Mechanism):
    """A mechanism that holds for rounds of certain sizes only: all of `sizes`.

    >>> mechanism = Sized(Gaussian(1.0), CohortSize(0, 20, "It wraps around."))
    >>> mechanism.compose(Participation("poisson", 100, 10), 1)
    Traceback (most recent call last):
        ...
    ValueError: Rounds may have 0 to 100 clients (Poisson sampling of 10 in
    100 clients). Expected 0 to 20. It wraps around.
    """

    def __init__(self, released: Mechanism, *sizes: CohortSize) -> None:
        self.released = released
        self.sizes = sizes

    def compose(self, participation: Participation, rounds: int) -> Composition:
        for size in self.sizes:
            size.check(participation)
        return self.released.compose(participation, rounds)

    def __repr__(self) -> str:
        return repr(self.released)


class SharedNoise(Mechanism):
    """Noise that clients add in shares before a secure sum, anew each round.

    Neighbours: "zero-out". A client's data are there or not, and its share of
    the noise is there either way; a client that is away takes its share with
    it. So rounds need a fixed number of clients. Sampling doesn't amplify: a
    client counts as often as it can take part at most.

    Args:
        rho: See `xi`.
        xi: With noise of all shares, the Rényi divergence of a round is at
            most `rho * a + xi` at each integer order `a` of 2 or more; at
            no others is it known.
        clients_per_round: How many shares there are.
        name: Of the noise, for people.

    Raises:
        ValueError: From `compose`, if a round may have fewer clients.

    >>> SharedNoise(0.5, 0.0, 10, name="Skellam noise, multiplier 1")
    Skellam noise, multiplier 1, in 10 shares
    """

    def __init__(
        self, rho: float, xi: float, clients_per_round: int, name: str
    ) -> None:
        self.rho = rho
        self.xi = xi
        self.clients_per_round = clients_per_round
        self.name = name

    def compose(self, participation: Participation, rounds: int) -> Composition:
        CohortSize(
            self.clients_per_round,
            math.inf,
            "Each client adds a share of the noise, and with fewer there is "
            "less noise than accounted for. Draw a fixed number of clients, "
            "such as with the samplers Uniform or MinSeparation, and give it "
            "as `clients_per_round`.",
        ).check(participation)
        event = require_dp_accounting().ZCDpEvent(rho=self.rho, xi=self.xi)
        times = participation.max_participations(rounds)
        return Composition(event, times, "zero-out", orders="integers")

    def __repr__(self) -> str:
        return f"{self.name}, in {self.clients_per_round:,} shares"


def composed(released: Sequence[Any]) -> Any:
    """All that the links of a chain release, as one.

    Args:
        released: A `dp_accounting.DpEvent` or `Mechanism` for each link that
            releases something, and a `CohortSize` for each that needs one.

    Returns:
        The only one there is, or a `dp_accounting.ComposedDpEvent`; with a
        `CohortSize`, a `Mechanism` that checks it.

    Raises:
        ValueError: If there are none, or several and one is no event.

    >>> composed([Gaussian(2.0)])
    Gaussian noise, multiplier 2
    """
    sizes = [r for r in released if isinstance(r, CohortSize)]
    if sizes:
        rest = [r for r in released if not isinstance(r, CohortSize)]
        return Sized(as_mechanism(composed(rest)), *sizes)
    if not released:
        raise ValueError("Nothing is released, so there is nothing to compose.")
    if len(released) == 1:
        return released[0]
    for one in released:
        if isinstance(one, Mechanism):
            raise ValueError(
                f"{one} can't be accounted for together with what another "
                "link releases. Use it alone: a fixed clip instead of an "
                "adaptive one, or noise that is drawn anew each round."
            )
    return require_dp_accounting().ComposedDpEvent(list(released))


def as_mechanism(released: Any) -> Mechanism:
    """A mechanism as it is; of an event, its release in each round.

    Gaussian events composed are one Gaussian.
    """
    if isinstance(released, Mechanism):
        return released
    noise_multiplier = _noise_multiplier(released)
    if noise_multiplier is None:
        return Released(released)
    return Gaussian(noise_multiplier)


def _noise_multiplier(event: Any) -> float | None:
    """That of the one Gaussian an event amounts to, if it does."""
    dp = require_dp_accounting()
    if isinstance(event, dp.GaussianDpEvent):
        return event.noise_multiplier
    if isinstance(event, dp.NonPrivateDpEvent):
        return 0.0
    if isinstance(event, dp.SelfComposedDpEvent):
        part = _noise_multiplier(event.event)
        return None if part is None else part / event.count**0.5
    if isinstance(event, dp.ComposedDpEvent) and event.events:
        parts = [_noise_multiplier(e) for e in event.events]
        found = [z for z in parts if z is not None]
        return combined(*found) if len(found) == len(parts) else None
    return None
