"""Which models compute each example by itself, by construction.

A batch of such a model is no more than its examples: its loss is the mean of
theirs, and what a metric adds is the sum of what they add. Then a batch can be
filled up with copies of an example, and what they bring taken off again,
exactly.

Only what is known by its exact class counts. That two ways agree on some
examples is no proof: of copies of one example the mean over a batch is that
example, so that a loss or a layer that joins a batch would agree as well.
"""

from collections.abc import Mapping
from typing import Any

import keras

from fedlearn.metrics import mergeable

_LAYERS = (
    keras.layers.Activation,
    keras.layers.Add,
    keras.layers.Average,
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.AveragePooling3D,
    keras.layers.Concatenate,
    keras.layers.Conv1D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3D,
    keras.layers.Conv3DTranspose,
    keras.layers.Cropping1D,
    keras.layers.Cropping2D,
    keras.layers.Cropping3D,
    keras.layers.Dense,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.ELU,
    keras.layers.Embedding,
    keras.layers.Flatten,
    keras.layers.GRU,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalAveragePooling3D,
    keras.layers.GlobalMaxPooling1D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.GlobalMaxPooling3D,
    keras.layers.GroupNormalization,
    keras.layers.InputLayer,
    keras.layers.LSTM,
    keras.layers.LayerNormalization,
    keras.layers.LeakyReLU,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D,
    keras.layers.Maximum,
    keras.layers.Minimum,
    keras.layers.Multiply,
    keras.layers.Normalization,
    keras.layers.PReLU,
    keras.layers.Permute,
    keras.layers.ReLU,
    keras.layers.RepeatVector,
    keras.layers.Rescaling,
    keras.layers.Reshape,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
    keras.layers.SimpleRNN,
    keras.layers.Softmax,
    keras.layers.Subtract,
    keras.layers.UpSampling1D,
    keras.layers.UpSampling2D,
    keras.layers.UpSampling3D,
    keras.layers.ZeroPadding1D,
    keras.layers.ZeroPadding2D,
    keras.layers.ZeroPadding3D,
)

# Those that look at the batch, or at chance, only while they train.
_AT_INFERENCE = (
    keras.layers.AlphaDropout,
    keras.layers.BatchNormalization,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
)

_ACTIVATIONS = (
    "celu",
    "elu",
    "exponential",
    "gelu",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "tanh",
    "tanh_shrink",
)

# Not among them: Circle, CTC, Dice, Tversky.
_LOSSES = (
    keras.losses.BinaryCrossentropy,
    keras.losses.BinaryFocalCrossentropy,
    keras.losses.CategoricalCrossentropy,
    keras.losses.CategoricalFocalCrossentropy,
    keras.losses.CategoricalHinge,
    keras.losses.CosineSimilarity,
    keras.losses.Hinge,
    keras.losses.Huber,
    keras.losses.KLDivergence,
    keras.losses.LogCosh,
    keras.losses.MeanAbsoluteError,
    keras.losses.MeanAbsolutePercentageError,
    keras.losses.MeanSquaredError,
    keras.losses.MeanSquaredLogarithmicError,
    keras.losses.Poisson,
    keras.losses.SparseCategoricalCrossentropy,
    keras.losses.SquaredHinge,
)
_LOSS_FUNCTIONS = (
    keras.losses.binary_crossentropy,
    keras.losses.binary_focal_crossentropy,
    keras.losses.categorical_crossentropy,
    keras.losses.categorical_focal_crossentropy,
    keras.losses.categorical_hinge,
    keras.losses.cosine_similarity,
    keras.losses.hinge,
    keras.losses.huber,
    keras.losses.kl_divergence,
    keras.losses.log_cosh,
    keras.losses.mean_absolute_error,
    keras.losses.mean_absolute_percentage_error,
    keras.losses.mean_squared_error,
    keras.losses.mean_squared_logarithmic_error,
    keras.losses.poisson,
    keras.losses.sparse_categorical_crossentropy,
    keras.losses.squared_hinge,
)

_ACTIVITY_REGULARIZERS = (
    keras.regularizers.L1,
    keras.regularizers.L2,
    keras.regularizers.L1L2,
)


