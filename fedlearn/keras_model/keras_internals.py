"""What is used of Keras that it doesn't promise to keep.

It is here and in `fedlearn.optimizers.functional`, and nowhere else. A test
says of each private name whether the installed Keras still has it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import keras


def layers(model: keras.Model) -> list[keras.Layer]:
    """A model and all layers in it, at any depth, each once."""
    return list(model._flatten_layers(include_self=True, recursive=True))


def own_weights(layer: keras.Layer) -> list[keras.Variable]:
    """What a layer made itself to be trained, frozen or not."""
    return list(layer._trainable_variables)


def own_state(layer: keras.Layer) -> list[keras.Variable]:
    """What a layer made itself not to be trained; its random seeds too."""
    generators = getattr(layer, "_seed_generators", ())
    return [*layer._non_trainable_variables, *(g.state for g in generators)]


def is_functional(model: keras.Model) -> bool:
    """Whether a model is a graph of layers and nothing else."""
    cls = type(model)
    return cls.__name__ == "Functional" and cls.__module__.startswith("keras.")


def changes_images(layer: keras.Layer) -> bool:
    """Whether a layer is one of those for random changes of images."""
    return any(
        ".image_preprocessing." in cls.__module__ for cls in type(layer).__mro__
    )


def call_inputs(layer: keras.Layer) -> list[Any]:
    """The symbolic tensors that a layer was called on, of all its calls."""
    return [t for node in layer._inbound_nodes for t in node.input_tensors]


def made_by(tensor: Any) -> tuple[Any, list[Any]]:
    """The operation that made a symbolic tensor, and what of; or None."""
    operation, index, _ = getattr(tensor, "_keras_history", (None,) * 3)
    if operation is None:
        return None, []
    return operation, list(operation._inbound_nodes[index].input_tensors)


def function_arguments(wrapper: Any) -> dict[str, Any]:
    """What Keras's loss or metric hands on to the function that it wraps."""
    return getattr(wrapper, "_fn_kwargs", {})


def compile_arguments(model: keras.Model) -> dict[str, Any]:
    """What a model was compiled with, as it was given."""
    return dict(model._compile_config.config)


def loss_tracker(model: keras.Model) -> keras.metrics.Mean | None:
    """The metric that Keras's own steps give the loss of each batch."""
    return getattr(model, "_loss_tracker", None)


def single_losses(
    model: keras.Model, y: Any, y_pred: Any
) -> list[tuple[Any, Any, Any]]:
    """The loss function of each output, with its labels and its output.

    Nothing where the losses aren't known, or the structures don't fit.
    """
    compiled = getattr(model, "_compile_loss", None)
    if compiled is None or not compiled.built:
        return []

    def as_built(value, structure):
        if isinstance(value, Mapping) and not isinstance(structure, Mapping):
            value = [value[name] for name in compiled.output_names]
        return keras.tree.pack_sequence_as(structure, keras.tree.flatten(value))

    def at(path, value):
        for key in path:
            value = value[key]
        return value

    try:
        y = as_built(y, compiled._y_true_build_structure)
        y_pred = as_built(y_pred, compiled._y_pred_build_structure)
        return [
            (function, at(path, y), at(path, y_pred))
            for path, function, *_ in compiled._flat_losses
        ]
    except (KeyError, IndexError, TypeError, ValueError):
        return []


def compiled_metrics(
    model: keras.Model,
) -> tuple[Any, list[keras.metrics.Metric]]:
    """What holds a model's compiled metrics, and these once they exist."""
    compiled = getattr(model, "_compile_metrics", None)
    return compiled, [] if compiled is None else list(compiled.metrics)


def inner_metrics(metric: keras.metrics.Metric) -> list[keras.metrics.Metric]:
    """The metrics that a metric holds in attributes."""
    return list(metric._metrics)


def direction(metric: keras.metrics.Metric) -> str | None:
    """Whether the best has the `"max"` or the `"min"`; None if unknown."""
    found = getattr(metric, "_direction", "")
    return {"up": "max", "down": "min"}.get(found)


def each_once(metric: keras.metrics.Metric) -> None:
    """Takes out what a metric, put together by its attributes, lists twice."""
    for tracked in (metric._variables, metric._metrics):
        tracked[:] = {id(one): one for one in tracked}.values()


def variable_index(
    optimizer: keras.optimizers.Optimizer, variable: keras.Variable
) -> int:
    """The number of a variable among those that an optimizer was built for."""
    return optimizer._get_variable_index(variable)


def uses_weight_decay(
    optimizer: keras.optimizers.Optimizer, variables: Iterable[Any]
) -> list[bool]:
    """Which of some variables an optimizer's weight decay is applied to."""
    return [bool(optimizer._use_weight_decay(v)) for v in variables]
