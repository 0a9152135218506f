"""TensorFlow's form of a local computation: a GraphDef."""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_def_registry
from tensorflow.python.util import pywrap_xla_ops

from fedlearn.core.types import TensorType, dimension_names

NAME = "graph_def"
PADS = False  # a graph takes any number of lanes
canonical_dtype = np.dtype  # all are computed with as such

# A graph of a file is made of what XLA compiles, which touches no files, no
# network, no Python and, without a state, nothing that a process keeps. What
# starts with XLA's name can: it calls others' code.
_ALLOWED = {
    name
    for name in pywrap_xla_ops.get_cpu_kernel_names()
    if not name.startswith(("Xla", "_"))
    and not op_def_registry.get(name).is_stateful
}
# Those that do have a state have that of the functions that they call, or
# raise errors.
_ALLOWED |= {"Assert", "CheckNumerics", "If", "Placeholder", "SegmentSum"}
_ALLOWED |= {"StatefulPartitionedCall", "While"}
_MOST_CONSTANTS = 2**28  # bytes that constants of a file may unfold to


def trace(
    fn: Callable, types: Sequence[TensorType]
) -> tuple[int, list[list[Any]]]:
    """How many arrays a function takes from outside; shapes of what it gives.

    A graph has no names of dimensions. Which of what it gives is of a name's
    length is found by giving names lengths of their own.
    """
    concrete = _concrete(fn, types)
    shapes = [x.shape.as_list() for x in concrete.outputs]
    names = dimension_names(types)
    if names and any(None in shape for shape in shapes):
        # Such that functions may divide them.
        lengths: dict[Any, int] = {
            name: 720 * (1009 + i) for i, name in enumerate(names)
        }
        known = [
            TensorType(t.dtype, [lengths.get(s, s) for s in t.shape])
            for t in types
        ]
        try:
            found = [x.shape.as_list() for x in _concrete(fn, known).outputs]
        except Exception:  # it can't be of these lengths
            found = shapes
        by_length = {length: name for name, length in lengths.items()}
        shapes = [
            [
                by_length.get(b) if a is None else a
                for a, b in zip(x, y, strict=True)
            ]
            for x, y in zip(shapes, found, strict=True)
        ]
    return len(concrete.captured_inputs), shapes


def export(fn: Callable, types: Sequence[TensorType]) -> bytes:
    """A function as bytes."""
    concrete = _concrete(fn, types)
    ends = concrete.inputs, concrete.outputs
    head = json.dumps([[x.name for x in end] for end in ends]).encode()
    graph = concrete.graph.as_graph_def().SerializeToString(deterministic=True)
    return len(head).to_bytes(4, "little") + head + graph


def check(data: bytes, ours: bool = False) -> None:
    """A ValueError if a function does more than compute."""
    del ours  # that makes no difference
    _, _, graph = parts(data)
    own = {f.signature.name for f in graph.library.function}
    unfolded = 0
    for node in _nodes(graph):
        if node.op not in _ALLOWED:
            raise ValueError(f"the operation {node.op} isn't allowed in a file")
        for function in _functions(node):
            if function.name not in own:  # it would be one of this process
                raise ValueError(f"it calls {function.name} and hasn't got it")
        if "value" in node.attr:  # asking for one would add it
            dtype = tf.as_dtype(node.attr["value"].tensor.dtype or 1)
            if not dtype.is_numpy_compatible:  # reading forged lists crashes
                raise ValueError(f"a constant of {dtype.name} isn't allowed")
            sizes = node.attr["value"].tensor.tensor_shape.dim
            unfolded += 16 * math.prod(max(d.size, 0) for d in sizes)
    if unfolded > _MOST_CONSTANTS + 16 * len(data):
        raise ValueError(f"its constants unfold to {unfolded} bytes")


def screen(artifacts: Sequence[bytes]) -> None:
    """Nothing: the reader of protocol buffers refuses what it can't parse."""


def load(data: bytes, types: Sequence[TensorType]) -> Callable:
    """The function of some bytes."""
    inputs, outputs, graph = parts(data)
    # In a process, functions of one name have to be one.
    suffix = f"_{hashlib.sha256(data).hexdigest()}"
    for function in graph.library.function:
        function.signature.name += suffix
    for node in _nodes(graph):
        for function in _functions(node):
            function.name += suffix

    def imported(*leaves):
        given = dict(zip(inputs, leaves, strict=True))
        return tf.graph_util.import_graph_def(graph, given, outputs, name="")

    # Unlike `tf.function`, it knows the functions that a graph brings along.
    wrapped = tf.compat.v1.wrap_function(imported, _specs(types))
    return lambda *leaves: wrapped(*map(tf.convert_to_tensor, leaves))


def parts(data: bytes) -> tuple[list[str], list[str], Any]:
    """The names of inputs and outputs, and the graph."""
    start = 4 + int.from_bytes(data[:4], "little")
    inputs, outputs = json.loads(data[4:start])
    return inputs, outputs, tf.compat.v1.GraphDef.FromString(data[start:])


def _nodes(graph: Any) -> list[Any]:
    """The operations of a graph and of its functions."""
    return [
        *graph.node,
        *(n for f in graph.library.function for n in f.node_def),
    ]


def _functions(node: Any) -> list[Any]:
    """The functions that an operation calls."""
    attrs = node.attr.values()
    return [
        *(a.func for a in attrs if a.HasField("func")),
        *(f for a in attrs for f in a.list.func),
    ]


def jit(fn: Callable, types: Sequence[TensorType] | None = None) -> Callable:
    """A function compiled; with `types`, once for all lengths."""
    if types is not None:
        return _concrete(fn, types)
    return tf.function(fn, autograph=False, reduce_retracing=True)


def _concrete(fn: Callable, types: Sequence[TensorType]) -> Any:
    function = tf.function(fn, _specs(types), autograph=False)
    return function.get_concrete_function()


def _specs(types: Sequence[TensorType]) -> list[Any]:
    specs = []
    for t in types:
        shape = [s if isinstance(s, int) else None for s in t.shape]
        specs.append(tf.TensorSpec(shape, t.dtype))
    return specs
