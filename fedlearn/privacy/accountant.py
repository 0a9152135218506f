"""Epsilon of what was released."""

import math
from typing import Any, Literal, get_args

import numpy as np

from fedlearn.privacy.composition import Composition
from fedlearn.privacy.require_dp_accounting import require_dp_accounting

AccountantName = Literal["pld", "rdp"]

_RELATIONS = {
    "add-or-remove-one": "ADD_OR_REMOVE_ONE",
    "replace-one": "REPLACE_ONE",
    "zero-out": "REPLACE_SPECIAL",
}


def epsilon(
    composition: Composition, delta: float, accountant: AccountantName
) -> float:
    """Epsilon at a delta.

    Args:
        composition: What was released.
        delta: Above 0 and below 1.
        accountant: `"pld"`, privacy loss distributions (Koskela et al. 2020,
            https://arxiv.org/abs/1906.03049): tight, takes seconds; or
            `"rdp"`, Rényi divergences (Mironov 2017,
            https://arxiv.org/abs/1702.07476): an upper bound some percent
            higher, takes milliseconds.

    Raises:
        ValueError: If an argument is out of range or the accountant can't
            account for the event.
    """
    check_delta(delta)
    check_accountant(accountant)
    if accountant == "rdp":
        return OneEventRdp().epsilon(composition, delta)
    check_supports(accountant, composition)
    if not composition.times:
        return 0.0
    dp = require_dp_accounting()
    return float(
        _composed(dp.pld.PLDAccountant, composition).get_epsilon(delta)
    )


class OneEventRdp:
    """The RDP accountant; remembers the last event.

    A round's Rényi divergences take some 50 ms, and more rounds of the same
    only multiply them, so epsilon after each round costs a millisecond.
    """

    def __init__(self) -> None:
        self._key: Any = None
        self._orders = self._rdp = np.zeros(0)

    def epsilon(self, composition: Composition, delta: float) -> float:
        """Epsilon at a delta."""
        if not composition.times:
            return 0.0
        dp = require_dp_accounting()
        key = (composition.event, composition.neighbouring)
        if key != self._key:
            one = _composed(dp.rdp.RdpAccountant, composition._replace(times=1))
            self._key, self._orders, self._rdp = key, one.orders, one.rdp
        rdp = composition.times * self._rdp
        if np.isinf(rdp).all():
            return math.inf
        return float(dp.rdp.compute_epsilon(self._orders, rdp, delta)[0])


def check_delta(delta: float) -> float:
    """The value.

    Raises:
        ValueError: If it isn't above 0 and below 1.
    """
    if not 0 < delta < 1:
        raise ValueError(
            f"delta is {delta!r}. Expected above 0 and below 1, and well "
            "below 1 / (number of clients)."
        )
    return delta


def check_accountant(name: str) -> None:
    """Raises ValueError if there is no accountant of that name."""
    if name not in get_args(AccountantName):
        raise ValueError(f"accountant is {name!r}. Expected 'pld' or 'rdp'.")


def check_supports(name: str, composition: Composition) -> None:
    """Raises ValueError where an accountant is known not to do: at once."""
    dp = require_dp_accounting()
    if name == "pld" and isinstance(
        composition.event, dp.SampledWithoutReplacementDpEvent
    ):
        raise ValueError(
            'accountant="pld" doesn\'t support uniform sampling (a fixed '
            'number of clients). Use accountant="rdp", or the Poisson '
            "sampler, for which both give a lower epsilon."
        )


def _composed(make: Any, composition: Composition) -> Any:
    dp = require_dp_accounting()
    relation = dp.NeighboringRelation[_RELATIONS[composition.neighbouring]]
    accountant = make(neighboring_relation=relation)
    try:
        return accountant.compose(composition.event, composition.times)
    except dp.UnsupportedEventError as error:
        raise ValueError(
            f"{make.__name__} of dp-accounting can't account for "
            f"{composition.event} with {composition.neighbouring} neighbours. "
            "Use the other accountant ('pld' or 'rdp') or another sampler."
        ) from error
