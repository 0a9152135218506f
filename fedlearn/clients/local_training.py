from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import keras

from fedlearn import checks, optimizers
from fedlearn.advice import keras_words
from fedlearn.clients import class_weight as class_weights
from fedlearn.clients.algorithm import Algorithm
from fedlearn.clients.example_dp import ExampleDP
from fedlearn.clients.local_trainer import LocalTrainer
from fedlearn.clients.personal_variables import PersonalVariables
from fedlearn.clients.private_trainer import PrivateTrainer
from fedlearn.keras_model.functional_model import FunctionalModel
from fedlearn.serialization import Configurable

if TYPE_CHECKING:
    from fedlearn.privacy import ExampleGuarantee
    from fedlearn.samplers import Sampler


class LocalTraining(Configurable):
    """Some epochs of minibatch training, as `model.fit` does.

    `ClientUpdate` of McMahan et al. 2017, algorithm 1, with any Keras
    optimizer. A client starts with a fresh optimizer in each round: it isn't
    expected to come back.

    Args:
        optimizer: A Keras optimizer, or a string as for
            `fedlearn.optimizers.get`; None for the one that the
            model was compiled with. A `LearningRateSchedule` counts rounds
            here, since a client's own steps start anew in each round.
        batch_size: Examples a step. The last batch of an epoch is smaller
            where the examples don't divide evenly; none is dropped or padded.
        epochs: Passes over the client's examples in a round.
        shuffle: Whether each epoch takes the examples in another order, drawn
            from the run's seed, the round, the client and the epoch.
        max_steps: At most so many steps in a round; None for no limit.
        proximal: FedProx's mu (Li et al. 2020, "Federated optimization in
            heterogeneous networks"): adds `mu / 2 * ||w - w_round||^2` to
            what is minimised (not to the loss that is reported).
        statistics: What happens to the statistics that layers such as
            BatchNormalization change while they train; all else that isn't
            trained (frozen layers, an adapted Normalization) stays with the
            client, as it is, in any case.

            * `"average"`: clients send them, exact, and the server takes
              their mean, as it does of weights; with a rule that looks at
              clients side by side (`Median`, `Krum`, ...), their median.
              Refused with noise and with secure sums. In a round they go no
              further than a client's steps take them: where those are few,
              take `BatchNormalization(momentum=0.9)`, not Keras's 0.99.
            * `"local"`: each client keeps its own from round to round, in
              `state.client_states`, and shares the rest: SiloBN (Andreux et
              al. 2020, "Siloed federated learning for multi-centric
              histopathology datasets", arXiv:2008.07424). (FedBN, Li et al.
              2021, arXiv:2102.07623, keeps gamma and beta too.) For clients
              that come back. The server's statistics stay what they were, so
              a model for new clients needs some of their data first: call it
              on that with `training=True`.
            * `"frozen"`: nobody changes them, and layers use them in training
              too, as in inference, where both would differ otherwise. For
              models that were trained before; in a fresh one
              BatchNormalization then only scales and shifts.
        dp: A `fedlearn.clients.ExampleDP` for DP-SGD: differential privacy
            for each example, at the client itself. `fit` then logs
            `epsilon_example`.
        class_weight: From classes to weights, as in Keras's `fit`: examples
            of a class count so much in the loss that is minimised and
            reported, and in `weighted_metrics`; those of others once.

    Raises:
        ValueError: If a number is out of range.
        TypeError: If `dp` is no `ExampleDP`, or `class_weight` no mapping.

    Example:

    >>> client = LocalTraining("sgd", batch_size=20, epochs=5)
    >>> client.batch_size
    20
    """

    @keras_words.answers(keras_words.CLIENT)
    def __init__(
        self,
        optimizer: str | keras.optimizers.Optimizer | None = None,
        batch_size: int = 32,
        epochs: int = 1,
        shuffle: bool = True,
        max_steps: int | None = None,
        proximal: float = 0.0,
        dp: ExampleDP | None = None,
        statistics: Literal["average", "local", "frozen"] = "average",
        class_weight: Mapping[int, float] | None = None,
    ):
        self.optimizer = (
            None if optimizer is None else optimizers.get(optimizer)
        )
        self.batch_size = checks.whole("batch_size", batch_size)
        self.epochs = checks.whole("epochs", epochs)
        self.shuffle = bool(shuffle)
        if max_steps is not None:
            max_steps = checks.whole("max_steps", max_steps)
        self.max_steps = max_steps
        self.proximal = checks.number("proximal", proximal)
        if dp is not None and not isinstance(dp, ExampleDP):
            raise TypeError(
                "`dp` must be a fedlearn.clients.ExampleDP, or None. "
                f"Received: {dp!r}."
            )
        if dp is not None and dp.batches == "poisson" and not self.shuffle:
            raise ValueError(
                "Poisson batches are drawn at random, but shuffle=False. "
                "Leave `shuffle`, or use ExampleDP(batches='shuffled'), which "
                "then takes the examples in their order."
            )
        self.dp = dp
        self.class_weight = class_weights.checked(class_weight)
        self.statistics = checks.one_of(
            "statistics",
            statistics,
            ("average", "local", "frozen"),
            "what becomes of the statistics of layers such as "
            "BatchNormalization",
        )

    @property
    def adds_noise(self) -> bool:
        """Whether a client protects its examples with noise."""
        return self.dp is not None and self.dp.noise_multiplier > 0

    def guarantee(
        self,
        num_examples: Mapping[str, int],
        sampler: "Sampler | None" = None,
        delta: float | None = None,
    ) -> "ExampleGuarantee | None":
        """What a run may promise for one example; None without noise.

        Args:
            num_examples: Each client's number of examples, by its id.
            sampler: Who takes part; None for everyone in every round.
            delta: As for `fedlearn.privacy.ExampleGuarantee`.
        """
        if not self.adds_noise or not any(num_examples.values()):
            return None
        from fedlearn.privacy import ExampleGuarantee

        return ExampleGuarantee(self, num_examples, sampler, delta)

    def build(
        self,
        model: FunctionalModel,
        algorithm: Algorithm,
        personal: PersonalVariables,
    ) -> LocalTrainer:
        """The pure functions of this training for one model."""
        if self.dp is None:
            return LocalTrainer(self, model, algorithm, personal)
        return PrivateTrainer(self, model, algorithm, personal)

    def num_steps(self, num_examples: int) -> int:
        """How many steps a client of so many examples takes in a round.

        >>> LocalTraining(batch_size=20, epochs=2).num_steps(30)
        4
        """
        steps = self.epochs * -(-num_examples // self.batch_size)
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def num_trained(self, num_examples: int) -> int:
        """How many examples such a client trains on, each as often as it does.

        >>> LocalTraining(batch_size=20, epochs=2).num_trained(30)
        60
        >>> LocalTraining(batch_size=20, max_steps=3).num_trained(100)
        60
        """
        a_pass = -(-num_examples // self.batch_size)
        passes, steps = divmod(self.num_steps(num_examples), max(a_pass, 1))
        return passes * num_examples + steps * self.batch_size
