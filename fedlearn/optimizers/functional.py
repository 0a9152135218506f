"""Any Keras optimizer as pure functions of its variables' values."""

import functools
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn.keras_model.stateless_scope import StatelessScope
from fedlearn.optimizers import beside_config

# Keras's optimizers are one backend-agnostic class under one that is the
# backend's own. The backend's own methods assign to tf.Variables or to
# torch.Tensors in place, which a StatelessScope can't see; the agnostic ones
# assign to keras.Variables, which it can.
_AGNOSTIC = next(
    cls
    for cls in keras.optimizers.Optimizer.__mro__
    if cls.__name__ == "BaseOptimizer"
)


class _Stateless(keras.optimizers.Optimizer):
    """The agnostic methods, put back in front of the backend's own."""

    assign = _AGNOSTIC.assign
    assign_add = _AGNOSTIC.assign_add
    assign_sub = _AGNOSTIC.assign_sub
    add_variable_from_reference = _AGNOSTIC.add_variable_from_reference
    _apply_weight_decay = _AGNOSTIC._apply_weight_decay
    _backend_update_step = _AGNOSTIC._backend_update_step
    _clip_by_norm = _AGNOSTIC._clip_by_norm
    _var_key = _AGNOSTIC._var_key

    def stateless_apply(self, optimizer_variables, grads, trainable_variables):
        mapping = [
            *zip(self._trainable_variables, trainable_variables, strict=True),
            *zip(self.variables, optimizer_variables, strict=True),
        ]
        with StatelessScope(mapping) as scope:
            self.apply(grads)
        return (
            [scope.get_current_value(v) for v in self._trainable_variables],
            [scope.get_current_value(v) for v in self.variables],
        )

    def _backend_apply_gradients(self, grads, trainable_variables):
        # Keras branches with `ops.cond` and assigns inside the branches,
        # which a StatelessScope can't see on TensorFlow. Both sides are
        # computed here and one is chosen.
        if self.gradient_accumulation_steps:
            self._accumulate(grads, trainable_variables)
        else:
            self._step(grads, trainable_variables)
        if self.use_ema:
            self._update_model_variables_moving_average(
                self._trainable_variables
            )
            if self.ema_overwrite_frequency:
                due = (self.iterations + 1) % self.ema_overwrite_frequency == 0
                for variable, average in zip(
                    self._trainable_variables,
                    self._model_variables_moving_average,
                    strict=True,
                ):
                    variable.assign(
                        ops.where(due, average.value, variable.value)
                    )

    def _step(self, grads, trainable_variables):
        grads = self._clip_gradients(grads)
        self._apply_weight_decay(trainable_variables)
        self._backend_update_step(
            grads, trainable_variables, self.learning_rate
        )

    def _accumulate(self, grads, trainable_variables):
        steps = self.gradient_accumulation_steps
        due = (self._iterations + 1) % steps == 0
        accumulators = [
            self._accumulated_gradients[self._get_variable_index(v)]
            for v in trainable_variables
        ]
        sums = [g + a.value for g, a in zip(grads, accumulators, strict=True)]
        touched = [
            v
            for v in (*trainable_variables, *self.variables)
            if not any(v is a for a in accumulators)
        ]
        before = [v.value for v in touched]
        self._step([g / steps for g in sums], trainable_variables)
        for variable, value in zip(touched, before, strict=True):
            variable.assign(ops.where(due, variable.value, value))
        for accumulator, total in zip(accumulators, sums, strict=True):
            accumulator.assign(ops.where(due, ops.zeros_like(total), total))


@functools.cache
def _stateless_class(cls: Any) -> type:
    # `_Stateless` derives from keras.optimizers.Optimizer, so it comes after
    # `cls` and before Optimizer: what `cls` overrides stays, and its calls of
    # super() meet the agnostic methods. On PyTorch `keras.optimizers.SGD` and
    # others are made as a class of the backend, which writes in place; the
    # class that it derives from doesn't.
    agnostic = next(c for c in cls.__mro__ if ".backend." not in c.__module__)
    return type(cls.__name__, (agnostic, _Stateless), {})


