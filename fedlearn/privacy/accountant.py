"""From what was released to epsilon: one way for all of it."""

import functools
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from fedlearn import checks
from fedlearn.privacy.composition import Composition
from fedlearn.privacy.require_dp_accounting import require_dp_accounting

AccountantName = Literal["pld", "rdp"]
ACCOUNTANTS = ("pld", "rdp", None)

# Where a bound on the Rényi divergence is proven for integer orders only.
_INTEGER_ORDERS = (*range(2, 129), 160, 192, 256, 512, 1024)

_RELATIONS = {
    "add-or-remove-one": "ADD_OR_REMOVE_ONE",
    "replace-one": "REPLACE_ONE",
    "zero-out": "REPLACE_SPECIAL",
}

# A privacy loss distribution is held at points of one distance. A single
# event's takes some 10 microseconds a point, and many events' together one,
# and a hundred bytes.
_FINEST_INTERVAL = 1e-4
_POINTS_OF_ONE = 2.0**18
_POINTS_OF_ALL = 2.0**21
# Of losses that run into hundreds of thousands no digit matters.
_COARSEST_INTERVAL = 1.0
# Squares of less overflow.
_LEAST_NOISE = 1e-100


class Accountant:
    """Epsilon by dp-accounting.

    It remembers Rényi divergences, which take some 50 ms an event and which
    more rounds of the same only multiply: epsilon after each round costs a
    millisecond.
    """

    def __init__(self) -> None:
        self._curves: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def epsilon(
        self,
        composition: Composition,
        delta: float,
        name: AccountantName | None = None,
    ) -> tuple[float, AccountantName]:
        """Epsilon at a delta, and by whom.

        By `"pld"`, privacy loss distributions (Koskela et al. 2020,
        https://arxiv.org/abs/1906.03049): tight, takes seconds, and some 300
        MB at most; by `"rdp"`, Rényi divergences (Mironov 2017,
        https://arxiv.org/abs/1702.07476): an upper bound some percent higher,
        takes milliseconds. None for the lowest that can be had.

        Raises ValueError if the accountant can't have it.
        """
        check_delta(delta)
        checks.one_of("accountant", name, ACCOUNTANTS)
        refusal = "" if name == "rdp" else self.refusal(composition)
        if name == "pld" and refusal:
            raise ValueError(refusal)
        by_rdp = math.inf if name == "pld" else self._rdp(composition, delta)
        if name == "rdp" or refusal:
            return by_rdp, "rdp"
        by_pld = self._pld(composition, delta)
        return (by_rdp, "rdp") if by_rdp < by_pld else (by_pld, "pld")

    def refusal(self, composition: Composition) -> str:
        """Why PLD can't account for it, told at once; "" where it can."""
        event, dp = composition.event, require_dp_accounting()
        if isinstance(event, dp.SampledWithoutReplacementDpEvent):
            return (
                'accountant="pld" doesn\'t support uniform sampling (a fixed '
                'number of clients). Use accountant="rdp", or the Poisson '
                "sampler, for which both give a lower epsilon."
            )
        if isinstance(event, dp.ZCDpEvent):
            return (
                'accountant="pld" doesn\'t support noise that is known by its '
                'Rényi divergence only. Use accountant="rdp".'
            )
        if (
            composition.times
            and not isinstance(event, dp.NonPrivateDpEvent)
            and _noise_of_one_gaussian(composition) is None
            and self._interval(composition) > _COARSEST_INTERVAL
        ):
            return (
                'accountant="pld" would take too long with so little noise: '
                "its time and memory grow as 1 / noise_multiplier**2. Use "
                'accountant="rdp", whose bound is as good there, or None for '
                "whichever can be had."
            )
        return ""

    def _rdp(self, composition: Composition, delta: float) -> float:
        if not composition.times:
            return 0.0
        dp = require_dp_accounting()
        one = composition._replace(times=1)
        if repr(one) not in self._curves:
            make = dp.rdp.RdpAccountant
            if composition.orders == "integers":
                make = functools.partial(make, _INTEGER_ORDERS)
            found = _composed(make, one)
            # Of what was lost to rounding, dp-accounting would make epsilon 0.
            rdp = np.where(found.rdp >= 0, found.rdp, np.inf)
            self._curves[repr(one)] = found.orders, rdp
        orders, rdp = self._curves[repr(one)]
        rdp = composition.times * rdp
        if np.isinf(rdp).all():
            return math.inf
        return float(dp.rdp.compute_epsilon(orders, rdp, delta)[0])

    def _pld(self, composition: Composition, delta: float) -> float:
        dp = require_dp_accounting()
        if not composition.times:
            return 0.0
        if isinstance(composition.event, dp.NonPrivateDpEvent):
            return math.inf
        sigma = _noise_of_one_gaussian(composition)
        if sigma is not None:
            return max(0.0, float(dp.get_epsilon_gaussian(sigma, delta)))
        make = functools.partial(
            dp.pld.PLDAccountant,
            value_discretization_interval=self._interval(composition),
        )
        return float(_composed(make, composition).get_epsilon(delta))

    def _interval(self, composition: Composition) -> float:
        """The distance of points for which PLD's cost is bounded.

        Points are rounded up, so that any distance gives an upper bound. It
        is told from the noise alone, and not by a clock: the same everywhere.

        A Gaussian's loss, of noise z, is within `1 / (2 z^2) + 10 / z` of 0
        but for `exp(-50)`, and sampling makes it no larger. That of all
        events together is hardly larger than the epsilon at a delta of 1e-15,
        which the Rényi divergences bound.
        """
        dp = require_dp_accounting()
        event = composition.event
        if isinstance(event, dp.PoissonSampledDpEvent):
            event = event.event
        z = getattr(event, "noise_multiplier", math.inf)
        one = 1 / (2 * z**2) + 10 / z if z else math.inf
        try:
            every = 4 * self._rdp(composition, 1e-15)
        except ValueError:  # of what Rényi divergences aren't known for
            every = 0.0
        return max(
            _FINEST_INTERVAL,
            one / _POINTS_OF_ONE,
            (one + every) / _POINTS_OF_ALL,
        )


