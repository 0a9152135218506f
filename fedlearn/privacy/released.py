"""What a private aggregator releases, as `dp_accounting` describes it."""

from collections.abc import Sequence
from typing import Any

from fedlearn.privacy.cohort_size import CohortSize, Sized
from fedlearn.privacy.composition import Composition
from fedlearn.privacy.gaussian import Gaussian, combined
from fedlearn.privacy.mechanism import Mechanism
from fedlearn.privacy.participation import Participation
from fedlearn.privacy.require_dp_accounting import require_dp_accounting


class Released(Mechanism):
    """Whatever `dp_accounting` can describe, released anew each round.

    Args:
        event: A `dp_accounting.DpEvent`: what one round releases of those who
            take part in it. Gaussian events composed become one.
    """

    def __init__(self, event: Any) -> None:
        self.event = event

    def compose(self, participation: Participation, rounds: int) -> Composition:
        noise_multiplier = _noise_multiplier(self.event)
        if noise_multiplier is None:
            return participation.compose(self.event, rounds)
        return Gaussian(noise_multiplier).compose(participation, rounds)

    def __repr__(self) -> str:
        noise_multiplier = _noise_multiplier(self.event)
        if noise_multiplier is None:
            return str(self.event)
        return repr(Gaussian(noise_multiplier))


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
    """A mechanism as it is; of an event, its release in each round."""
    if isinstance(released, Mechanism):
        return released
    return Released(released)
