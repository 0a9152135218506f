import math
from typing import Any

from fedlearn import checks
from fedlearn.advice import keras_words
from fedlearn.aggregators.mean import Mean
from fedlearn.encoders import chain
from fedlearn.encoders.chain import Encoders
from fedlearn.encoders.encoder import Noise
from fedlearn.encoders.fixed_point import FixedPoint
from fedlearn.encoders.uniform_quantization import UniformQuantization


class SecureSum(Mean):
    """The mean of updates by the arithmetic of a secure sum.

    In secure aggregation (Bonawitz et al. 2017, arXiv:1611.04482) the server
    learns the sum of the clients' integers modulo a power of two, and nothing
    else. This does that arithmetic exactly, so that accuracy and bytes are
    those of a deployment (see `fedlearn.encoders.FixedPoint`, whose metrics it
    logs). The cryptography that hides single messages is not part of it.

    Args:
        encoders: What happens to an update before; all of it must be decoded
            on the sum. A `UniformQuantization` at the end says how to round:
            its `bits`, `clip_range` and `stochastic` are taken.
        clients_per_round: How many clients take part, at most, which decides
            the modulus. With noise the sum is divided by it, else by the
            number of those that came.
        bits: Of a client's number, 2 to 24.
        value_range: The largest magnitude of a number; None for one that
            follows the norm set by a clip, for values that are alike: after
            a `HadamardRotation`.
        modulus_bits: None for as many as rule out an overflow.

    Raises:
        ValueError: If an encoder needs single messages, or nothing sets the
            range.

    Example:

    >>> aggregator = SecureSum(clients_per_round=10, value_range=1.0)
    >>> [type(e).__name__ for e in aggregator.encoders]
    ['FixedPoint']
    """

    @keras_words.answers(keras_words.PRIVACY)
    def __init__(
        self,
        encoders: Encoders = (),
        *,
        clients_per_round: int,
        bits: int = 8,
        value_range: float | None = None,
        modulus_bits: int | None = None,
    ):
        checks.positive("clients_per_round", clients_per_round)
        self.clients_per_round = clients_per_round
        self.bits = bits
        self.value_range = value_range
        self.modulus_bits = modulus_bits
        self._given = chain.links(encoders)
        links = list(self._given)
        stochastic = True
        grid = links[-1] if links else None
        if isinstance(grid, UniformQuantization):
            links.pop()
            bits, stochastic = grid.bits, grid.stochastic
            if grid.clip_range is not None:
                value_range = grid.clip_range
        for link in links:
            if link.decodes == "summand":
                raise ValueError(
                    f"SecureSum can't take {type(link).__name__}, which needs "
                    "each client's message by itself: a secure sum shows only "
                    "the sum. Use encoders that are decoded on the sum, such "
                    "as HadamardRotation."
                )
        bounded = any(link.bound == "sets" for link in links)
        if value_range is None and not bounded:
            raise ValueError(
                "SecureSum needs to know how large numbers are: give "
                "`value_range`, or put a clip, such as Clip(norm), into "
                "`encoders`."
            )
        is_noisy = any(isinstance(link, Noise) for link in links)
        fixed_point = FixedPoint(
            bits,
            num_summands=math.ceil(clients_per_round),
            value_range=value_range,
            stochastic=stochastic,
            modulus_bits=modulus_bits,
        )
        super().__init__(
            [*links, fixed_point],
            weighting="uniform",
            denominator=clients_per_round if is_noisy else None,
        )

    def check_cohort(self, num_clients: int) -> None:
        super().check_cohort(num_clients)
        room = self.encoders[-1].room
        if num_clients > max(room, self.clients_per_round):
            raise ValueError(
                f"{num_clients:,} clients took part in the round, and the sum "
                f"of more than {room:,} may wrap around with "
                f"clients_per_round={self.clients_per_round!r}. Give SecureSum "
                "as many as may come."
            )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "encoders": self._given}
