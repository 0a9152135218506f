import math
from typing import Any, NamedTuple, Self

import keras
import numpy as np
from keras import ops

from fedlearn import checks, threefry
from fedlearn.encoders import discrete_distribution, flat_vector, norms
from fedlearn.encoders.encoder import Encoder, Noise, Spec, Value
from fedlearn.encoders.integer_bytes import ModularIntegers
from fedlearn.privacy.mechanism import Gaussian, SharedNoise

_STDS_IN_RANGE = 6.0


class Plan(NamedTuple):
    """The numbers of a round.

    Attributes:
        granularity: What one step of an integer stands for.
        sensitivity: The largest L2 norm of a client's integers without noise.
        local_std: The deviation of a client's noise, in steps.
    """

    granularity: float
    sensitivity: float
    local_std: float


class DiscreteNoise(Encoder, Noise, ModularIntegers):
    """The interface of discrete noise that clients add before a secure sum.

    A client clips its update, divides it by the granularity, rounds it to
    integers, adds its share of the noise, and sends it modulo `2**bits`. Sums
    of such messages, taken modulo `2**bits` too, are all that the server
    sees and needs.

    Rounding is random and unbiased, up or down by the fractional part, unless
    that makes the vector longer than `rounded_norm`, which happens with
    probability `beta` at most. Then it is rounded towards zero, which makes
    no vector longer. (Kairouz et al. 2021 draw again: no fixed amount of
    work.) Updates are clipped to some 1e-5 less than `norm`, for what float32
    rounds. So no client's integers are longer than the sensitivity, and the
    bias is at most `beta * granularity * sqrt(size)` in norm.

    The noise of all `clients_per_round` clients together has the deviation
    `noise_multiplier` times that sensitivity. Neighbouring data sets differ by
    what one client adds, and not by its noise. With fewer clients the noise
    is less: a sampler that may draw fewer has no epsilon. What no accounting
    sees: a client that is left out of a round because its update isn't finite
    takes its share away (`num_rejected`). The shares are drawn from the run's
    seed: for simulation.

    Put `HadamardRotation` before it, as both papers do: the granularity counts
    on numbers of the sum that are about equally large, and without it large
    ones may wrap around.

    Args:
        noise_multiplier: The deviation of all noise together, per unit of
            sensitivity; 0 for none.
        norm: To which updates are clipped, in L2.
        clients_per_round: How many shares of noise there are.
        bits: Of each number of a message.
        beta: The largest probability of rounding towards zero.
        granularity: What a step stands for; None for the finest that fits.

    Raises:
        ValueError: If an argument is out of its range; from `build`, if the
            sum doesn't fit into the bits.
    """

    decodes = "sum"
    bound = "sets"
    noise = "clients"
    label = "discrete"
    _plan: Plan

    def __init__(
        self,
        noise_multiplier: float,
        norm: float,
        clients_per_round: int,
        bits: int = 16,
        beta: float = math.exp(-0.5),
        granularity: float | None = None,
    ):
        checks.number("noise_multiplier", noise_multiplier)
        norms.check_bound("norm", norm)
        if granularity is not None:
            checks.positive("granularity", granularity)
        checks.number("clients_per_round", clients_per_round, least=1)
        checks.whole("bits", bits, 2, most=30)
        if not (checks.is_real(beta) and 0 <= beta < 1):
            raise ValueError(f"`beta` must be in [0, 1). Received: {beta!r}.")
        self.noise_multiplier = noise_multiplier
        self.norm = norm
        self.clients_per_round = clients_per_round
        self.bits = self.num_bits = bits
        self.beta = beta
        self.granularity = granularity

    def probabilities(self, std: float) -> np.ndarray:
        """Those of 0, 1, 2, ... in a client's noise of deviation `std`."""
        raise NotImplementedError

    def zcdp(self, plan: Plan, size: int) -> tuple[float, float]:
        """`(rho, xi)`: the Rényi divergence is at most `rho a + xi`.

        At each integer order `a` of 2 or more.
        """
        raise NotImplementedError

    def plan(self, size: int) -> Plan:
        """The numbers of a round for updates of `size` numbers."""
        granularity = self.granularity or self._finest_granularity(size)
        sensitivity = rounded_norm(self.norm / granularity, size, self.beta)
        std = self.noise_multiplier * sensitivity
        std /= math.sqrt(self.clients_per_round)
        return Plan(granularity, sensitivity, std)

    def _finest_granularity(self, size: int) -> float:
        """The finest steps with which a sum does not wrap around.

        A number of a rotated sum of `n` updates of norm `c` has a deviation of
        at most `c n / sqrt(size)`; rounding and noise add theirs. Six
        deviations on each side are to be in the range of the integers. (Kairouz
        et al. 2021, section 4, take four: then one in 16000 numbers wraps
        around if all clients agree.)
        """
        norm, num_clients = self.norm, self.clients_per_round

        def overflows(granularity: float) -> bool:
            longest = rounded_norm(norm / granularity, size, self.beta)
            sensitivity = granularity * longest
            std = math.sqrt(
                (norm * num_clients) ** 2 / size
                + num_clients * granularity**2 / 4
                + (self.noise_multiplier * sensitivity) ** 2
            )
            return 2 * _STDS_IN_RANGE * std > 2**self.bits * granularity

        low = high = norm * 2.0**-40
        while overflows(high):
            low, high = high, 2 * high
            if high > norm * num_clients * 2.0**10:
                raise ValueError(
                    f"{self.bits} bits can't hold the sum of {num_clients} "
                    f"updates of {size} numbers with noise multiplier "
                    f"{self.noise_multiplier}, however coarse. Take more bits."
                )
        for _ in range(40):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if overflows(middle) else (low, middle)
        return high

    def build(self, spec: Spec) -> Self:
        built = super().build(spec)
        built._plan = self.plan(flat_vector.size(spec))
        return built

    def encoded_spec(self) -> Any:
        # The smallest that is added modulo a multiple of 2**bits.
        wide = "uint16" if self.bits <= 16 else "int32"
        dtype = "uint8" if self.bits <= 8 else wide
        return [keras.KerasTensor(s.shape, dtype) for s in self.spec]

    def encode(self, value: Value, params: Any, seed: Any) -> tuple[Any, Any]:
        # In the update's own dtype first: 1e59 of a float64 model isn't
        # infinite. Then so that the bound is proven in float32.
        value = norms.scale_down(value, norms.l2(value), self.norm)
        flat = flat_vector.flatten(value)
        size, plan = flat.shape[0], self._plan
        norm = ops.sqrt(sum_of_squares(flat))
        bound = self.norm * (1 - summing_error(size))
        (flat,) = norms.scale_down([flat], norm, bound)
        scaled = flat / np.float32(plan.granularity)
        integers = _rounded(scaled, plan.sensitivity, seed)
        if plan.local_std > 0:
            half = self.probabilities(plan.local_std)
            table = discrete_distribution.thresholds(half)
            words = threefry.random_bits(seed, size, stream=1)
            words = ops.cast(words, "int32")
            integers += discrete_distribution.lookup(table, words)
        message = ops.bitwise_and(integers, np.int32(2**self.bits - 1))
        return flat_vector.unflatten(message, self.encoded_spec()), ()

    def decode(self, value: Any, params: Any) -> Value:
        return self.steps(value, np.float32(self._plan.granularity), self.spec)

    def sensitivity(self, bound: Any, params: Any) -> Any:
        """Of a client's part of the sum without its noise."""
        plan = self._plan
        return float(np.float32(plan.sensitivity * plan.granularity))

    def dp_event(self) -> Any:
        """What is proven of a run, a `fedlearn.privacy.SharedNoise`.

        Only once it is built: the more numbers, the more rounding counts.
        """
        if self.noise_multiplier == 0:
            return Gaussian(0.0)
        if not hasattr(self, "spec"):
            raise ValueError(
                f"What {type(self).__name__} guarantees depends on how many "
                "numbers an update has. Ask one that is built: "
                "`process.aggregator`, or `aggregator.build(spec)`."
            )
        size = flat_vector.size(self.spec)
        rho, xi = self.zcdp(self._plan, size)
        name = f"{self.label} noise, multiplier {self.noise_multiplier:.4g}"
        return SharedNoise(rho, xi, self.clients_per_round, name)


