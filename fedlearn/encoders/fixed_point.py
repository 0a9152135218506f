import math
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import backend, checks
from fedlearn.encoders import flat_vector
from fedlearn.encoders.encoder import Bound, Encoder, Spec, Updated, Value
from fedlearn.encoders.integer_bytes import ModularIntegers
from fedlearn.privacy.mechanism import CohortSize


class FixedPoint(Encoder, ModularIntegers):
    """Rounds numbers to integers that are added modulo a power of two.

    What a secure sum can add (Bonawitz et al. 2017, "Practical secure
    aggregation for privacy-preserving machine learning", arXiv:1611.04482,
    section 7): a number is clipped to `[-r, r]`, divided by the step
    `r / (2**(bits - 1) - 1)`, rounded to an integer, and taken modulo
    `2**modulus_bits`; so is the sum, which is then decoded.

    Args:
        bits: Of a client's number: `2**bits - 1` integers. 2 to 24.
        num_summands: How many clients are added at most.
        value_range: `r`. None: `coverage * bound / sqrt(d)`, with the bound
            on the norm that a clip before this link sets and `d` the number
            of values, for values that a `HadamardRotation` has made alike.
        coverage: See `value_range`.
        stochastic: Whether to round up or down at random, so that the sum is
            unbiased; else to the nearest, which moves the norm half as far.
        modulus_bits: At most 31; None for `bits + ceil(log2(num_summands))`,
            with which no sum overflows.

    Metrics: `share_clipped`, the share of numbers outside of the range; with
    fewer `modulus_bits` than that `num_overflows`, of how many coordinates
    the sum was out of reach.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> encoder = FixedPoint(
    ...     8, num_summands=2, value_range=1.0, stochastic=False
    ... ).build([keras.KerasTensor((2,))])
    >>> params = encoder.params((), None, math.inf)
    >>> message, _ = encoder.encode([ops.array([-1.0, 0.5])], params, None)
    >>> [int(v) for v in message[0]]
    [385, 64]
    >>> total = [message[0] + message[0]]
    >>> [round(float(v), 2) for v in encoder.decode(total, params)[0]]
    [-2.0, 1.01]
    """

    decodes = "sum"
    bound: Bound = "keeps"

    def __init__(
        self,
        bits: int = 8,
        *,
        num_summands: int,
        value_range: float | None = None,
        coverage: float = 6.0,
        stochastic: bool = True,
        modulus_bits: int | None = None,
    ):
        checks.whole("bits", bits, 2, most=24)
        checks.number("num_summands", num_summands, least=1)
        checks.positive("coverage", coverage)
        if value_range is not None:
            checks.positive("value_range", value_range)
        needed = bits + math.ceil(math.log2(num_summands))
        modulus = needed if modulus_bits is None else modulus_bits
        checks.whole("modulus_bits", modulus)
        if not bits <= modulus <= 31:
            raise ValueError(
                f"Sums of {num_summands} integers of {bits} bits modulo "
                f"2**{modulus}: expected {bits} to 31 bits. Lower `bits`, or "
                "give `modulus_bits`."
            )
        self.bits = bits
        self.num_summands = num_summands
        self.value_range = value_range
        self.coverage = coverage
        self.stochastic = stochastic
        self.modulus_bits = modulus_bits
        self.num_bits = modulus
        self._may_overflow = modulus < needed
        self._top = 2 ** (bits - 1) - 1
        # Of how many clients no sum wraps around.
        self.room = (2 ** (modulus - 1) - 1) // self._top
        if self._may_overflow:
            # Where a sum wraps around, one client moves it by the modulus.
            self.bound = "loses"

    def encoded_spec(self) -> Spec:
        return [keras.KerasTensor(s.shape, "int32") for s in self.spec]

    def params(self, state: Any, seed: Any, bound: Any) -> Any:
        """The range, a float32 scalar."""
        if self.value_range is not None:
            return ops.convert_to_tensor(self.value_range, "float32")
        size = max(1, flat_vector.size(self.spec))
        return ops.cast(bound, "float32") * (self.coverage / math.sqrt(size))

    def encode(self, value: Value, params: Any, seed: Any) -> tuple[Any, Any]:
        reach = ops.maximum(params, 1e-30)
        encoded, exact = [], []
        clipped = ops.zeros((), "float32")
        for i, v in enumerate(value):
            v = ops.cast(v, "float32")
            scaled = ops.clip(v / reach, -1.0, 1.0) * self._top
            dither = 0.5
            if self.stochastic:
                own = seed + np.array([0, i], np.int32)
                dither = backend.random_uniform(own, v.shape)
            # Shifted by the top, nothing is negative, and converting to
            # integers rounds down.
            codes = ops.cast(scaled + self._top + dither, "int32") - self._top
            codes = ops.minimum(codes, self._top)
            encoded.append(ops.bitwise_and(codes, 2**self.num_bits - 1))
            exact.append(codes)
            clipped += ops.sum(ops.cast(ops.abs(v) > reach, "float32"))
        stats = {"clipped": clipped, "count": ops.ones((), "float32")}
        if self._may_overflow:
            stats["exact"] = [ops.cast(e, "float32") for e in exact]
        return encoded, stats

    def decode(self, value: Any, params: Any) -> Value:
        return self.steps(value, params / self._top, self.spec)

    def update(self, state: Any, stats: Any, noise: Any) -> Updated:
        numbers = stats["count"] * flat_vector.size(self.spec)
        share = stats["clipped"] / ops.maximum(numbers, 1.0)
        metrics = {"share_clipped": share}
        if self._may_overflow:
            half = 2.0 ** (self.num_bits - 1)
            metrics["num_overflows"] = ops.zeros((), "float32")
            for e in stats["exact"]:
                out = ops.logical_or(e >= half, e < -half)
                metrics["num_overflows"] += ops.sum(ops.cast(out, "float32"))
        return state, metrics

    def sensitivity(self, bound: Any, params: Any) -> Any:
        if self._may_overflow:
            return math.inf
        # Each of d numbers moves by less than a step, or by half of one, and
        # by what float32 rounds of integers of so many bits.
        size = flat_vector.size(self.spec)
        reach = params
        moved = (1.0 if self.stochastic else 0.5) + 2.0 ** (self.bits - 23)
        return bound + reach * (moved * math.sqrt(size) / self._top)

    def dp_event(self) -> Any:
        """Of how many clients no sum wraps around.

        Noise is added to what was decoded, and where a sum has wrapped
        around, one client moves that by far more than its norm.
        """
        return CohortSize(
            0,
            self.room,
            f"Sums of more than {self.room:,} integers of {self.bits} bits may "
            f"wrap around modulo 2**{self.num_bits}, and then noise doesn't "
            "hide one of them. Draw a fixed number of clients, or give "
            "`modulus_bits` for as many as may come.",
        )
