import math
import threading
from collections.abc import Sequence
from typing import NamedTuple

from fedlearn import checks
from fedlearn.privacy.accountant import Accountant, check_delta
from fedlearn.privacy.composition import Composition
from fedlearn.privacy.epsilon import least_noise
from fedlearn.privacy.guarantee import Statement
from fedlearn.privacy.mechanism import Gaussian, as_mechanism
from fedlearn.privacy.participation import Participation
from fedlearn.privacy.require_dp_accounting import require_dp_accounting

# What sums of floats may be off.
_SLACK = 1.0 + 1e-9

# Two threads must not find the same rest of a budget. Not a ledger's own: a
# lock can't be copied or pickled.
_CHARGING = threading.Lock()


class Entry(NamedTuple):
    """What a ledger has charged once: a composition, or an epsilon and delta.

    Those two are what is lost beside the composition; they add up.
    """

    name: str
    composition: Composition | None = None
    epsilon: float = 0.0
    delta: float = 0.0


class Ledger:
    """What several releases about the same clients give away together.

    Queries of `fedlearn.analytics` take one as `budget=`. A training run is
    charged by its statement: before it, that of a plan
    (`ledger.charge(plan.best)`), or after it that of its history
    (`ledger.charge(history.privacy)`). Whatever would pass the budget is
    refused before anything is released.

    Gaussian noise and sampled Gaussian noise are composed by the accountants
    of `fedlearn.privacy`, which makes less of them than the sum of their
    epsilons. An epsilon of which no more is known is added, and so is its
    delta. The guarantee is for a client with all of its data, which are there
    or not.

    Args:
        epsilon: The budget, above 0.
        delta: Of the budget, above 0 and below 1.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> ledger = Ledger(epsilon=2.0, delta=1e-6)
    >>> ledger.charge((0.5, 0.0), "a survey by randomized response")
    >>> print(ledger)
    epsilon 0.5 of 2 at delta 1e-06 is spent: a survey by randomized response
    >>> round(ledger.remaining, 2)
    1.5
    """

    def __init__(self, epsilon: float, delta: float):
        self.epsilon = checks.positive("epsilon", epsilon)
        self.delta = check_delta(delta)
        self.entries: list[Entry] = []

    @property
    def spent(self) -> float:
        """Epsilon of all that was charged, at the budget's delta."""
        return self._epsilon(self.entries)

    @property
    def remaining(self) -> float:
        """An epsilon, at the budget's delta, that one more query may have.

        The largest one with Gaussian noise; after sampled noise, which is
        bounded by its Rényi divergence here to be quick, somewhat more may fit
        than that. 0.0 if there is no room for any by this bound.
        """
        if self.spent >= self.epsilon:
            return 0.0

        def spent(noise: float) -> float:
            return self._epsilon([*self.entries, _one_more(noise)], quick=True)

        try:
            noise = least_noise(spent, self.epsilon, start=4.0, step=2.0)
        except ValueError:  # no noise is enough
            return 0.0
        # The least noise is the most that is left.
        return Ledger(self.epsilon, self.delta)._epsilon([_one_more(noise)])

    def charge(
        self,
        released: Composition | Statement | Entry | tuple[float, float],
        name: str = "",
    ) -> None:
        """Adds what is about to be released, or was.

        Args:
            released: A `fedlearn.privacy.Statement`, that of a plan or of a
                training run; a `Composition`; or `(epsilon, delta)` of
                anything else, which add up.
            name: What it is, for people.

        Raises:
            ValueError: If the budget would be passed. Then nothing is
                charged.
        """
        with _CHARGING:
            self.entries.append(self.check(released, name))

    def check(
        self,
        released: Composition | Statement | Entry | tuple[float, float],
        name: str = "",
    ) -> Entry:
        """What `charge` would add; its errors, and no charge.

        Args:
            released: As for `charge`.
            name: As for `charge`.
        """
        entry = _entry(released, name)
        total = self._epsilon([*self.entries, entry])
        if not total <= self.epsilon * _SLACK:
            raise ValueError(
                f"{name or 'This release'} would bring epsilon to "
                f"{total:.4g} at delta {self.delta:.3g}, past the budget "
                f"of {self.epsilon:g}; {self.spent:.4g} is spent. Ask for "
                "a smaller epsilon (at most `ledger.remaining`) or delta, "
                "or do without."
            )
        return entry

    def _epsilon(self, entries: Sequence[Entry], quick: bool = False) -> float:
        total = sum(e.epsilon for e in entries)
        gone = sum(e.delta for e in entries)
        parts = _together([e.composition for e in entries if e.composition])
        delta = self.delta - gone
        if gone > self.delta * _SLACK or (parts and delta <= 0):
            return math.inf
        for part in parts:
            # Neighbours of two kinds can't be told by one accountant: their
            # epsilons add up, and they share the delta.
            total += _of_one(part, delta / len(parts), quick)
        return total

    def __str__(self) -> str:
        names = ", ".join(e.name or "no name" for e in self.entries)
        return (
            f"epsilon {self.spent:.4g} of {self.epsilon:g} at delta "
            f"{self.delta:.3g} is spent: {names or 'nothing yet'}"
        )


def _entry(released: object, name: str) -> Entry:
    if isinstance(released, Entry):
        return released._replace(name=name)
    if isinstance(released, Statement):
        if released.composition is not None:
            return Entry(name, released.composition)
        released = (released.epsilon, released.delta)
    if isinstance(released, Composition):
        return Entry(name, released)
    if not isinstance(released, tuple) or len(released) != 2:
        raise TypeError(
            "A ledger is charged with a fedlearn.privacy.Statement (such as "
            "`history.privacy` or `plan.best`), a Composition, or a pair "
            f"(epsilon, delta). Received: {released!r}."
        )
    checks.number("epsilon", released[0])
    checks.number("delta", released[1])
    return Entry(name, None, float(released[0]), float(released[1]))


def _together(compositions: Sequence[Composition]) -> list[Composition]:
    """As few compositions as make all of them.

    A client's data that are removed and those that are zeroed give a sum the
    same, so that one pair of distributions bounds both.
    """
    dp = require_dp_accounting()
    groups: dict[bool, list[Composition]] = {}
    for one in compositions:
        if one.times:
            groups.setdefault(one.neighbouring == "replace-one", []).append(one)
    made = []
    for group in groups.values():
        whole = any(c.orders == "integers" for c in group)
        event = dp.ComposedDpEvent([c.dp_event() for c in group])
        gaussian = as_mechanism(event)
        if isinstance(gaussian, Gaussian) and gaussian.noise_multiplier:
            event = dp.GaussianDpEvent(gaussian.noise_multiplier)
        kind = group[0].neighbouring
        made.append(
            Composition(
                event,
                1,
                kind if kind == "replace-one" else "zero-out",
                "integers" if whole else "all",
            )
        )
    return made


def _of_one(composition: Composition, delta: float, quick: bool) -> float:
    gaussian = isinstance(
        composition.event, require_dp_accounting().GaussianDpEvent
    )
    if gaussian or not quick:  # a closed form, or seconds
        try:
            return Accountant().epsilon(composition, delta)[0]
        except ValueError:  # of parts that only Renyi divergences account for
            pass
    return Accountant().epsilon(composition, delta, "rdp")[0]


def _one_more(noise_multiplier: float) -> Entry:
    alone = Participation("full", 1)
    return Entry("", Gaussian(noise_multiplier).compose(alone, 1))
