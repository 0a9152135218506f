import functools
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn.keras_model.stateless_scope import StatelessScope

# Keras's optimizers are one backend-agnostic class under one that is the
# backend's own. TensorFlow's methods assign to tf.Variables in place, which a
# StatelessScope can't see; the agnostic ones assign to keras.Variables, which
# it can.
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


@functools.cache
def _stateless_class(cls: Any) -> type:
    # `_Stateless` derives from keras.optimizers.Optimizer, so it comes after
    # `cls` and before Optimizer: what `cls` overrides stays, and its calls of
    # super() meet the agnostic methods.
    return type(cls.__name__, (cls, _Stateless), {})


class FunctionalOptimizer:
    """The pure functions of a copy of a `keras.optimizers.Optimizer`.

    Refuses one that accumulates gradients, or averages the weights.

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
        rate = _with_rate(optimizer)._learning_rate
        is_schedule = callable(rate) and not isinstance(rate, keras.Variable)
        self._schedule = rate if is_schedule and schedule == "rounds" else None
        stateless = keras.backend.backend() == "tensorflow"
        self.optimizer = fresh_optimizer(
            optimizer, variables, variables, self.scheduled_rate(0), stateless
        )
        for part, _ in _pairs(self.optimizer, self.optimizer):
            _check_steps(part)
        self.optimizer.build(variables)
        self._initial = [
            np.array(ops.convert_to_numpy(v.value), copy=True)
            for v in self.variables
        ]
        position = {id(v): i for i, v in enumerate(self.variables)}
        number = {id(v): i for i, v in enumerate(variables)}
        # Which of the optimizer's variables start as which weights.
        self._weights_at = [
            (position[id(copy)], number[id(weight)])
            for part, _ in _pairs(self.optimizer, self.optimizer)
            if isinstance(part, keras.optimizers.ScheduleFreeAdamW)
            for copy, weight in zip(
                part._momentums, part._trainable_variables, strict=True
            )
        ]
        # The algorithm of which its steps are a part, if they are.
        self.is_plain_for: str | None = None
        rate = _with_rate(self.optimizer)._learning_rate
        several = isinstance(self.optimizer, keras.optimizers.MultiOptimizer)
        self._rate_position = None if several else position.get(id(rate))

    @property
    def variables(self) -> list[keras.Variable]:
        """The optimizer's variables, in the order of all values here."""
        return self.optimizer.variables

    def initial_values(self, trainable: list[Any] | None = None) -> list[Any]:
        """Values of a fresh optimizer, as arrays of the backend.

        One that keeps averages of the weights starts from `trainable`.
        """
        values = [ops.convert_to_tensor(v) for v in self._initial]
        if trainable is not None:
            for position, number in self._weights_at:
                values[position] = trainable[number]
        return values

    def learning_rate(self, values: list[Any]) -> Any:
        """The learning rate in `values`, a scalar; None where there is none.

        That is where a schedule sets it, or several optimizers have their own.
        """
        if self._rate_position is None:
            return None
        return values[self._rate_position]

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
        try:
            rate = self._schedule(round_num)
        except TypeError:  # a callable without the step, as Keras allows
            rate = self._schedule()
        return float(ops.convert_to_numpy(rate))

    def apply(
        self, values: list[Any], grads: list[Any], trainable: list[Any]
    ) -> tuple[list[Any], list[Any]]:
        """One step; `(trainable, values)` after it."""
        trainable, values = self.optimizer.stateless_apply(
            values, grads, trainable
        )
        return list(trainable), list(values)


def _with_rate(optimizer: Any) -> Any:
    """The optimizer that holds the learning rate."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _check_steps(optimizer: keras.optimizers.Optimizer) -> None:
    name = type(optimizer).__name__
    if optimizer.gradient_accumulation_steps:
        raise ValueError(
            f"{name} has gradient_accumulation_steps="
            f"{optimizer.gradient_accumulation_steps}, and fedlearn's clients "
            "and server take a step with each gradient. Leave it out, and "
            "give LocalTraining a `batch_size` that is so many times larger."
        )
    if optimizer.use_ema:
        raise ValueError(
            f"{name} has use_ema=True: Keras's `fit` replaces the weights by "
            "their average when it ends, and a client's round, or a server's, "
            "has no such end. Leave it out."
        )


def fresh_optimizer(
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
    new_variables: Sequence[keras.Variable],
    rate: float | None = None,
    stateless: bool = False,
) -> keras.optimizers.Optimizer:
    """An optimizer like another, not built yet.

    From its configuration, and what that doesn't say: which variables
    `exclude_from_weight_decay` named (`new_variables` stand for `variables`, in
    order), and numbers and texts that were set as attributes; with a learning
    `rate`, and with a `stateless_apply` that assigns nothing, if wanted.

    >>> kernel, bias = keras.Variable([1.0]), keras.Variable([1.0])
    >>> source = keras.optimizers.SGD(weight_decay=0.1)
    >>> source.exclude_from_weight_decay(var_list=[bias])
    >>> copy = fresh_optimizer(source, [kernel, bias], [kernel, bias])
    >>> copy.build([kernel, bias])
    >>> copy._use_weight_decay(kernel), copy._use_weight_decay(bias)
    (True, False)
    """
    config = optimizer.get_config()
    if rate is not None:
        inner = config.get("inner_optimizer")
        target = inner["config"] if isinstance(inner, dict) else config
        target["learning_rate"] = rate
    copy = type(optimizer).from_config(config)
    for one, other in _pairs(optimizer, copy):
        if stateless and not isinstance(other, _Stateless):
            cls: Any = type(other)
            other.__class__ = _stateless_class(cls)
        for name, value in vars(one).items():
            if (
                name != "built"
                and isinstance(value, bool | int | float | str)
                and vars(other).get(name) != value
            ):
                setattr(other, name, value)
        pattern = getattr(one, "_exclude_from_weight_decay_pattern", None)
        keys = getattr(one, "_exclude_from_weight_decay", ())
        if pattern is not None or keys:
            # By the method itself: how an optimizer tells variables apart
            # differs from backend to backend.
            other.exclude_from_weight_decay(
                [
                    new
                    for old, new in zip(variables, new_variables, strict=True)
                    if one._var_key(old) in keys
                ],
                None if pattern is None else [pattern.pattern],
            )
    return copy


def _pairs(source: Any, target: Any) -> Iterator[tuple[Any, Any]]:
    """An optimizer and those inside it, beside those of its copy."""
    yield source, target
    inner = getattr(source, "inner_optimizer", None)
    if inner is not None:
        yield from _pairs(inner, target.inner_optimizer)
    by_path = getattr(source, "_optimizer_map", None)
    if isinstance(by_path, keras.optimizers.OptimizerMap):
        # By pattern: an optimizer that two patterns share is copied twice.
        copies = target._optimizer_map
        yield from _pairs(by_path.default_optimizer, copies.default_optimizer)
        for pattern in by_path:
            yield from _pairs(by_path[pattern], copies[pattern])