def is_example_wise(model: keras.Model, training: bool = True) -> bool:
    """Whether a batch of a model is known to be no more than its examples.

    False of what isn't known: a subclassed model, a layer, loss, activation
    or metric that isn't Keras's own, a `Lambda`, an operation such as
    `x - keras.ops.mean(x, axis=0)` between layers, masks, and layers that
    look at the batch (BatchNormalization) or at chance (Dropout).

    Args:
        model: A compiled model, whose metrics exist.
        training: Whether it is to train, or to be evaluated.

    Example:

    >>> def model(*layers):
    ...     model = keras.Sequential([keras.Input((2,)), *layers])
    ...     model.compile("sgd", "mse")
    ...     return model
    >>> is_example_wise(model(keras.layers.Dense(1)))
    True
    >>> is_example_wise(model(keras.layers.Lambda(lambda x: x)))
    False
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
        and _metrics_are_sums(model)
    )


def _is_plain(model: keras.Model, training: bool) -> bool:
    """Whether a model is nothing but layers that are in the table."""
    if type(model) is keras.Sequential:
        operations = model.layers
    elif _name_of(type(model)) == "keras.src.models.functional.Functional":
        operations = model.operations
    else:
        return False
    return all(
        _is_plain(o, training)
        if isinstance(o, keras.Model)
        else _works_alone(o, training)
        for o in operations
    )


def _name_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


_FUNCTIONS = [getattr(keras.activations, name) for name in _ACTIVATIONS]


def _works_alone(layer: Any, training: bool) -> bool:
    """Whether an operation is a layer of the table, and set as it must be."""
    activations = [
        vars(layer)[name]
        for name in ("activation", "recurrent_activation")
        if name in vars(layer)
    ]
    regularizer = getattr(layer, "activity_regularizer", None)
    return (
        (
            type(layer) in _LAYERS
            or (not training and type(layer) in _AT_INFERENCE)
        )
        and "call" not in vars(layer)
        # Of a loss in float16, what is subtracted would be felt.
        and layer.compute_dtype in ("float32", "float64")
        and not getattr(layer, "mask_zero", False)
        and not getattr(layer, "stateful", False)
        and all(any(a is f for f in _FUNCTIONS) for a in activations)
        # Keras divides it by the number of examples.
        and (regularizer is None or type(regularizer) in _ACTIVITY_REGULARIZERS)
        and not _looks_along_examples(layer)
    )


# They give numbers that are alone an axis of their own.
_OF_SCALARS = (
    keras.layers.Embedding,
    keras.layers.Flatten,
    keras.layers.InputLayer,
    keras.layers.Reshape,
)


def _looks_along_examples(layer: keras.Layer) -> bool:
    if type(layer) not in _OF_SCALARS and any(
        len(tensor.shape) < 2
        for node in layer._inbound_nodes
        for tensor in node.input_tensors
    ):
        return True  # the last axis is that of the examples
    if isinstance(layer, keras.layers.Normalization):
        return False  # by numbers that are set before
    axes = keras.tree.flatten(getattr(layer, "axis", -1))
    return any(not isinstance(a, int) or (a < 1 and a != -1) for a in axes)


def labels_match(model: keras.Model, y: Any, outputs: Any) -> bool:
    """Whether each label stands beside the output of its own example.

    Where an output or its labels lack an axis, Keras's losses and metrics may
    compute along the examples, or each example with the labels of all others:
    outputs of shape `(n,)`, or `(n, 1, 1)` with labels of shape `(n,)`.

    Args:
        model: A compiled model.
        y: Labels, a pytree of what has a `shape`.
        outputs: The model's outputs for them, likewise.

    Example:

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


def _is_mean_over_examples(loss: Any) -> bool:
    if loss in ("crossentropy", "ce"):  # one of three, by the labels' shape
        return True
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    if not isinstance(loss, keras.losses.Loss):
        return any(loss is function for function in _LOSS_FUNCTIONS)
    return (
        type(loss) in _LOSSES
        and "call" not in vars(loss)
        and loss.reduction in ("mean", "sum_over_batch_size")
        and loss.dtype in ("float32", "float64")
        # Keras divides by the number of those that aren't ignored.
        and getattr(loss, "ignore_class", None) is None
        and loss._fn_kwargs.get("axis", -1) == -1
    )


def _metrics_are_sums(model: keras.Model) -> bool:
    compiled: Any = getattr(model, "_compile_metrics", None)
    return compiled is None or all(
        mergeable.is_sum(metric) and "update_state" not in vars(metric)
        for metric in compiled.metrics
    )
