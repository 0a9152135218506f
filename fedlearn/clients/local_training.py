"""Minibatch training on one client's examples."""

import math
import numbers
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np
from keras import ops

from fedlearn import backend, optimizers, seeds
from fedlearn.advice import keras_words
from fedlearn.clients import class_weight as class_weights
from fedlearn.clients.algorithm import Algorithm, Carry, Local
from fedlearn.clients.example_dp import ExampleDP
from fedlearn.clients.personal_variables import PersonalVariables
from fedlearn.keras_model import keras_internals
from fedlearn.keras_model.functional_model import (
    Arrays,
    FunctionalModel,
    Variables,
)
from fedlearn.messages.broadcast import Received
from fedlearn.optimizers.functional import FunctionalOptimizer
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
              Refused with noise and with secure sums.
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
        self.batch_size = _positive_int("batch_size", batch_size)
        self.epochs = _positive_int("epochs", epochs)
        self.shuffle = bool(shuffle)
        self.max_steps = (
            None if max_steps is None else _positive_int("max_steps", max_steps)
        )
        if not (_is_number(proximal) and 0 <= proximal < math.inf):
            raise ValueError(
                f"`proximal` must be a number >= 0. Received: {proximal!r}."
            )
        self.proximal = float(proximal)
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
        if statistics not in ("average", "local", "frozen"):
            raise ValueError(
                "`statistics` must be 'average', 'local' or 'frozen': whether "
                "the statistics of layers such as BatchNormalization are "
                "averaged, kept at each client, or left as they are. "
                f"Received: {statistics!r}."
            )
        self.statistics = statistics

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
    ) -> "LocalTrainer":
        """The pure functions of this training for one model.

        Args:
            model: The model's pure functions.
            algorithm: What is done besides.
            personal: Which variables clients don't share.
        """
        if self.dp is None:
            return LocalTrainer(self, model, algorithm, personal)
        from fedlearn.clients.private_trainer import PrivateTrainer

        return PrivateTrainer(self, model, algorithm, personal)

    def num_steps(self, num_examples: int) -> int:
        """How many steps a client of so many examples takes in a round.

        >>> LocalTraining(batch_size=20, epochs=2).num_steps(30)
        4
        """
        steps = self.epochs * -(-num_examples // self.batch_size)
        return steps if self.max_steps is None else min(steps, self.max_steps)


def _positive_int(name: str, value: Any) -> int:
    if not _is_number(value) or value < 1 or value % 1:
        raise ValueError(
            f"`{name}` must be a whole number of at least 1. "
            f"Received: {value!r}."
        )
    return int(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


class LocalTrainer:
    """The pure functions of a `LocalTraining` for one model.

    Args:
        config: What to do.
        model: On which model.
        algorithm: What is done besides.
        personal: Which variables clients don't share.

    Attributes:
        per_example: Whether gradients are taken example by example, so that
            rows of a batch can be left out, whatever the model.
    """

    per_example: bool = False

    def __init__(
        self,
        config: LocalTraining,
        model: FunctionalModel,
        algorithm: Algorithm,
        personal: PersonalVariables,
    ):
        self.config = config
        self.model = model
        self.algorithm = algorithm
        self.personal = personal
        self.optimizer = FunctionalOptimizer(
            _scaling(config.optimizer, model.model),
            model.model.trainable_variables,
            schedule="rounds",
        )
        self._grad = backend.value_and_grad(self._loss)
        self._padded_grad = backend.value_and_grad(self._padded_loss)

    def batches(self, num_examples: int, seed: int) -> list[np.ndarray]:
        """Positions of the examples of each step of a round, in order.

        Args:
            num_examples: How many examples the client has.
            seed: The client's seed in this round.

        Returns:
            A list of int32 arrays, each of at most `batch_size` positions.
        """
        size, steps = self.config.batch_size, []
        for epoch in range(self.config.epochs):
            if self.config.shuffle:
                order = seeds.permutation(num_examples, seed, "order", epoch)
            else:
                order = np.arange(num_examples)
            order = order.astype(np.int32)
            steps += [order[i : i + size] for i in range(0, num_examples, size)]
        return steps[: self.config.max_steps]

    def start(self, broadcast: Received, seed: Any, client_state: Any) -> Carry:
        """What the first step starts from.

        Args:
            broadcast: What the server sent, with the client's own variables.
            seed: An int32 array of shape `(2,)`, the client's own.
            client_state: What the client kept for the algorithm.
        """
        optimizer = self.optimizer.initial_values(broadcast.trainable)
        if not isinstance(broadcast.learning_rate, tuple):
            optimizer = self.optimizer.with_learning_rate(
                optimizer, broadcast.learning_rate
            )
        variables = self.model.start(
            broadcast.trainable, broadcast.non_trainable, seed
        )
        carry = Carry(
            variables,
            optimizer,
            ops.convert_to_tensor(seed),
            ops.zeros((), "int32"),
        )
        local = Local(broadcast, self.optimizer)
        memory = self.algorithm.start(local, carry, client_state)
        return carry._replace(memory=memory)

    def step(
        self, broadcast: Received, carry: Carry, batch: tuple, num_real: Any
    ) -> Carry:
        """One step of the client's optimizer on one batch.

        Args:
            broadcast: What the server sent.
            carry: From the step before.
            batch: `b` rows.
            num_real: How many of them count, a scalar, where the last are
                copies of the first; None if all do.
        """

        def gradient(weights, variables, optimizer):
            now = carry._replace(variables=variables, optimizer=optimizer)
            return self.gradient(broadcast, now, weights, batch, num_real)

        local = Local(broadcast, self.optimizer, gradient)
        return self.algorithm.step(local, carry)

    def gradient(
        self,
        broadcast: Received,
        carry: Carry,
        weights: Arrays,
        batch: tuple,
        num_real: Any,
    ) -> tuple[Arrays, Variables]:
        """The gradient of a batch's loss, and the variables after it.

        With `num_real`, nothing of the copies is left: a mean over `b` rows,
        of which the last `b - r` equal the first, is `(b * mean - (b - r) *
        first) / r` over the others, and sums in metrics likewise. That takes
        a loss that is a mean over examples, each of which is computed by
        itself; see `fedlearn.keras_model.example_wise`.

        Args:
            broadcast: As for `step`.
            carry: As for `step`.
            weights: Where.
            batch: As for `step`.
            num_real: As for `step`; at least 1, or the result means nothing.
        """
        args = weights, carry.variables, broadcast, batch, carry.optimizer
        if num_real is None:
            (_, variables), grads = self._grad(*args)
        else:
            (_, variables), grads = self._padded_grad(*args, num_real)
        return grads, variables

    def _padded_loss(
        self, trainable, variables, broadcast, batch, optimizer, num_real
    ):
        size = ops.cast(ops.shape(keras.tree.flatten(batch)[0])[0], "float32")
        real = ops.maximum(ops.cast(num_real, "float32"), 1.0)
        copies = size - real
        first = keras.tree.map_structure(lambda a: a[:1], batch)
        none = variables._replace(
            metrics=[ops.zeros_like(m) for m in variables.metrics]
        )
        loss, after = self._loss(
            trainable, variables, broadcast, batch, optimizer
        )
        one, after_one = self._loss(
            trainable, none, broadcast, first, optimizer
        )
        metrics = [
            m - ops.cast(copies, m.dtype) * m_one
            for m, m_one in zip(after.metrics, after_one.metrics, strict=True)
        ]
        loss = (
            ops.cast(size / real, loss.dtype) * loss
            - ops.cast(copies / real, loss.dtype) * one
        )
        return loss, after._replace(metrics=metrics)

    def _loss(self, trainable, variables, broadcast, batch, optimizer_values):
        optimizer = self.optimizer.optimizer
        loss, variables = self.model.loss(
            trainable,
            variables,
            self.model.frozen(broadcast.non_trainable),
            class_weights.weighted(batch, self.config.class_weight),
            training=True,
            optimizer=optimizer,
            optimizer_values=optimizer_values,
        )
        if self.config.proximal:
            distance = self._distance(trainable, broadcast, loss.dtype)
            mapping = zip(optimizer.variables, optimizer_values, strict=True)
            with keras.StatelessScope(mapping):
                loss += optimizer.scale_loss(distance)
        return loss, variables

    def _distance(self, trainable, broadcast, dtype):
        """What FedProx adds: from where the round began, squared."""
        squares = sum(
            ops.sum(
                ops.square(
                    ops.cast(trainable[i] - broadcast.trainable[i], dtype)
                )
            )
            for i in self.personal.shared
        )
        return self.config.proximal / 2 * squares


def _scaling(
    optimizer: keras.optimizers.Optimizer | None, model: keras.Model
) -> keras.optimizers.Optimizer:
    """A client's optimizer, with the loss scaling that `compile` would add.

    In float16 small gradients are zero unless the loss is scaled up.
    """
    scales = keras.optimizers.LossScaleOptimizer
    if optimizer is None:
        return model.optimizer
    if (
        model.dtype_policy.name == "mixed_float16"
        and keras_internals.compile_arguments(model).get(
            "auto_scale_loss", True
        )
        and not isinstance(optimizer, scales)
    ):
        return scales(optimizer, name="loss_scale_optimizer")
    return optimizer
