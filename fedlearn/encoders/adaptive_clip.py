from typing import Any

import numpy as np
from keras import ops

from fedlearn import checks
from fedlearn.encoders import noise_grid, norms
from fedlearn.encoders.clip import smaller
from fedlearn.encoders.encoder import Encoder, Updated, Value
from fedlearn.privacy.require_dp_accounting import require_dp_accounting


class AdaptiveClip(Encoder):
    """Updates of at most a norm that follows a quantile of their norms.

    Of Andrew et al. 2021, "Differentially private learning with adaptive
    clipping" (arXiv:1905.03871), algorithm 1. Each client says with one bit
    whether its norm is at most `C`; with `b` the share that is, the server
    sets `C = C * exp(-learning_rate * (b - target_quantile))`. From a start
    a hundred times off the median that takes 18 rounds with the default
    learning rate, and 46 with the paper's 0.2, which follows the noise of the
    count less closely.

    The bits are private data too. Clients send each as 1/2 or -1/2, so that
    one changes the sum by at most 1/2, and the server adds noise of deviation
    `count_noise_multiplier / 2` to it. What this costs is made up for by a
    little more noise on the updates: see `noise_split`.

    Metrics: `clip_norm`, that of this round.

    Args:
        target_quantile: The share of updates that should not be clipped.
        initial_norm: `C` in the first round.
        learning_rate: Of the logarithm of `C`.
        clients_per_round: What the count is divided by, fixed, so that who
            took part doesn't show; None for the number that did, without
            privacy.
        count_noise_multiplier: The deviation of the noise on the count, per
            unit of sensitivity (1/2); 0 for none. `None`: the paper's
            `clients_per_round / 10`; without `clients_per_round`, 0.

    Raises:
        ValueError: If an argument is out of its range, or if there is noise
            but no fixed `clients_per_round`.

    Example: too small a norm grows by `exp(0.5 * 0.5)`.

    >>> clip = AdaptiveClip(initial_norm=1.0)
    >>> state = clip.init()
    >>> value, stats = clip.encode([ops.array([3.0, 4.0])], state, None)
    >>> state, metrics = clip.update(state, stats, clip.draw(state, None))
    >>> round(float(state), 4)
    1.284
    """

    bound = "sets"

    def __init__(
        self,
        target_quantile: float = 0.5,
        initial_norm: float = 0.1,
        learning_rate: float = 0.5,
        clients_per_round: float | None = None,
        count_noise_multiplier: float | None = None,
    ):
        checks.number("target_quantile", target_quantile, most=1)
        norms.check_bound("initial_norm", initial_norm)
        checks.positive("learning_rate", learning_rate)
        checks.positive("clients_per_round", clients_per_round or 1)
        if count_noise_multiplier is None:
            count_noise_multiplier = (clients_per_round or 0) / 10
        checks.number("count_noise_multiplier", count_noise_multiplier)
        if count_noise_multiplier and clients_per_round is None:
            raise ValueError(
                "With noise on the count of unclipped updates, what it is "
                "divided by must not depend on who took part. Give "
                "`clients_per_round`, the (expected) number of clients."
            )
        self.target_quantile = target_quantile
        self.initial_norm = initial_norm
        self.learning_rate = learning_rate
        self.clients_per_round = clients_per_round
        self.count_noise_multiplier = count_noise_multiplier

    def init(self) -> Any:
        return ops.convert_to_tensor(self.initial_norm, "float32")

    def params(self, state: Any, seed: Any, bound: Any) -> Any:
        return state

    def encode(self, value: Value, params: Any, seed: Any) -> tuple[Any, Any]:
        norm = norms.l2(value)
        above = ops.cast(norm > ops.cast(params, norm.dtype), "float32")
        stats = {"bits": 0.5 - above, "count": ops.ones_like(above)}
        return norms.scale_down(value, norm, params), stats

    def draw(self, state: Any, rng: np.random.Generator) -> Any:
        if self.count_noise_multiplier == 0:
            return ()
        return noise_grid.to_steps(noise_grid.draw((), rng), "int32")

    def update(self, state: Any, stats: Any, noise: Any) -> Updated:
        bits = stats["bits"]
        if self.count_noise_multiplier:
            # Sensitivity 1/2: see the class.
            multiplier = self.count_noise_multiplier
            std = noise_grid.standard_deviation(multiplier, 0.5, 1)
            bits = noise_grid.add(bits, noise, std)
        if self.clients_per_round is None:
            nobody = stats["count"] == 0
            share = bits / ops.where(nobody, 1.0, stats["count"]) + 0.5
            # From nobody nothing is learned.
            share = ops.where(nobody, self.target_quantile, share)
        else:
            share = bits / self.clients_per_round + 0.5
        error = share - self.target_quantile
        norm = state * ops.exp(-self.learning_rate * error)
        return norm, {"clip_norm": state}

    def sensitivity(self, bound: Any, params: Any) -> Any:
        return smaller(bound, params)

    def dp_event(self) -> Any:
        """Of the noisy count: a Gaussian mechanism with its multiplier."""
        dp_accounting = require_dp_accounting()
        if self.count_noise_multiplier == 0:
            return dp_accounting.NonPrivateDpEvent()
        return dp_accounting.GaussianDpEvent(self.count_noise_multiplier)


def noise_split(
    noise_multiplier: float, count_noise_multiplier: float
) -> float:
    """The noise multiplier for the updates that leaves room for the count.

    A Gaussian mechanism with multiplier `z_sum` on the updates and one with
    `z_count` on the count give away together what one with `z` does, where
    `z**-2 = z_sum**-2 + z_count**-2`. With `z_count = 2 * sigma_b` this is
    Andrew et al. 2021, theorem 1. Raises ValueError if the count alone gives
    away more than the round may.
    """
    checks.number("noise_multiplier", noise_multiplier)
    checks.number("count_noise_multiplier", count_noise_multiplier)
    if noise_multiplier == 0:
        return 0.0
    if count_noise_multiplier <= noise_multiplier:
        raise ValueError(
            f"`count_noise_multiplier` is {count_noise_multiplier}, and must "
            f"be larger than `noise_multiplier`, {noise_multiplier}: what the "
            "count gives away is more than the whole round may. Raise it, or "
            "take more clients per round."
        )
    return (noise_multiplier**-2 - count_noise_multiplier**-2) ** -0.5
