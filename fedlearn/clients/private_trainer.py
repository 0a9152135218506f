import inspect
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import backend, seeds, threefry
from fedlearn.clients.algorithm import Algorithm, Carry
from fedlearn.clients.class_weight import weighted
from fedlearn.clients.local_trainer import LocalTrainer
from fedlearn.clients.personal_variables import PersonalVariables
from fedlearn.encoders import flat_vector
from fedlearn.keras_model import keras_internals, variable_roles
from fedlearn.keras_model.functional_model import (
    Arrays,
    FunctionalModel,
    Variables,
)
from fedlearn.messages.broadcast import Received

# Second words of threefry's counter, that keep apart what is drawn from one
# seed. What else is drawn from a client's seed counts from 0.
_STEP_NOISE = 0x64705347
_EXAMPLE_SEED = 0x64704578


class PrivateTrainer(LocalTrainer):
    """The pure functions of a `LocalTraining` with `dp` for one model.

    Refuses a model whose gradient of one example means nothing, or with which
    something else than gradients would leave the client.
    """

    per_example = True

    def __init__(
        self,
        config: Any,
        model: FunctionalModel,
        algorithm: Algorithm,
        personal: PersonalVariables,
    ):
        if algorithm.looks:
            raise ValueError(
                "This algorithm looks at the examples before the "
                "first step, and what `dp` guarantees is of the steps. Train "
                "without `dp`, or with another algorithm."
            )
        _check_examples_stand_alone(model)
        super().__init__(config, model, algorithm, personal)
        if isinstance(
            self.optimizer.optimizer, keras.optimizers.LossScaleOptimizer
        ):
            raise ValueError(
                "A LossScaleOptimizer follows the sizes of gradients before "
                "they are clipped, so the noise doesn't cover it. Use its "
                "inner optimizer, with float32 or mixed_bfloat16 (with "
                "mixed_float16 every optimizer becomes one)."
            )
        self.dp = config.dp
        self._regularized = [
            (i, variable.regularizer)
            for i, variable in enumerate(model.model.trainable_variables)
            if variable.regularizer is not None
        ]
        self._example_grad = backend.value_and_grad(self._example_loss)
        self._penalty_grad = backend.value_and_grad(self._penalty)

    # On the host.

    def batches(self, num_examples: int, seed: int) -> list[np.ndarray]:
        """Positions of the examples of each step of a round, int32.

        As many as `num_steps` says, whatever is drawn.
        """
        if self.dp.batches == "shuffled":
            return super().batches(num_examples, seed)
        return [
            np.flatnonzero(
                seeds.uniform(num_examples, seed, "poisson_batch", step)
                * num_examples
                < self.config.batch_size
            ).astype(np.int32)
            for step in range(self.config.num_steps(num_examples))
        ]

    # Pure functions, to be compiled.

    def gradient(
        self,
        broadcast: Received,
        carry: Carry,
        weights: Arrays,
        batch: tuple,
        num_real: Any,
    ) -> tuple[Arrays, Variables]:
        """The sum of examples' clipped gradients with noise, divided.

        Rows after the first `num_real`, which may be 0, change nothing.
        """
        if num_real is None:
            num_real = ops.shape(keras.tree.flatten(batch)[0])[0]
        batch = _at_least_two_rows(batch)
        num_rows = ops.shape(keras.tree.flatten(batch)[0])[0]
        real = ops.arange(num_rows) < ops.cast(num_real, "int32")
        frozen = self.model.frozen(broadcast.non_trainable)
        fresh = [ops.zeros_like(m) for m in carry.variables.metrics]
        before = self._local_of_each(carry.variables.local, num_rows)

        def one(example, local):
            variables = carry.variables._replace(metrics=fresh, local=local)
            alone = keras.tree.map_structure(
                lambda a: ops.expand_dims(a, 0), example
            )
            (_, after), grads = self._example_grad(
                weights, variables, frozen, alone
            )
            return grads, after.metrics, after.local

        examples, metrics, after = backend.vmap(one)(batch, before)
        total = clipped_sum(examples, real, self.dp.clip_norm)
        divisor: Any = self.config.batch_size
        if self.dp.batches != "poisson":
            divisor = ops.cast(ops.maximum(num_real, 1), "float32")
        grads = [
            ops.cast((t + z) / divisor, w.dtype)
            for t, z, w in zip(
                total, self._noise(carry, weights), weights, strict=True
            )
        ]
        if self._regularized or self.config.proximal:
            _, penalty = self._penalty_grad(weights, broadcast)
            grads = [g + p for g, p in zip(grads, penalty, strict=True)]
        return grads, carry.variables._replace(
            trainable=weights,
            # Counters go on as they would after one call on the whole batch.
            local=[
                old + (new[0] - start[0])
                for old, start, new in zip(
                    carry.variables.local, before, after, strict=True
                )
            ],
            metrics=[
                old
                + ops.sum(
                    backend.where_rows(real, new, ops.zeros_like(new)), axis=0
                )
                for old, new in zip(
                    carry.variables.metrics, metrics, strict=True
                )
            ],
        )

    def _local_of_each(self, local: Arrays, num_rows: Any) -> Arrays:
        """Layers' seeds, another for each row, lest all drop the same units."""
        random = self.model.random_seeds
        values = []
        for value, is_seed in zip(local, random, strict=True):
            if is_seed:
                numbers = ops.cast(ops.arange(num_rows), "uint32")
                tag = ops.full_like(numbers, _EXAMPLE_SEED)
                key = ops.cast(value, "uint32")
                words = threefry.threefry_2x32((key[0], key[1]), (numbers, tag))
                # Generators add to the second word: leave it some room.
                positive = ops.convert_to_tensor(np.uint32(0x3FFFFFFF))
                of_each = ops.bitwise_and(ops.stack(words, axis=1), positive)
                values.append(ops.cast(of_each, value.dtype))
            else:
                shape = (num_rows, *value.shape)
                values.append(ops.broadcast_to(value, shape))
        return values

    def _example_loss(self, trainable, variables, frozen, batch):
        batch = weighted(batch, self.config.class_weight)
        loss, after = self.model.loss(
            trainable, variables, frozen, batch, training=True
        )
        # The model's loss has the regularizers in it, which are not of this
        # example: `_penalty` adds them, outside the clip.
        return loss - self._regularization(trainable, loss.dtype), after

    def _regularization(self, trainable, dtype):
        return sum(
            (
                ops.cast(ops.sum(penalty(trainable[i])), dtype)
                for i, penalty in self._regularized
            ),
            start=ops.zeros((), dtype),
        )

    def _penalty(self, trainable, broadcast):
        penalty = self._regularization(trainable, "float32")
        if self.config.proximal:
            penalty += self._distance(trainable, broadcast, "float32")
        return penalty, ()

    def _noise(self, carry: Carry, weights: Arrays) -> Arrays:
        std = self.dp.noise_multiplier * self.dp.clip_norm
        if not std:
            return [0.0] * len(weights)
        like = [keras.KerasTensor(w.shape, "float32") for w in weights]
        draws = _normal(carry.seed, carry.num_steps, flat_vector.size(like))
        return flat_vector.unflatten(np.float32(std) * draws, like)


