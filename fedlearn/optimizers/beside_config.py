"""What a Keras optimizer holds beside its configuration."""

from collections.abc import Sequence
from typing import Any

import keras

# `build` fills these in for the variables that it is given.
_OF_BUILD = ("built", "_trainable_variables_indices")
_EXCLUDED = "_exclude_from_weight_decay"


def parts(optimizer: keras.optimizers.Optimizer) -> list[Any]:
    """An optimizer and those inside it, to which it hands variables on.

    Example:

    >>> inner = keras.optimizers.SGD()
    >>> outer = keras.optimizers.LossScaleOptimizer(inner)
    >>> [type(part).__name__ for part in parts(outer)]
    ['LossScaleOptimizer', 'SGD']
    """
    inner = getattr(optimizer, "inner_optimizer", None)
    several = getattr(optimizer, "_inner_optimizers", ())
    nested = [*several, *(() if inner is None else (inner,))]
    return [optimizer, *(part for one in nested for part in parts(one))]


def carry_over(
    source: keras.optimizers.Optimizer,
    target: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
    target_variables: Sequence[keras.Variable],
) -> None:
    """Gives an optimizer made from another's config what that doesn't say.

    Which variables `exclude_from_weight_decay` named, and numbers, texts and
    lists of these that were set as attributes and that `get_config` leaves
    out. No variable's value is copied.

    Args:
        source: What was copied.
        target: Its copy, not built yet.
        variables: What `source` optimises.
        target_variables: What `target` will, in the same order.

    Example:

    >>> kernel, bias = keras.Variable([1.0]), keras.Variable([1.0])
    >>> source = keras.optimizers.SGD(weight_decay=0.1)
    >>> source.exclude_from_weight_decay(var_list=[bias])
    >>> target = keras.optimizers.SGD.from_config(source.get_config())
    >>> carry_over(source, target, [kernel, bias], [kernel, bias])
    >>> target.build([kernel, bias])
    >>> target._use_weight_decay(kernel), target._use_weight_decay(bias)
    (True, False)
    """
    for one, other in _pairs(source, target):
        for name, value in vars(one).items():
            if (
                name not in _OF_BUILD
                and not name.startswith(_EXCLUDED)
                and _is_plain(value)
                and vars(other).get(name, _MISSING) != value
            ):
                setattr(other, name, value)
        pattern = getattr(one, f"{_EXCLUDED}_pattern", None)
        keys = getattr(one, _EXCLUDED, ())
        if pattern is None and not keys:
            continue
        # By `exclude_from_weight_decay` itself: how an optimizer tells
        # variables apart differs from backend to backend.
        excluded = [
            new
            for old, new in zip(variables, target_variables, strict=True)
            if one._var_key(old) in keys
        ]
        names = None if pattern is None else [pattern.pattern]
        other.exclude_from_weight_decay(var_list=excluded, var_names=names)


def _pairs(source: Any, target: Any) -> list[tuple[Any, Any]]:
    pairs = [(source, target)]
    inner = getattr(source, "inner_optimizer", None)
    if inner is not None:
        pairs += _pairs(inner, target.inner_optimizer)
    by_path = getattr(source, "_optimizer_map", None)
    if isinstance(by_path, keras.optimizers.OptimizerMap):
        # By pattern: an optimizer that two patterns share is copied twice.
        copies = target._optimizer_map
        pairs += _pairs(by_path.default_optimizer, copies.default_optimizer)
        for pattern in by_path:
            pairs += _pairs(by_path[pattern], copies[pattern])
    return pairs


_MISSING = object()


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        # Of an empty one nothing tells that it isn't for variables.
        return bool(value) and all(_is_plain(v) for v in value)
    return value is None or isinstance(value, (bool, int, float, str))
