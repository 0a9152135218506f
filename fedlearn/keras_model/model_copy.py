"""A compiled copy of a compiled Keras model."""

import contextlib
from collections.abc import Iterator
from copy import deepcopy

import keras
import numpy as np
from keras import ops

from fedlearn.optimizers import beside_config


def copy(model: keras.Model) -> keras.Model:
    """A model of the same structure and compilation, with its own variables.

    Its weights are freshly initialised; the caller assigns them.

    Raises:
        ValueError: If the model can't be made again from its configuration.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile(loss="mse")
    >>> copy(model) is model
    False
    """
    try:
        with _uncompiled(model):
            copied = keras.models.clone_model(model)
        if type(copied) is not type(model):
            raise TypeError(
                f"cloning made a {type(copied).__name__} of a "
                f"{type(model).__name__}"
            )
        if not copied.built:
            copied.build_from_config(model.get_build_config())
        shapes = [tuple(v.shape) for v in model.variables]
        if [tuple(v.shape) for v in copied.variables] != shapes:
            raise ValueError("the copy has other variables than the model")
    except Exception as error:
        raise ValueError(
            f"The model {model.name!r} of class {type(model).__name__} can't "
            f"be copied ({error}). Give the class a `get_config` that returns "
            "the arguments of its `__init__`; or use `process.model`, the "
            "very model that the process was made of, with "
            "`process.write_weights(state, process.model)`."
        ) from error
    for source, target in zip(
        model._flatten_layers(), copied._flatten_layers(), strict=True
    ):
        target.trainable = source.trainable
    arguments = dict(model._compile_config.config)
    optimizer = keras.optimizers.get(arguments.pop("optimizer"))
    for name in ("metrics", "weighted_metrics"):
        arguments[name] = _fresh_metrics(arguments[name])
    new_optimizer = type(optimizer).from_config(optimizer.get_config())
    beside_config.carry_over(
        optimizer,
        new_optimizer,
        model.trainable_variables,
        copied.trainable_variables,
    )
    copied.compile(optimizer=new_optimizer, **arguments)
    return copied


@contextlib.contextmanager
def _uncompiled(model: keras.Model) -> Iterator[None]:
    """Lets Keras clone a model without its compilation.

    It would make loss and metrics of their configurations, some of which
    can't be read back, such as a function's; and they are replaced.
    """
    compiled = [
        part
        for part in model._flatten_layers()
        if getattr(part, "compiled", False)
    ]
    for part in compiled:
        part.compiled = False
    try:
        yield
    finally:
        for part in compiled:
            part.compiled = True


def refresh(model: keras.Model) -> None:
    """Makes anew what layers have computed of their variables' values.

    A Normalization layer computes with a copy of the mean and variance that
    it was adapted to. What a file would restore is restored here, so that a
    model predicts what it will after it was saved and loaded.
    """
    base = keras.Layer.load_own_variables
    for layer in model._flatten_layers():
        if (
            type(layer).load_own_variables is not base
            and layer._non_trainable_variables
            and not layer._trainable_variables
        ):
            store: dict[str, np.ndarray] = {}
            layer.save_own_variables(store)
            store = {
                key: np.array(ops.convert_to_numpy(value))
                for key, value in store.items()
            }
            layer.load_own_variables(store)


def _fresh_metrics(metrics):
    if isinstance(metrics, dict):
        return {key: _fresh_metrics(value) for key, value in metrics.items()}
    if isinstance(metrics, (list, tuple)):
        return [_fresh_metrics(value) for value in metrics]
    if isinstance(metrics, keras.metrics.Metric):
        return _fresh_metric(metrics, {})
    return metrics


def _fresh_metric(metric, copies):
    """The same metric with variables of its own, which hold nothing.

    Not by its configuration, which leaves out arguments (`axis` of
    `CosineSimilarity`), can't be read back (`label_weights` of `AUC`), and
    finds a function by its name alone.

    Args:
        metric: The metric.
        copies: Of what was copied already, by its id, for `deepcopy`.
    """
    fresh = copies[id(metric)] = object.__new__(type(metric))
    for inner in metric._metrics:
        _fresh_metric(inner, copies)
    vars(fresh).update(deepcopy(vars(metric), copies))
    for tracked in (fresh._variables, fresh._metrics):
        # Lists that Keras tracks enter what is put into them once more.
        tracked[:] = {id(one): one for one in tracked}.values()
    fresh.reset_state()
    return fresh
