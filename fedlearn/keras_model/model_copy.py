import contextlib
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn.keras_model import adapted_layers, keras_internals
from fedlearn.optimizers.functional import fresh_optimizer


def copy(model: keras.Model) -> keras.Model:
    """A model of the same structure and compilation, with its own variables.

    They are freshly initialised. Raises ValueError if the model can't be made
    again from its configuration.
    """
    try:
        with uncompiled(model):
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
            f"be copied ({error}). {_remedy(model)}; or use `process.model`, "
            "the very model that the process was made of, with "
            "`process.write_weights(state, process.model)`."
        ) from error
    for source, target in zip(
        keras_internals.layers(model),
        keras_internals.layers(copied),
        strict=True,
    ):
        target.trainable = source.trainable
    adapted_layers.adapt(copied, adapted_layers.adapted(model))
    # That reaches each variable, also one that is frozen by itself (LoRA).
    for mine, its in zip(model.variables, copied.variables, strict=True):
        its.trainable = mine.trainable
    arguments = keras_internals.compile_arguments(model)
    optimizer = fresh_optimizer(
        keras.optimizers.get(arguments.pop("optimizer")),
        model.trainable_variables,
        copied.trainable_variables,
    )
    for name in ("metrics", "weighted_metrics"):
        arguments[name] = keras.tree.map_structure(
            _fresh_metric, arguments[name]
        )
    copied.compile(optimizer=optimizer, **arguments)
    return copied


def _remedy(model: keras.Model) -> str:
    for layer in keras_internals.layers(model):
        if isinstance(layer, keras.layers.Lambda):
            return (
                f"Keras makes no second layer of the function in {layer.name!r}"
                " (Lambda). Write a keras.layers.Layer with that function as "
                "`call` in its place"
            )
    return (
        "Give the class a `get_config` that returns the arguments of its "
        "`__init__`"
    )


@contextlib.contextmanager
def uncompiled(model: keras.Model) -> Iterator[None]:
    """Lets Keras clone or save a model without what it was compiled with.

    Some losses and metrics can't be read back from their configurations.
    """
    layers = keras_internals.layers(model)
    compiled = [part for part in layers if getattr(part, "compiled", False)]
    for part in compiled:
        part.compiled = False
    try:
        yield
    finally:
        for part in compiled:
            part.compiled = True


def assign(
    model: keras.Model, trainable: list[Any], non_trainable: list[Any]
) -> None:
    """Gives a model's variables values, and layers what they make of them."""
    pairs = [
        *zip(model.trainable_variables, trainable, strict=True),
        *zip(model.non_trainable_variables, non_trainable, strict=True),
    ]
    for variable, value in pairs:
        # A copy: on JAX Keras's own `fit` and `evaluate` give away the
        # buffers of the model's variables, and with them the state's.
        variable.assign(ops.copy(value))
    _refresh(model)


def _refresh(model: keras.Model) -> None:
    """Makes anew what layers have computed of their variables' values."""
    for layer in keras_internals.layers(model):
        if adapted_layers.computes_of_state(layer):
            store: dict[str, Any] = {}
            layer.save_own_variables(store)
            layer.load_own_variables(
                {
                    key: np.array(ops.convert_to_numpy(value))
                    for key, value in store.items()
                }
            )


def _fresh_metric(metric: Any, copies: dict[int, Any] | None = None) -> Any:
    """The same metric with variables of its own, which hold nothing.

    Not by its configuration, which leaves out arguments (`axis` of
    `CosineSimilarity`), can't be read back (`label_weights` of `AUC`), and
    finds a function by its name alone.
    """
    if not isinstance(metric, keras.metrics.Metric):
        return metric
    copies = {} if copies is None else copies
    fresh = copies[id(metric)] = object.__new__(type(metric))
    for inner in keras_internals.inner_metrics(metric):
        _fresh_metric(inner, copies)
    vars(fresh).update(deepcopy(vars(metric), copies))
    # Lists that Keras tracks enter what is put into them once more.
    keras_internals.each_once(fresh)
    fresh.reset_state()
    return fresh