def clipped_sum(grads: Arrays, real: Any, clip_norm: float) -> Arrays:
    """The sum of the real examples' gradients, each clipped to an L2 norm.

    Float32. A gradient whose norm isn't finite adds nothing. `grads` have a
    leading axis over examples.
    """
    rows = [
        ops.reshape(
            ops.cast(g, "float32"), (-1, max(1, math.prod(g.shape[1:])))
        )
        for g in grads
    ]
    norm = ops.sqrt(sum(ops.sum(ops.square(g), axis=1) for g in rows))
    counts = ops.logical_and(real, ops.isfinite(norm))
    scale = clip_norm / ops.maximum(norm, clip_norm)
    scale = ops.where(counts, scale, ops.zeros_like(scale))
    return [
        ops.reshape(
            # NaN times 0 is NaN, so where it doesn't count it is replaced.
            ops.sum(
                backend.where_rows(counts, g, ops.zeros_like(g))
                * scale[:, None],
                axis=0,
            ),
            tuple(like.shape[1:]),
        )
        for g, like in zip(rows, grads, strict=True)
    ]


def _at_least_two_rows(batch: tuple) -> tuple:
    """Rows of zeros at the end of a batch that has fewer than two.

    There is no mapping over no rows, and TensorFlow's rule for adding a
    convolution's bias confuses a single row with none.
    """

    def fill(a):
        length = ops.shape(a)[0]  # an int where shapes are static
        least = max if isinstance(length, int) else ops.maximum
        zeros = ops.zeros((least(2 - length, 0), *a.shape[1:]), a.dtype)
        return ops.concatenate([a, zeros], axis=0)

    return keras.tree.map_structure(fill, batch)


