from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import backend, seeds
from fedlearn.clients import class_weight as class_weights
from fedlearn.clients.algorithm import Algorithm, Carry, Local
from fedlearn.clients.personal_variables import PersonalVariables
from fedlearn.keras_model import keras_internals
from fedlearn.keras_model.functional_model import (
    Arrays,
    FunctionalModel,
    Variables,
)
from fedlearn.messages.broadcast import Received
from fedlearn.optimizers.functional import FunctionalOptimizer


class LocalTrainer:
    """The pure functions of a `LocalTraining` for one model.

    Attributes:
        per_example: Whether gradients are taken example by example, so that
            rows of a batch can be left out, whatever the model.
    """

    per_example: bool = False

    def __init__(
        self,
        config: Any,
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

    def batches(self, num_examples: int, seed: int) -> list[np.ndarray]:
        """Positions of the examples of each step of a round, int32."""
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
        """What the first step starts from, with the client's own variables."""
        local = Local(broadcast, self.optimizer, self.personal)
        variables = self.model.start(
            broadcast.trainable, broadcast.non_trainable, seed
        )
        carry = Carry(
            variables,
            local.fresh_optimizer(broadcast.trainable),
            ops.convert_to_tensor(seed),
            ops.zeros((), "int32"),
        )
        memory = self.algorithm.start(local, carry, client_state)
        return carry._replace(memory=memory)

    def step(
        self,
        broadcast: Received,
        carry: Carry,
        batch: tuple,
        num_real: Any = None,
    ) -> Carry:
        """One step of the client's optimizer on one batch.

        `num_real` of its rows count, where the last are copies of the first;
        None if all do.
        """
        local = self._local(broadcast, carry, batch, num_real)
        return self.algorithm.step(local, carry)

    def look(
        self,
        broadcast: Received,
        carry: Carry,
        batch: tuple,
        num_real: Any = None,
    ) -> Carry:
        """What `step` is given, of the pass before, and no step."""
        local = self._local(broadcast, carry, batch, num_real)
        return carry._replace(memory=self.algorithm.look(local, carry))

    def _local(self, broadcast, carry, batch, num_real):
        taken: list[bool] = []

        def gradient(weights, variables, optimizer):
            if taken and self.per_example:
                raise ValueError(
                    f"{type(self.algorithm).__name__} takes two gradients of "
                    "a batch, and what `dp` guarantees is of one. Take one, "
                    "or train without `dp`."
                )
            taken.append(True)
            now = carry._replace(variables=variables, optimizer=optimizer)
            return self.gradient(broadcast, now, weights, batch, num_real)

        def loss(weights, variables):
            args = weights, variables, broadcast, batch, None, num_real
            return self._loss(*args)[0]

        count = num_real
        if count is None:
            count = ops.shape(keras.tree.flatten(batch)[0])[0]
        count = ops.cast(count, "float32")
        return Local(
            broadcast, self.optimizer, self.personal, gradient, loss, count
        )

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
        """
        (_, variables), grads = self._grad(
            weights,
            carry.variables,
            broadcast,
            batch,
            carry.optimizer,
            num_real,
        )
        return grads, variables

    def _loss(
        self, trainable, variables, broadcast, batch, optimizer, num_real
    ):
        """In inference, and without FedProx's term, without an optimizer."""

        def of(variables, batch):
            args = trainable, variables, broadcast, batch, optimizer
            return self._loss_of_rows(*args)

        if num_real is None:
            return of(variables, batch)
        size = ops.cast(ops.shape(keras.tree.flatten(batch)[0])[0], "float32")
        real = ops.maximum(ops.cast(num_real, "float32"), 1.0)
        copies = size - real
        first = keras.tree.map_structure(lambda a: a[:1], batch)
        none = variables._replace(
            metrics=[ops.zeros_like(m) for m in variables.metrics]
        )
        loss, after = of(variables, batch)
        one, after_one = of(none, first)
        metrics = [
            m - ops.cast(copies, m.dtype) * m_one
            for m, m_one in zip(after.metrics, after_one.metrics, strict=True)
        ]
        loss = (
            ops.cast(size / real, loss.dtype) * loss
            - ops.cast(copies / real, loss.dtype) * one
        )
        return loss, after._replace(metrics=metrics)

    def _loss_of_rows(self, trainable, variables, broadcast, batch, values):
        training = values is not None
        optimizer: Any = self.optimizer.optimizer if training else None
        loss, variables = self.model.loss(
            trainable,
            variables,
            self.model.frozen(broadcast.non_trainable),
            class_weights.weighted(batch, self.config.class_weight),
            training=training,
            optimizer=optimizer,
            optimizer_values=values,
        )
        if self.config.proximal and training:
            distance = self._distance(trainable, broadcast, loss.dtype)
            mapping = zip(optimizer.variables, values, strict=True)
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