class FunctionalOptimizer:
    """The pure functions of a `keras.optimizers.Optimizer`.

    The optimizer that is given is copied, from its configuration and what it
    holds beside it (`exclude_from_weight_decay`), and never changed.

    Args:
        optimizer: Any Keras optimizer.
        variables: The Keras variables to optimise; only shapes, dtypes and
            paths are read.
        schedule: What a `LearningRateSchedule` counts. "steps": the steps of
            this optimizer, as Keras does. "rounds": nothing here; the
            learning rate is a variable, set by `with_learning_rate`, since a
            client's own count of steps starts anew in each round.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        variables: list[keras.Variable],
        schedule: str = "steps",
    ):
        config = optimizer.get_config()
        target = config
        if isinstance(config.get("inner_optimizer"), dict):
            target = config["inner_optimizer"]["config"]
        self._schedule = None
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        rate = getattr(inner, "_learning_rate", None)
        if (
            schedule == "rounds"
            and callable(rate)
            and not hasattr(rate, "value")
        ):
            self._schedule = rate
            target["learning_rate"] = float(
                ops.convert_to_numpy(self._rate_at(0))
            )
        self.optimizer = type(optimizer).from_config(config)
        inner = getattr(self.optimizer, "inner_optimizer", None)
        several = getattr(self.optimizer, "_inner_optimizers", [])
        parts = beside_config.parts(self.optimizer)
        if keras.backend.backend() != "jax":
            for part in parts:
                cls: Any = type(part)
                part.__class__ = _stateless_class(cls)
        beside_config.carry_over(
            optimizer, self.optimizer, variables, variables
        )
        self.optimizer.build(variables)
        self._initial = [
            np.array(ops.convert_to_numpy(v.value), copy=True)
            for v in self.variables
        ]
        self._weights_at = self._positions_of_weights(parts, variables)
        rate_variable = getattr(inner or self.optimizer, "_learning_rate", None)
        self._rate_position = next(
            (
                i
                for i, v in enumerate(self.variables)
                if v is rate_variable and not several
            ),
            None,
        )

    def _positions_of_weights(self, parts, variables) -> list[tuple[int, int]]:
        """Which of the optimizer's variables start as which weights."""
        position = {id(v): i for i, v in enumerate(self.variables)}
        found = []
        for part in parts:
            copies = []
            if part.use_ema:
                copies.append(part._model_variables_moving_average)
            if isinstance(part, keras.optimizers.ScheduleFreeAdamW):
                copies.append(part._momentums)
            for of_part in copies:
                for copy, weight in zip(
                    of_part, part._trainable_variables, strict=True
                ):
                    number = next(
                        i for i, v in enumerate(variables) if v is weight
                    )
                    found.append((position[id(copy)], number))
        return found

    @property
    def variables(self) -> list[keras.Variable]:
        """The optimizer's variables, in the order of all values here."""
        return self.optimizer.variables

    def initial_values(self, trainable: list[Any] | None = None) -> list[Any]:
        """Values of a fresh optimizer, as arrays of the backend.

        Args:
            trainable: What the model's variables hold. An optimizer that
                keeps averages of the weights starts from these.
        """
        values = [ops.convert_to_tensor(v) for v in self._initial]
        if trainable is not None:
            for position, number in self._weights_at:
                values[position] = trainable[number]
        return values

    def learning_rate(self, values: list[Any]) -> float | None:
        """The learning rate in `values`; None where a schedule sets it."""
        if self._rate_position is None:
            return None
        return float(ops.convert_to_numpy(values[self._rate_position]))

    def with_learning_rate(self, values: list[Any], rate: Any) -> list[Any]:
        """`values` with another learning rate."""
        if self._rate_position is None:
            raise ValueError(
                "The learning rate of this optimizer is set by a schedule "
                f"({type(self.optimizer).__name__}), so it can't be set. Give "
                "the optimizer a number as `learning_rate`."
            )
        values = list(values)
        dtype = self.variables[self._rate_position].dtype
        values[self._rate_position] = ops.cast(rate, dtype)
        return values

    def scheduled_rate(self, round_num: int) -> float | None:
        """The schedule at a round, or None without a schedule."""
        if self._schedule is None:
            return None
        return float(ops.convert_to_numpy(self._rate_at(round_num)))

    def _rate_at(self, round_num: int) -> Any:
        assert self._schedule is not None
        try:
            return self._schedule(round_num)
        except TypeError:  # a callable without the step, as Keras allows
            return self._schedule()

    def apply(
        self, values: list[Any], grads: list[Any], trainable: list[Any]
    ) -> tuple[list[Any], list[Any]]:
        """One step.

        Args:
            values: The optimizer's variables.
            grads: One gradient for each of `trainable`, of its shape.
            trainable: The weights.

        Returns:
            `(trainable, values)` after the step.
        """
        trainable, values = self.optimizer.stateless_apply(
            values, grads, trainable
        )
        return list(trainable), list(values)