def _rounded(scaled: Any, sensitivity: float, seed: Any) -> Any:
    words = threefry.random_bits(seed, scaled.shape[0])
    uniform = ops.cast(
        ops.cast(ops.right_shift(words, np.uint32(8)), "int32"), "float32"
    ) * np.float32(2.0**-24)
    low = ops.floor(scaled)
    rounded = low + ops.cast(uniform < scaled - low, "float32")
    # The margin is for the rounding of this very sum.
    margin = summing_error(scaled.shape[0])
    limit = np.float32(sensitivity**2 * (1 - margin))
    fits = sum_of_squares(rounded) <= limit
    towards_zero = ops.sign(scaled) * ops.floor(ops.abs(scaled))
    integers = ops.where(fits, rounded, towards_zero)
    # No conversion is defined beyond int32, and what is cut off is shorter.
    return ops.cast(ops.clip(integers, -(2.0**30), 2.0**30), "int32")


_TERMS = 32


def sum_of_squares(vector: Any) -> Any:
    """The sum of the squares of float32 numbers, with a bound on its error.

    A sum of `m` numbers of at least 0 has a relative error of at most
    `(m - 1) * 2**-24`, in whatever order a backend adds them up. So no more
    than 32 are added at once.
    """
    terms = ops.square(vector)
    while terms.shape[0] > 1:
        missing = -terms.shape[0] % _TERMS
        rows = ops.reshape(ops.pad(terms, ((0, missing),)), (-1, _TERMS))
        terms = ops.sum(rows, axis=1)
    return ops.sum(terms)


def summing_error(size: int) -> float:
    """A bound on the relative error of `sum_of_squares`, and a bit more.

    The bit more is for what else is rounded: squares, a square root, a scale
    and the granularity, each by `2**-24`, and a limit in float32.
    """
    levels = 0
    while size > 1:
        size, levels = -(-size // _TERMS), levels + 1
    return (levels * (_TERMS - 1) + 16) * 2.0**-24


def rounded_norm(norm: float, size: int, beta: float) -> float:
    """A bound on the L2 norm of a vector that was rounded at random.

    Kairouz, Liu and Steinke 2021 (arXiv:2102.06387), theorem 1: the smaller of
    what always holds, and what holds but for a probability of `beta`.
    """
    always = norm + math.sqrt(size)
    if beta == 0:
        return always
    mostly = (
        norm**2
        + size / 4
        + math.sqrt(2 * math.log(1 / beta)) * (norm + math.sqrt(size) / 2)
    )
    return min(always, math.sqrt(mostly))


def integer_l1(l2: float, size: int) -> float:
    """A bound on integers' L1 norm: none is larger than its square."""
    return l2 * min(math.sqrt(size), l2)


def smallest_at_order(
    bounds: list[tuple[float, float]], order: float = 16.0
) -> tuple[float, float]:
    """Of `(rho, xi)` that all hold, that with the smallest `rho a + xi`."""
    return min(bounds, key=lambda bound: bound[0] * order + bound[1])
