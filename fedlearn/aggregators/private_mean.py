from typing import Any, Literal

from fedlearn import checks
from fedlearn.advice import keras_words
from fedlearn.aggregators.mean import Mean
from fedlearn.encoders.adaptive_clip import AdaptiveClip, noise_split
from fedlearn.encoders.chain import Encoders, links
from fedlearn.encoders.clip import Clip
from fedlearn.encoders.encoder import Encoder, Noise
from fedlearn.encoders.gaussian_noise import GaussianNoise

_BUDGET = (
    "it takes a `noise_multiplier` and `clients_per_round`, and what epsilon "
    "that is depends on the number of rounds and of clients. For a budget: "
    "plan = fl.privacy.plan(epsilon=8, rounds=..., population=len(data), "
    "clients_per_round=...), then aggregator=plan.aggregator() and "
    "fit(..., sampler=plan.sampler(data))"
)


class PrivateMean(Mean):
    """The mean of clipped updates with Gaussian noise: DP-FedAvg.

    McMahan et al. 2018, "Learning differentially private recurrent language
    models", arXiv:1710.06963, with the adaptive clipping of Andrew et al.
    2021, arXiv:1905.03871. All that the guarantee rests on is fixed here:
    updates are clipped, count the same, are added up, get noise scaled to the
    clip norm, and the sum is divided by a fixed number. The guarantee is for a
    client with all of its data. `fit` logs `epsilon` after each round, for
    the sampler that it really uses. What else there is to say of a run's
    privacy says `fedlearn.privacy.Privacy`.

    What the guarantee does not cover:

    * Metrics of clients' training (`loss`, `num_examples`, ...), which are
      exact, and what callbacks do because of them; `num_clients`, `bytes_up`
      and `bytes_down`, which tell how many took part, and with messages of
      variable length how long those were. `Privacy(private_metrics=True)`
      leaves them out of the logs, and refuses validation data of the same
      clients. (Copies of their examples in a list or a pooled tuple it can't
      tell.)
    * Sums of floats are rounded while they are added up. (Of what is
      released the last bits tell nothing: see `fedlearn.encoders.noise_grid`.)
    * Other runs. Each run on the same clients has an epsilon of its own;
      together they cost the sum, of the deltas too. A second `fit` of a
      process is the same run, and its epsilon counts the rounds of both; one
      from an `initial_state` counts that state's rounds as if they had had
      this noise and these clients.
    * Without `secure_noise`, the seed. Whoever knows it can take the noise
      off; and what differs between two runs with one seed shows without any.
    * With `secure_noise`, rounds that were lost and are computed again: they
      get new noise, so whoever has seen the lost ones knows both.

    Args:
        clip_norm: The largest L2 norm of an update; or `"adaptive"`: a norm
            that follows the median of the updates' norms (another quantile:
            use `Mean` with an `AdaptiveClip`).
        noise_multiplier: The noise's standard deviation over the clip norm,
            of the round as a whole; see `fedlearn.privacy.plan`.
        clients_per_round: How many clients take part, on average: what the
            sum is divided by.
        encoders: What happens to a clipped update on the wire: compression.
            Messages that are decoded one by one are clipped again then.

    Raises:
        TypeError: If there is no noise multiplier; for an `epsilon`, with the
            way to one.
        ValueError: If an argument is out of its range, or the encoders don't
            go with noise; from `init`, if updates have 16 bits.

    Example:

    >>> aggregator = PrivateMean(
    ...     clip_norm=0.5, noise_multiplier=1.0, clients_per_round=100)
    >>> [type(e).__name__ for e in aggregator.encoders]
    ['Clip', 'GaussianNoise']
    """

    @keras_words.answers({**keras_words.PRIVACY, "epsilon": _BUDGET})
    def __init__(
        self,
        clip_norm: float | Literal["adaptive"] = "adaptive",
        *,
        noise_multiplier: float | None = None,
        clients_per_round: float | None = None,
        encoders: Encoders = (),
    ):
        if noise_multiplier is None or clients_per_round is None:
            raise TypeError(f"PrivateMean needs noise: {_BUDGET}.")
        if clip_norm != "adaptive":
            meaning = "a norm, or 'adaptive' for one that follows them"
            checks.positive("clip_norm", clip_norm, meaning)
        checks.number("noise_multiplier", noise_multiplier)
        checks.positive("clients_per_round", clients_per_round)
        self.clip_norm = clip_norm
        self.noise_multiplier = noise_multiplier
        self.clients_per_round = clients_per_round
        self._wire = links(encoders)
        for encoder in self._wire:
            if encoder.bound == "sets" or isinstance(encoder, Noise):
                raise ValueError(
                    f"PrivateMean clips and adds noise by itself, and "
                    f"`encoders` contains {type(encoder).__name__}. Give only "
                    "what happens on the wire; for a chain of your own use "
                    "Mean."
                )
        clip: Encoder
        if clip_norm == "adaptive":
            # As Andrew et al. recommend: noise of a twentieth of the clients
            # on the count, or more, so that the count takes at most a quarter
            # of what the round may give away; none where there is none on
            # the updates.
            count_noise = 0.0
            if noise_multiplier:
                count_noise = max(clients_per_round / 10, 2 * noise_multiplier)
            clip = AdaptiveClip(
                clients_per_round=clients_per_round,
                count_noise_multiplier=count_noise,
            )
            noise_multiplier = noise_split(noise_multiplier, count_noise)
        else:
            clip = Clip(clip_norm)
        super().__init__(
            [clip, GaussianNoise(noise_multiplier), *self._wire],
            weighting="uniform",
            denominator=clients_per_round,
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "encoders": self._wire}
