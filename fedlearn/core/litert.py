"""Functions as a file of LiteRT, of its built-in operators alone."""

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import convert_to_constants

Named = tuple[Callable, Mapping[str, Any], Sequence[str]]
"""A function of arrays, the types of these by name, and names of results."""


def convert(functions: Mapping[str, Named]) -> bytes:
    """A file with a signature for each function.

    Raises ValueError, with the operations, for what LiteRT doesn't have.
    """
    signatures = {n: _signature(*named) for n, named in functions.items()}
    with tempfile.TemporaryDirectory() as folder:
        options = tf.saved_model.SaveOptions(
            experimental_custom_gradients=False
        )
        tf.saved_model.save(tf.Module(), folder, signatures, options)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(signatures)
        )
        try:
            return converter.convert()
        except Exception as error:
            lacks = sorted(set(re.findall(r"'tf\.(\w+)' op is", str(error))))
            if not lacks:
                raise
            raise ValueError(
                f"LiteRT has no operators of its own for {', '.join(lacks)}, "
                "which this client's training takes. docs/core.md says what "
                "it can."
            ) from None


def _signature(
    fn: Callable, types: Mapping[str, Any], names: Sequence[str]
) -> Any:
    specs = []
    for name, t in types.items():
        shape = [s if isinstance(s, int) else None for s in t.shape]
        specs.append(tf.TensorSpec(shape, t.dtype, name))
    traced = tf.function(fn, specs, autograph=False).get_concrete_function()
    inlined = convert_to_constants.convert_variables_to_constants_v2(traced)
    operations = [op for op in inlined.graph.get_operations() if op.outputs]

    def retold(*arrays):
        known = [x.name for x in inlined.inputs]
        values = dict(zip(known, arrays, strict=True))
        waiting = [op for op in operations if op.type != "Placeholder"]
        while waiting:
            ready = [
                op for op in waiting if all(x.name in values for x in op.inputs)
            ]
            if not ready or any(map(_has_function, ready)):
                raise ValueError(
                    "There are loops or branches in this client's training, "
                    "such as those of recurrent layers, which LiteRT isn't "
                    "told of."
                )
            for op in ready:
                inputs = [values[x.name] for x in op.inputs]
                outputs = _TOLD.get(op.type, _unknown)(*inputs)
                if outputs is None:
                    outputs = _as_it_is(op, inputs)
                found = [x.name for x in op.outputs]
                values.update(zip(found, outputs, strict=True))
            waiting = [op for op in waiting if op.outputs[0].name not in values]
        results = (tf.identity(values[x.name]) for x in inlined.outputs)
        return dict(zip(names, results, strict=True))

    function = tf.function(retold, specs, autograph=False)
    return function.get_concrete_function()


def _has_function(op: Any) -> bool:
    return any(a.HasField("func") for a in op.node_def.attr.values())


def _as_it_is(op: Any, inputs: Sequence[Any]) -> Any:
    """The same operation of other tensors."""
    graph = tf.compat.v1.GraphDef()
    node = graph.node.add()
    node.CopyFrom(op.node_def)
    del node.input[:]
    given = {}
    for i, value in enumerate(inputs):
        place = graph.node.add(op="Placeholder", name=f"input_{i}")
        place.attr["dtype"].type = value.dtype.as_datatype_enum
        node.input.append(place.name)
        given[f"{place.name}:0"] = value
    outputs = [x.name for x in op.outputs]
    return tf.graph_util.import_graph_def(graph, given, outputs, name="")


# What training needs and LiteRT lacks, told by what it has.


def _unknown(*inputs: Any) -> None:
    return None


def _relu_grad(gradient, y):
    return [gradient * tf.cast(y > 0, gradient.dtype)]


def _cross_entropy(logits, labels):
    losses = -tf.reduce_sum(labels * tf.nn.log_softmax(logits), axis=1)
    return losses, tf.nn.softmax(logits) - labels


def _sparse_cross_entropy(logits, labels):
    rows = tf.one_hot(labels, tf.shape(logits)[1], dtype=logits.dtype)
    return _cross_entropy(logits, rows)


def _sign_bit(x, mask):
    """Of the bits of numbers the sign, by which Keras's argmax knows -0."""
    if np.all(tf.get_static_value(mask) == np.iinfo(np.int32).min):
        return [tf.where(x < 0, mask, 0)]
    return None


def _axes_to_sum(*shapes):
    """Those in which each of two arrays is repeated to be like the other."""
    rank = max(s.shape[0] for s in shapes)

    def axes(shape):
        ones = tf.ones(rank - shape.shape[0], shape.dtype)
        at = tf.where(tf.concat([ones, shape], 0) == 1)
        return tf.cast(tf.reshape(at, [-1]), shape.dtype)

    return [axes(s) for s in shapes]


_TOLD: dict[str, Callable] = {
    "ReluGrad": _relu_grad,
    "SoftmaxCrossEntropyWithLogits": _cross_entropy,
    "SparseSoftmaxCrossEntropyWithLogits": _sparse_cross_entropy,
    "BitwiseAnd": _sign_bit,
    "BroadcastGradientArgs": _axes_to_sum,
}