def check_delta(delta: float) -> float:
    """The value, if it is above 0 and below 1; else a ValueError."""
    return checks.fraction(
        "delta", delta, one=False, meaning="well below 1 / (number of clients)"
    )


def _noise_of_one_gaussian(composition: Composition) -> float | None:
    """The noise of the one Gaussian mechanism that all of it amounts to.

    Its epsilon has a closed form (Balle and Wang 2018, "Improving the
    Gaussian mechanism for differential privacy", theorem 8): that of the
    privacy loss distribution, without points. None for anything else.
    """
    dp = require_dp_accounting()
    if (
        isinstance(composition.event, dp.GaussianDpEvent)
        and composition.neighbouring != "replace-one"
        and composition.event.noise_multiplier > _LEAST_NOISE
    ):
        noise = composition.event.noise_multiplier
        return float(noise / math.sqrt(composition.times))
    return None


def _composed(make: Callable[..., Any], composition: Composition) -> Any:
    dp = require_dp_accounting()
    relation = dp.NeighboringRelation[_RELATIONS[composition.neighbouring]]
    accountant = make(neighboring_relation=relation)
    try:
        with _quiet_about_orders():
            return accountant.compose(composition.event, composition.times)
    except dp.UnsupportedEventError as error:
        raise ValueError(
            f"{type(accountant).__name__} of dp-accounting can't account for "
            f"{composition.event} with {composition.neighbouring} neighbours. "
            "Use the other accountant ('pld' or 'rdp') or another sampler."
        ) from error


@contextmanager
def _quiet_about_orders() -> Iterator[None]:
    """Without dp-accounting's warnings of orders that it leaves out.

    At high sampling rates dozens don't converge; the others still give an upper
    bound.
    """

    def is_other(record: logging.LogRecord) -> bool:
        return "Excluding this order" not in str(record.msg)

    logger = logging.getLogger("absl")
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)
