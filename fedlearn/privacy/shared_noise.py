"""Noise of which each client adds a share."""

import math

from fedlearn.privacy.cohort_size import CohortSize
from fedlearn.privacy.composition import Composition
from fedlearn.privacy.mechanism import Mechanism
from fedlearn.privacy.participation import Participation
from fedlearn.privacy.require_dp_accounting import require_dp_accounting


class SharedNoise(Mechanism):
    """Noise that clients add in shares before a secure sum, anew each round.

    Neighbours: "zero-out". A client's data are there or not, and its share of
    the noise is there either way; a client that is away takes its share with
    it. So rounds need a fixed number of clients. Sampling doesn't amplify: a
    client counts as often as it can take part at most.

    Known are Rényi divergences at integer orders, and epsilon comes of these
    alone.

    Args:
        rho: See `xi`.
        xi: With noise of all shares, the Rényi divergence of a round is at
            most `rho * a + xi` at each integer order `a` of 2 or more.
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
        dp = require_dp_accounting()
        return Composition(
            dp.ZCDpEvent(rho=self.rho, xi=self.xi),
            participation.max_participations(rounds),
            "zero-out",
            orders="integers",
        )

    def __repr__(self) -> str:
        return f"{self.name}, in {self.clients_per_round:,} shares"
