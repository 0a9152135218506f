"""TensorFlow's form of a local computation: a GraphDef."""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_def_registry
from tensorflow.python.util import pywrap_xla_ops

from fedlearn.core.types import TensorType

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
# Those that do have a state have that of the functions that they call.
_ALLOWED |= {"Assert", "If", "Placeholder", "SegmentSum"}
_ALLOWED |= {"StatefulPartitionedCall", "While"}
_MOST_CONSTANTS = 2**28  # bytes that constants of a file may unfold to


def trace(fn: Callable, types: Sequence[TensorType]) -> int:
    """How many arrays a function takes from outside."""
    return len(_concrete(fn, types).captured_inputs)


def export(
    fn: Callable, types: Sequence[TensorType], lanes: Sequence[bool]
) -> bytes:
    """A function as bytes; `lanes`, which arguments there are many of."""
    concrete = _concrete(fn, types, lanes)
    names = (
        [x.name for x in concrete.inputs],
        [x.name for x in concrete.outputs],
    )
    head = json.dumps(names).encode()
    graph = concrete.graph.as_graph_def().SerializeToString(deterministic=True)
    return len(head).to_bytes(4, "little") + head + graph


def check(data: bytes) -> None:
    """A ValueError if a function does more than compute."""
    _, _, graph = parts(data)
    inner = (n for f in graph.library.function for n in f.node_def)
    unfolded = 0
    for node in (*graph.node, *inner):
        if node.op not in _ALLOWED:
            raise ValueError(f"the operation {node.op} isn't allowed in a file")
        if "value" in node.attr:  # asking for one would add it
            sizes = node.attr["value"].tensor.tensor_shape.dim
            unfolded += 16 * math.prod(max(d.size, 0) for d in sizes)
    if unfolded > _MOST_CONSTANTS + 16 * len(data):
        raise ValueError(f"its constants unfold to {unfolded} bytes")


def screen(artifacts: Sequence[bytes]) -> None:
    """Nothing: the reader of protocol buffers refuses what it can't parse."""


def load(data: bytes) -> Callable:
    """The function of some bytes."""
    inputs, outputs, graph = parts(data)
    nodes = {f"{node.name}:0": node.attr for node in graph.node}
    specs = []
    for name in inputs:
        shape = tf.TensorShape(nodes[name]["shape"].shape)
        specs.append(tf.TensorSpec(shape, nodes[name]["dtype"].type))

    def imported(*leaves):
        given = dict(zip(inputs, leaves, strict=True))
        return tf.graph_util.import_graph_def(graph, given, outputs, name="")

    wrapped = tf.compat.v1.wrap_function(imported, specs)
    return lambda *leaves: wrapped(*map(tf.convert_to_tensor, leaves))


def parts(data: bytes) -> tuple[list[str], list[str], Any]:
    """The names of inputs and outputs, and the graph."""
    start = 4 + int.from_bytes(data[:4], "little")
    inputs, outputs = json.loads(data[4:start])
    return inputs, outputs, tf.compat.v1.GraphDef.FromString(data[start:])


def jit(fn: Callable, types: Sequence[TensorType] | None = None) -> Callable:
    """A function compiled; with `types`, once for all lengths."""
    if types is not None:
        return _concrete(fn, types)
    return tf.function(fn, autograph=False, reduce_retracing=True)


def _concrete(
    fn: Callable, types: Sequence[TensorType], lanes: Sequence[bool] = ()
) -> Any:
    specs = []
    for i, t in enumerate(types):
        sizes = [s if isinstance(s, int) else None for s in t.shape]
        lead = [None] if lanes and lanes[i] else []
        specs.append(tf.TensorSpec([*lead, *sizes], t.dtype))

    function = tf.function(fn, specs, autograph=False)
    return function.get_concrete_function()
