"""Which models compute each example by itself, by construction.

Then a batch's loss is the mean of its examples', what a metric adds is the sum
of what they add, and a batch can be filled up with copies of an example that
are taken off again, exactly.

Only what is known by its exact class counts. That two ways agree on some
examples is no proof: a layer that joins a batch would agree on copies as well.
"""

from collections.abc import Mapping
from typing import Any

import keras

from fedlearn.keras_model import keras_internals
from fedlearn.metrics import mergeable

_LAYERS = """
    Activation Add Average AveragePooling1D AveragePooling2D AveragePooling3D
    Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D
    Conv3DTranspose Cropping1D Cropping2D Cropping3D Dense DepthwiseConv1D
    DepthwiseConv2D ELU Embedding Flatten GRU GlobalAveragePooling1D
    GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D
    GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization InputLayer LSTM
    LayerNormalization LeakyReLU MaxPooling1D MaxPooling2D MaxPooling3D Maximum
    Minimum Multiply Normalization PReLU Permute ReLU RepeatVector Rescaling
    Reshape SeparableConv1D SeparableConv2D SimpleRNN Softmax Subtract
    UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D
    ZeroPadding3D
""".split()  # noqa: SIM905
# Those that look at the batch, or at chance, only while they train.
_AT_INFERENCE = """
    AlphaDropout BatchNormalization Dropout GaussianDropout GaussianNoise
    SpatialDropout1D SpatialDropout2D SpatialDropout3D
""".split()  # noqa: SIM905
# They give numbers that are alone an axis of their own.
_OF_SCALARS = ("Embedding", "Flatten", "InputLayer", "Reshape")
# Of Keras's losses, as classes and as functions.
_JOINING_LOSSES = ("circle", "ctc", "dice", "loss", "tversky")
_REGULARIZERS = (
    keras.regularizers.L1,
    keras.regularizers.L2,
    keras.regularizers.L1L2,
)


def is_example_wise(model: keras.Model, training: bool = True) -> bool:
    """Whether a batch of a model is known to be no more than its examples.

    False of what isn't known: a subclassed model, a layer, loss, activation
    or metric that isn't Keras's own, a `Lambda`, an operation such as
    `x - keras.ops.mean(x, axis=0)` between layers, masks, and layers that
    look at the batch (BatchNormalization) or, in `training`, at chance
    (Dropout). The model's metrics must exist.
    """
    return (
        type(model).compute_loss is keras.Model.compute_loss
        and type(model).compute_metrics is keras.Model.compute_metrics
        and _is_plain(model, training)
        and all(len(output.shape) > 1 for output in model.outputs)
        and model.loss is not None
        and all(
            loss is None or _is_mean_over_examples(loss)
            for loss in keras.tree.flatten(model.loss)
        )
        and all(
            mergeable.is_sum(metric) and "update_state" not in vars(metric)
            for metric in mergeable.metrics_of(model)
        )
    )


def _is_of_keras(value: Any, module: Any) -> bool:
    """Whether it is itself a public class or function of a Keras module."""
    return getattr(module, getattr(value, "__name__", ""), None) is value


def _is_plain(model: keras.Model, training: bool) -> bool:
    """Whether a model is nothing but layers that are in the table."""
    if type(model) is keras.Sequential:
        operations = model.layers
    elif keras_internals.is_functional(model):
        operations = model.operations
    else:
        return False
    return all(
        _is_plain(o, training)
        if isinstance(o, keras.Model)
        else _works_alone(o, training)
        for o in operations
    )


def _works_alone(layer: Any, training: bool) -> bool:
    """Whether an operation is a layer of the table, and set as it must be."""
    names = _LAYERS if training else [*_LAYERS, *_AT_INFERENCE]
    activations = [
        vars(layer)[name]
        for name in ("activation", "recurrent_activation")
        if name in vars(layer)
    ]
    regularizer = getattr(layer, "activity_regularizer", None)
    return (
        _is_of_keras(type(layer), keras.layers)
        and type(layer).__name__ in names
        and "call" not in vars(layer)
        # Of a loss in float16, what is subtracted would be felt.
        and layer.compute_dtype in ("float32", "float64")
        and not getattr(layer, "mask_zero", False)
        and not getattr(layer, "stateful", False)
        # All work on single numbers, or along the last axis.
        and all(_is_of_keras(a, keras.activations) for a in activations)
        # Keras divides it by the number of examples.
        and type(regularizer) in (type(None), *_REGULARIZERS)
        and not _looks_along_examples(layer)
    )


def _looks_along_examples(layer: keras.Layer) -> bool:
    if type(layer).__name__ not in _OF_SCALARS and any(
        len(tensor.shape) < 2 for tensor in keras_internals.call_inputs(layer)
    ):
        return True  # the last axis is that of the examples
    if isinstance(layer, keras.layers.Normalization):
        return False  # by numbers that are set before
    axes = keras.tree.flatten(getattr(layer, "axis", -1))
    return any(not isinstance(a, int) or (a < 1 and a != -1) for a in axes)


def _is_mean_over_examples(loss: Any) -> bool:
    if loss in ("crossentropy", "ce"):  # one of three, by the labels' shape
        return True
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    kind = type(loss) if isinstance(loss, keras.losses.Loss) else loss
    if (
        not _is_of_keras(kind, keras.losses)
        or kind.__name__.lower() in _JOINING_LOSSES
    ):
        return False
    return kind is loss or (
        "call" not in vars(loss)
        and loss.reduction in ("mean", "sum_over_batch_size")
        and loss.dtype in ("float32", "float64")
        # Keras divides by the number of those that aren't ignored.
        and getattr(loss, "ignore_class", None) is None
        and keras_internals.function_arguments(loss).get("axis", -1) == -1
    )


def labels_match(model: keras.Model, y: Any, outputs: Any) -> bool:
    """Whether each label stands beside the output of its own example.

    Where an output or its labels lack an axis, Keras's losses and metrics may
    compute along the examples, or each example with the labels of all others:
    outputs of shape `(n,)`, or `(n, 1, 1)` with labels of shape `(n,)`.

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> one, two = keras.KerasTensor((5,)), keras.KerasTensor((5, 1))
    >>> labels_match(model, one, two), labels_match(model, one, one)
    (True, False)
    """
    if isinstance(y, Mapping) and not isinstance(outputs, Mapping):
        names = getattr(model, "output_names", None) or ()
        if set(names) != set(y):
            return False
        y = [y[name] for name in names]
    labels, outputs = keras.tree.flatten(y), keras.tree.flatten(outputs)
    return len(labels) == len(outputs) and all(
        _stand_beside(tuple(a.shape[1:]), tuple(b.shape[1:]))
        for a, b in zip(labels, outputs, strict=True)
    )


def _stand_beside(label: tuple, output: tuple) -> bool:
    """Whether shapes differ at most by a last axis, of one or of classes."""
    if not output:
        return False
    more = len(output) - len(label)
    if more == 1:  # one number, or the number of a class
        return output[-1] == 1 or (label == output[:-1] and label[:1] != (1,))
    return more == 0 or (more == -1 and label[-1] == 1)