def _normal(seed: Any, step: Any, size: int) -> Any:
    """Normal numbers of a client's step, the same on every backend."""
    words = ops.cast(seed, "uint32")
    key = threefry.threefry_2x32(
        (words[0], words[1]),
        (
            ops.cast(step, "uint32"),
            ops.convert_to_tensor(np.uint32(_STEP_NOISE)),
        ),
    )
    half = (size + 1) // 2
    words = threefry.random_bits(ops.stack(key), 2 * half)
    # In (0, 1]: the logarithm of neither end is infinite.
    uniform = ops.cast(words, "float32") * 2.0**-32 + 2.0**-33
    return threefry.normals(ops.minimum(uniform[:half], 1.0), uniform[half:])[
        :size
    ]


def _check_examples_stand_alone(functional: FunctionalModel) -> None:
    """Raises ValueError where a batch is more than its examples."""
    model = functional.model
    keeping = variable_roles.layers_with(model, functional.roles.state)
    for layer in keras_internals.layers(model):
        name = f"The layer {layer.name!r} ({type(layer).__name__})"
        if layer in keeping:
            raise ValueError(
                f"{name} keeps statistics of the examples, which would leave "
                "the client without noise, and an example by itself has none. "
                "Use GroupNormalization or LayerNormalization instead of "
                "BatchNormalization; or LocalTraining(statistics='frozen'), "
                "which leaves them as they are; or freeze the layer: "
                "`layer.trainable = False`."
            )
        if _adds_loss(layer):
            raise ValueError(
                f"{name} calls `add_loss` on a batch as a whole, which needn't "
                "be a mean over its examples. DP-SGD takes the loss of each "
                "example by itself: put all of it into the loss that the "
                "model is compiled with, or into an `activity_regularizer`."
            )
    if variable_roles.assigns_weights(model):
        raise ValueError(
            "A layer assigns its own trainable weight when it is called, so "
            "that a weight doesn't change by clipped gradients alone. Use a "
            "`kernel_constraint` instead, or train without `dp`."
        )
    if type(model).compute_loss is not keras.Model.compute_loss:
        raise ValueError(
            f"{type(model).__name__} overrides `compute_loss`, so that the "
            "loss of a batch needn't be a mean over its examples. DP-SGD "
            "takes the loss of each example by itself: give it to "
            "`model.compile(loss=...)` instead."
        )
    for loss in keras.tree.flatten(model.loss):
        reduction = getattr(loss, "reduction", "mean")
        if reduction not in ("mean", "sum_over_batch_size"):
            raise ValueError(
                f"The loss {getattr(loss, 'name', loss)!r} has the reduction "
                f"{reduction!r}, so it is no mean over examples, and DP-SGD "
                "divides the sum over a batch by its size. Use "
                "reduction='sum_over_batch_size'."
            )


def _adds_loss(layer: keras.Layer) -> bool:
    code = getattr(inspect.unwrap(type(layer).call), "__code__", None)
    return code is not None and "add_loss" in code.co_names
