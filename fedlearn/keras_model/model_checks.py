"""What a model must be, and why it can't take a client's examples."""

from typing import Any

import keras

from fedlearn.keras_model import keras_internals


def check_model(model: Any) -> None:
    """Raises unless it is a compiled model with weights and Keras's steps."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`model` must be a compiled keras.Model (Keras 3). Received an "
            f"object of type {type(model).__module__}.{type(model).__name__}."
        )
    if not getattr(model, "compiled", False):
        raise ValueError(
            f"The model {model.name!r} isn't compiled, so it has no loss to "
            "train with. Call `model.compile(optimizer=..., loss=..., "
            "metrics=[...])` before it is given to fedlearn."
        )
    weights = keras_internals.compile_arguments(model)["loss_weights"]
    if any(isinstance(w, str) for w in keras.tree.flatten(weights)):
        raise ValueError(
            f"The model {model.name!r} is compiled with loss_weights="
            f"{weights!r}: the third argument of `compile`. For metrics write "
            f"`model.compile(optimizer, loss, metrics={weights!r})`."
        )
    if not model.built or not model.weights:
        raise ValueError(
            f"The model {model.name!r} has no weights yet: Keras creates them "
            "when it knows the input's shape. Start the model with "
            "`keras.Input(shape)`, or call `model.build((None, ...))`, or "
            "call it once on a batch."
        )
    if not model.trainable_variables:
        raise ValueError(
            f"The model {model.name!r} has no trainable variables, so there "
            "is nothing to learn. Set `trainable = True` on some layer."
        )
    if keras.backend.backend() != "tensorflow":
        for layer in keras_internals.layers(model):
            if isinstance(layer, _ON_TENSORFLOW):
                raise ValueError(
                    f"The layer {layer.name!r} ({type(layer).__name__}) "
                    "computes with TensorFlow on every backend, so it can't "
                    f"be compiled on {keras.backend.backend()} (`model.fit` "
                    "raises there, too). Apply it to the clients' arrays "
                    "before, with `dataset.map(fn)`, or set "
                    "KERAS_BACKEND=tensorflow."
                )
    for variable in model.trainable_variables:
        if variable.overwrite_with_gradient:
            raise ValueError(
                f"The variable {variable.path!r} isn't trained: in float8 "
                "Keras hands a layer's scales on as gradients, and the mean "
                "of several clients' would be none's. Use another dtype "
                "policy, such as 'mixed_bfloat16'; int8 layers with LoRA are "
                "taken."
            )
    for method in ("train_step", "test_step"):
        if getattr(type(model), method) is not getattr(keras.Model, method):
            raise ValueError(
                f"{type(model).__name__} overrides `{method}`, which updates "
                "variables in place and can't run on many clients at once. "
                "Override `compute_loss` (and `compute_metrics`) instead, "
                f"which fedlearn honours, and remove `{method}`."
            )


_ON_TENSORFLOW = (
    keras.layers.HashedCrossing,
    keras.layers.Hashing,
    keras.layers.IntegerLookup,
    keras.layers.StringLookup,
    keras.layers.TextVectorization,
)


def refusal(model: keras.Model, batch: tuple, whose: str) -> str:
    """Why a model can't take examples, as far as their shapes tell."""
    expected: Any = getattr(
        model, "input_shape", "not known (a subclassed model)"
    )
    output: Any = getattr(model, "output_shape", None)
    loss = model.loss
    what, hint = "examples", ""
    if _is_shape(expected) and not _fits(batch[0], expected):
        what = "inputs"
        hint = (
            "Reshape them, for example with `dataset.map(lambda data: "
            "(reshape(data[0]), data[1]))`. "
        )
    elif len(batch) > 1 and _is_shape(output):
        name = getattr(loss, "name", None) or getattr(loss, "__name__", loss)
        one_hot = _fits(batch[1], output)
        if str(name).startswith("sparse_") and one_hot:
            what, hint = "labels", "One-hot labels: a loss without `sparse_`. "
        elif str(name).startswith("categorical_") and not one_hot:
            what = "labels"
            hint = "Integer labels: `sparse_categorical_crossentropy`. "
    found = ", ".join(
        f"{name} is "
        f"{keras.tree.map_structure(lambda a: f'{a.shape} {a.dtype}', part)}"
        for name, part in zip(("x", "y", "sample_weight"), batch, strict=False)
    )
    return (
        f"The model can't be run on the {what} of {whose}: {found}. "
        f"The model's input shape is {expected}, its output shape {output} "
        f"(None is the batch), its loss {loss!r}. {hint}Change the clients' "
        "arrays (`dataset.map(fn)`), or the model's input, output or loss."
    )


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and all(
        d is None or isinstance(d, int) for d in value
    )


def _fits(array: Any, expected: tuple) -> bool:
    return keras.tree.is_nested(array) or (
        len(array.shape) == len(expected)
        and all(
            b is None or a == b
            for a, b in zip(array.shape[1:], expected[1:], strict=True)
        )
    )
