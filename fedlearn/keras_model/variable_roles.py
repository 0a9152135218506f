"""Which of a model's variables a training step changes."""

import contextlib
import functools
import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras

from fedlearn.keras_model import keras_internals
from fedlearn.keras_model.stateless_scope import OnShapes


class Roles(NamedTuple):
    """Positions in `model.non_trainable_variables`, by what happens to them.

    Positions and not names: names of Keras 3 variables aren't unique.

    Attributes:
        state: Floats that a training step changes: statistics.
        local: Counters that it changes, and random seeds.
        frozen: All others, which stay what they are.
        ignored: Those of `frozen` that layers would change if they weren't
            told to leave them.
    """

    state: tuple[int, ...]
    local: tuple[int, ...]
    frozen: tuple[int, ...]
    ignored: tuple[int, ...] = ()

    def with_frozen_state(self) -> "Roles":
        """The roles where statistics are left as they are."""
        frozen = tuple(sorted((*self.frozen, *self.state)))
        return Roles((), self.local, frozen, self.state)


def roles(model: keras.Model) -> Roles:
    """The roles of a compiled model's variables.

    A step is traced on shapes alone, and what gets a new value in it changes.
    How layers list their variables doesn't tell: a Normalization layer's mean
    and a frozen layer's moving statistics stand in the same lists as those of
    a layer that trains.
    """
    changed = _changed(model)
    state, local, frozen = [], [], []
    for i, variable in enumerate(model.non_trainable_variables):
        if is_random_seed(variable):
            local.append(i)
        elif id(variable) not in changed:
            frozen.append(i)
        elif keras.backend.is_float_dtype(variable.dtype):
            state.append(i)
        else:
            local.append(i)
    return Roles(tuple(state), tuple(local), tuple(frozen))


def is_random_seed(variable: keras.Variable) -> bool:
    """Whether a variable is the state of a layer's random generator."""
    return variable.name == "seed_generator_state"


def in_mode(function: Any, training: bool) -> dict[str, bool]:
    """The argument `training` for a function, if it has that."""
    takes = "training" in inspect.signature(function).parameters
    return {"training": training} if takes else {}


def assigns_weights(model: keras.Model) -> bool:
    """Whether a layer assigns a trainable weight of its own in a call."""
    changed = _traced(model)
    return changed is not None and any(
        id(v) in changed for v in model.trainable_variables
    )


def layers_with(
    model: keras.Model, positions: tuple[int, ...]
) -> list[keras.Layer]:
    """The layers that own some of `model.non_trainable_variables`."""
    wanted = {id(model.non_trainable_variables[i]) for i in positions}
    return [
        layer
        for layer in keras_internals.layers(model)
        if wanted & _ids(keras_internals.own_state(layer))
    ]


@contextlib.contextmanager
def inferring(layers: list[keras.Layer]) -> Iterator[None]:
    """Calls layers with `training=False`, whatever they are told.

    While a model is traced, and nowhere else: the layers are the user's.
    """

    def infer(call, signature, *args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        bound.arguments["training"] = False
        return call(*bound.args, **bound.kwargs)

    changed = [layer for layer in layers if in_mode(layer.call, True)]
    before = [dict(vars(layer)) for layer in changed]
    for layer in changed:
        vars(layer)["call"] = functools.partial(
            infer, layer.call, inspect.signature(layer.call)
        )
    try:
        yield
    finally:
        for layer, attributes in zip(changed, before, strict=True):
            del vars(layer)["call"]
            if "call" in attributes:
                vars(layer)["call"] = attributes["call"]


def _ids(variables: list[keras.Variable]) -> set[int]:
    return {id(v) for v in variables}


def _changed(model: keras.Model) -> set[int]:
    """The ids of variables that a training step changes."""
    if all(map(is_random_seed, model.non_trainable_variables)):
        return set()
    traced = _traced(model)
    if traced is not None:
        return traced
    # Nothing is known of the input's shape, or the backend can't trace it.
    # What a layer made as non-trainable may change; a frozen layer's kernels,
    # which are listed among the non-trainable variables too, don't.
    return {
        key
        for layer in keras_internals.layers(model)
        if not _keeps(layer)
        for key in _ids(keras_internals.own_state(layer))
    }


def _keeps(layer: keras.Layer) -> bool:
    if isinstance(layer, keras.layers.Normalization):
        return True  # set by `adapt`, before the run
    frozen = not layer.trainable
    return frozen and isinstance(layer, keras.layers.BatchNormalization)


def _traced(model: keras.Model) -> set[int] | None:
    """The ids of variables that get a new value; None if it can't be known."""
    for x in _examples(model):
        changed: set[int] = set()
        try:
            OnShapes(functools.partial(_record, model, changed))(x)
        except Exception:  # what a layer raises can be anything
            continue
        return changed
    return None


def _record(model: keras.Model, changed: set[int], x: Any) -> Any:
    # In a scope, so that no variable of the user's model changes. Keras looks
    # up what it regularizes among the scope's values only.
    mapping = [(v, v.value) for v in model.variables]
    scope = keras.StatelessScope(mapping, collect_losses=True)
    before = dict(scope.state_mapping)
    with scope:
        y_pred = model(x, **in_mode(model.call, True))
        if type(model).compute_loss is not keras.Model.compute_loss:
            changed |= _maybe_changed_by_loss(model, x, y_pred)
    changed |= {
        key
        for key, value in scope.state_mapping.items()
        if value is not before.get(key)
    }
    return y_pred


def _maybe_changed_by_loss(model, x, y_pred) -> set[int]:
    """Calls a `compute_loss` on made-up labels; else, what it may change."""
    labels = (
        keras.tree.map_structure(keras.ops.zeros_like, y_pred),
        keras.tree.map_structure(
            lambda p: keras.ops.zeros(p.shape[:-1], "int32"), y_pred
        ),
        x,
    )
    for y in labels:
        try:
            model.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=None)
        except Exception:  # as above
            continue
        return set()
    return _ids(keras_internals.own_state(model))


def _examples(model: keras.Model) -> list[Any]:
    """Batches of two that the model may take, as shapes."""
    inputs = getattr(model, "inputs", None)
    if inputs is not None:
        if len(inputs) == 1:
            (inputs,) = inputs
        with contextlib.suppress(AttributeError):  # in their structure
            inputs = model.input
        return [
            keras.tree.map_structure(
                lambda t: keras.KerasTensor(
                    _of_two(t.shape), t.dtype, sparse=t.sparse
                ),
                inputs,
            )
        ]
    # A subclassed model knows the shapes that it was built with.
    shape = (model.get_build_config() or {}).get("input_shape")
    if shape is None:
        return []
    dtypes = (keras.backend.floatx(), "int32")
    return [_of_shape(shape, dtype) for dtype in dtypes]


def _of_shape(shape: Any, dtype: str) -> Any:
    if isinstance(shape, dict):
        return {key: _of_shape(value, dtype) for key, value in shape.items()}
    if all(d is None or isinstance(d, int) for d in shape):
        return keras.KerasTensor(_of_two(shape), dtype)
    return [_of_shape(value, dtype) for value in shape]


def _of_two(shape: tuple) -> tuple:
    return (2 if shape[0] is None else shape[0], *shape[1:])
