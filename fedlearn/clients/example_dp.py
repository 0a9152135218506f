import math
import numbers
from typing import Any, Literal

from fedlearn.serialization import Configurable


class ExampleDP(Configurable):
    """DP-SGD at a client: each single example is protected.

    Abadi et al. 2016, "Deep learning with differential privacy", algorithm 1,
    https://arxiv.org/abs/1607.00133. In each step of a client the gradient of
    every example is taken by itself and clipped to `clip_norm`. To their sum
    is added Gaussian noise of deviation `noise_multiplier * clip_norm`, and
    the client's optimizer gets that, divided by a number that the data don't
    choose.

    For clients that are institutions, such as hospitals, with examples that
    are people. Whoever sees a client's updates, the server too, learns little
    of any one of its examples; the server needs no trust. (The mean with
    noise, `fedlearn.aggregators.PrivateMean`, protects clients as a whole,
    and from all but the server. A run may have both, and says both.)

    What doesn't come from an example is outside the clip: weights'
    regularizers and `proximal`. An example whose gradient isn't finite counts
    as zero, so that what it does to an update is bounded, too; the `loss`
    that is reported is then NaN.

    What the guarantee does not cover: metrics of clients' training (`loss`,
    `num_examples`, ...), which are exact; how many examples a client has;
    and that floating-point noise is not the noise of the theory (Mironov
    2012, "On significance of the least significant bits"). None of the
    noise is larger than 6.8 deviations.

    The memory of a step is the size of the model's weights times that of a
    batch.

    Args:
        clip_norm: The largest L2 norm of an example's gradient, over all
            trainable variables together.
        noise_multiplier: The noise's standard deviation over `clip_norm`; 0
            for no noise, and so no guarantee.
        batches: `"poisson"`: each example is in a step by itself, with
            probability `batch_size / num_examples`, which amplifies privacy.
            Batches differ in size, and may be empty; there are as many as
            there would be otherwise, and sums are divided by `batch_size`,
            also where a client has fewer examples. `"shuffled"`: passes over
            all examples, as without privacy; nothing is amplified.
        delta: Of the guarantee; None for one over ten times the largest
            number of examples that a client has.
        secure_noise: Whether all that is random at a client, noise and
            batches, comes from the operating system's entropy, 62 bits a
            client and round, as a deployment needs. By default it comes from
            the run's seed: reproducible, for simulation.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> import fedlearn as fl
    >>> dp = fl.clients.ExampleDP(clip_norm=1.0, noise_multiplier=1.1)
    >>> fl.LocalTraining("sgd", batch_size=32, dp=dp).dp
    ExampleDP(clip_norm=1.0, noise_multiplier=1.1)
    """

    def __init__(
        self,
        clip_norm: float,
        noise_multiplier: float,
        batches: Literal["poisson", "shuffled"] = "poisson",
        delta: float | None = None,
        secure_noise: bool = False,
    ):
        if not (_is_number(clip_norm) and 0 < clip_norm < math.inf):
            raise ValueError(
                "`clip_norm` must be a positive number: the largest norm of "
                f"an example's gradient. Received: {clip_norm!r}."
            )
        if not (
            _is_number(noise_multiplier) and 0 <= noise_multiplier < math.inf
        ):
            raise ValueError(
                "`noise_multiplier` must be a number of at least 0: the "
                "noise's standard deviation over `clip_norm`. Received: "
                f"{noise_multiplier!r}."
            )
        if batches not in ("poisson", "shuffled"):
            raise ValueError(
                "`batches` must be 'poisson' or 'shuffled'. Received: "
                f"{batches!r}."
            )
        if delta is not None and not (_is_number(delta) and 0 < delta < 1):
            raise ValueError(
                "`delta` must be above 0 and below 1, or None. Received: "
                f"{delta!r}."
            )
        if delta is not None and not noise_multiplier:
            raise ValueError(
                "`delta` is that of a guarantee, and without noise there is "
                "none. Give a `noise_multiplier` above 0, or no `delta`."
            )
        self.clip_norm = float(clip_norm)
        self.noise_multiplier = float(noise_multiplier)
        self.batches = batches
        self.delta = None if delta is None else float(delta)
        self.secure_noise = bool(secure_noise)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
