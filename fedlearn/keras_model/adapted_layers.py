"""What layers were adapted to, which Keras leaves out of a configuration."""

from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn.keras_model import keras_internals

_LOOKUPS = (keras.layers.IntegerLookup, keras.layers.StringLookup)


def adapted(model: keras.Model) -> dict[str, Any]:
    """In JSON, by the numbers of layers; of those that were adapted."""
    found: dict[str, Any] = {}
    for number, layer in enumerate(keras_internals.layers(model)):
        if isinstance(layer, _LOOKUPS):
            words = layer.get_vocabulary(include_special_tokens=False)
            if layer.input_vocabulary is None and len(words):
                found[str(number)] = _lookup(layer, words)
        elif computes_of_state(layer):
            store: dict[str, Any] = {}
            layer.save_own_variables(store)
            found[str(number)] = {
                key: _array(value) for key, value in store.items()
            }
    return found


def adapt(model: keras.Model, to: dict[str, Any]) -> None:
    """Gives layers of a model what `adapted` found in an equal one."""
    layers = keras_internals.layers(model)
    for number, told in to.items():
        layer: Any = layers[int(number)]
        if isinstance(layer, _LOOKUPS):
            layer.set_vocabulary(told["vocabulary"], told["idf_weights"])
        else:
            layer.load_own_variables(
                {
                    key: np.asarray(value["values"], value["dtype"])
                    for key, value in told.items()
                }
            )


def computes_of_state(layer: keras.Layer) -> bool:
    """Whether a layer computes with something that it made of its state.

    A Normalization has a copy of the mean and variance that it was adapted to.
    """
    base = keras.Layer.load_own_variables
    return bool(
        type(layer).load_own_variables is not base
        and keras_internals.own_state(layer)
        and not keras_internals.own_weights(layer)
    )


def _lookup(layer: Any, words: Any) -> dict[str, Any]:
    weights = None
    if layer.output_mode == "tf_idf":
        weights = np.asarray(layer.idf_weights)[-len(words) :].tolist()
    words = [w.item() if isinstance(w, np.generic) else w for w in words]
    return {"vocabulary": words, "idf_weights": weights}


def _array(value: Any) -> dict[str, Any]:
    array = ops.convert_to_numpy(value)
    return {"dtype": array.dtype.name, "values": array.tolist()}
