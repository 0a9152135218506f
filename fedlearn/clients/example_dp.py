from typing import Literal

from fedlearn import checks
from fedlearn.advice import keras_words
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

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> import fedlearn as fl
    >>> dp = fl.clients.ExampleDP(clip_norm=1.0, noise_multiplier=1.1)
    >>> fl.LocalTraining("sgd", batch_size=32, dp=dp).dp
    ExampleDP(clip_norm=1.0, noise_multiplier=1.1)
    """

    @keras_words.answers(keras_words.PRIVACY)
    def __init__(
        self,
        clip_norm: float,
        noise_multiplier: float,
        batches: Literal["poisson", "shuffled"] = "poisson",
    ):
        self.clip_norm = checks.positive(
            "clip_norm", clip_norm, "the largest norm of an example's gradient"
        )
        self.noise_multiplier = checks.number(
            "noise_multiplier",
            noise_multiplier,
            meaning="the noise's standard deviation over `clip_norm`",
        )
        self.batches = checks.one_of(
            "batches", batches, ("poisson", "shuffled")
        )
