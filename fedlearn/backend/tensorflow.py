"""TensorFlow: graphs with dynamic shapes, no XLA.

XLA is left out on purpose: on CPU it runs looped convolutions 20 to 100 times
slower, and it draws other random numbers from the same seed than a graph does.
"""

import contextlib
import functools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.ops.parallel_for import control_flow_ops, pfor

from fedlearn.backend.compile_clock import clock

LOOPS_IN_GRAPH = True
ASSIGNS_IN_PLACE = True


def jit(
    fn: Callable, free: Sequence[int] = (), loose: Sequence[int] = ()
) -> Callable:
    def function():
        compiled = tf.function(
            clock.traces(fn), reduce_retracing=True, autograph=False
        )
        # Each process has functions of its own, traced once or twice each;
        # the warning counts them all together by name.
        compiled._omit_frequent_tracing_warning = True
        return compiled

    if not free and not loose:
        return function()
    # One for each kind of arguments, such as data with and without sample
    # weights: a graph of known lengths rounds differently than one of unknown
    # ones, and which it is must not depend on what came before.
    functions: dict[str, Any] = {}

    def kind(value):
        # Texts of any length are of one kind.
        return tf.as_dtype(value.dtype).name, len(value.shape)

    def spec(position, value):
        known = tf.TensorSpec.from_tensor(tf.convert_to_tensor(value))
        if position in loose:
            return tf.TensorSpec([None] * known.shape.rank, known.dtype)
        if position in free:
            return tf.TensorSpec([None, *known.shape[1:]], known.dtype)
        return known

    def call(*args):
        varying = [args[i] for i in (*free, *loose)]
        key = repr(keras.tree.map_structure(kind, varying))
        if key not in functions:
            # Traced once with unknown lengths, so that the next client, of
            # another length, finds this graph and isn't traced again.
            specs = (
                keras.tree.map_structure(lambda v, i=i: spec(i, v), arg)
                for i, arg in enumerate(args)
            )
            compiled = function()
            compiled.get_concrete_function(*specs)
            functions[key] = compiled
        return functions[key](*args)

    return call


def value_and_grad(fn: Callable) -> Callable:
    def call(params, *args):
        params = [tf.convert_to_tensor(p) for p in params]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(params)
            loss, aux = fn(params, *args)
        grads = tape.gradient(
            loss, params, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        # An embedding's gradient comes as IndexedSlices; here the parameters
        # are values and not variables, so a dense update is what is needed.
        return (loss, aux), [tf.convert_to_tensor(g) for g in grads]

    return call


def loop(num_steps, body: Callable[[Any, Any], Any], carry: Any) -> Any:
    num_steps = tf.convert_to_tensor(num_steps, tf.int32)
    flat = [tf.convert_to_tensor(leaf) for leaf in keras.tree.flatten(carry)]

    def flat_body(step, *leaves):
        result = body(step, keras.tree.pack_sequence_as(carry, leaves))
        return step + 1, *keras.tree.flatten(result)

    _, *flat = tf.while_loop(
        lambda step, *_: step < num_steps, flat_body, [tf.constant(0), *flat]
    )
    return keras.tree.pack_sequence_as(carry, flat)


def vmap(fn: Callable) -> Callable:
    def call(*args):
        flat = list(map(tf.convert_to_tensor, keras.tree.flatten(args)))

        def lane(number):
            # Marked for `_whole`.
            rows = [
                tf.raw_ops.Snapshot(input=tf.gather(a, number)) for a in flat
            ]
            result = fn(*keras.tree.pack_sequence_as(args, rows))
            structure.append(result)
            return keras.tree.flatten(result)

        structure: list[Any] = []
        outputs = control_flow_ops.pfor(lane, tf.shape(flat[0])[0])
        return keras.tree.pack_sequence_as(structure[-1], outputs)

    return call


def where_rows(mask: Any, new: Any, old: Any) -> Any:
    # `tf.where` takes a mask that is broadcast, and eight times as long.
    return keras.tree.map_structure(
        lambda *rows: tf.raw_ops.Select(condition=mask, x=rows[0], y=rows[1]),
        new,
        old,
    )


def _bitcast(pfor_input: Any) -> Any:
    dtype = pfor_input.get_attr("type")
    return tf.bitcast(pfor_input.stacked_input(0), dtype)


def _l2_loss(pfor_input: Any) -> Any:
    stacked = pfor_input.stacked_input(0)
    axes = tf.range(1, tf.rank(stacked))
    return tf.reduce_sum(tf.square(stacked), axes) / 2


def _whole(pfor_input: Any) -> Any:
    lanes = pfor_input.stacked_input(0)
    op = lanes.op
    # Where TensorFlow doesn't know how many lanes there are, it gathers those
    # of all numbers: a copy of all there is, in every step.
    if op.type == "GatherV2" and op.inputs[1] is pfor_input.pfor.all_indices:
        return op.inputs[0]
    return lanes


# vectorized_map has no rule for these, and would loop over the lanes.
# `keras.ops.argmax`, and so every accuracy, casts bits to tell -0 from 0.
for _name, _rule in (
    ("Bitcast", _bitcast),
    ("L2Loss", _l2_loss),
    ("Snapshot", _whole),
):
    with contextlib.suppress(ValueError):  # TensorFlow has learnt it
        pfor.RegisterPFor(_name)(
            lambda pfor_input, rule=_rule: pfor.wrap(rule(pfor_input), True)
        )


def random_uniform(seed: Any, shape: Sequence[int]) -> Any:
    # `tf.random.stateless_uniform` is two operations of which vectorized_map
    # knows none; this one it knows. Both draw by Philox.
    return tf.raw_ops.StatelessRandomUniform(
        shape=tf.constant(tuple(shape), tf.int32), seed=seed, dtype=tf.float32
    )


def random_dither(seed: Any, shape: Sequence[int]) -> Any:
    shape = tuple(shape)
    size = math.prod(shape)
    words = tf.raw_ops.StatelessRandomUniformFullInt(
        shape=tf.constant([(size + 1) // 2]), seed=seed, dtype=tf.uint32
    )
    bits = tf.reshape(tf.bitcast(words, tf.uint16), [-1])
    if size % 2:
        bits = bits[:size]
    return tf.reshape(tf.cast(bits, tf.float32), shape) * 2.0**-16


def sum_of_squares(array: Any) -> Any:
    # One pass, where squaring and adding are two and a new array.
    return 2 * tf.nn.l2_loss(array)


def float64() -> Any:
    return contextlib.nullcontext()


def num_threads() -> int | None:
    told = tf.config.threading.get_intra_op_parallelism_threads()
    return told or int(os.environ.get("TF_NUM_INTRAOP_THREADS", 0)) or None


def to_numpy(tree: Any) -> Any:
    return keras.tree.map_structure(
        lambda leaf: leaf.numpy() if hasattr(leaf, "numpy") else leaf, tree
    )


def stack(trees: Sequence[Any]) -> Any:
    # `tf.stack` makes lists of lists of numbers of arrays of NumPy.
    leaves = zip(*map(keras.tree.flatten, trees), strict=True)
    return keras.tree.pack_sequence_as(
        trees[0], [tf.raw_ops.Pack(values=list(row), axis=0) for row in leaves]
    )


def rows(tree: Any, count: int) -> list[Any]:
    # Rows share the memory of all, and one that is kept would keep the others.
    leaves = [
        [tf.raw_ops.DeepCopy(x=row) for row in tf.unstack(a[:count])]
        for a in keras.tree.flatten(tree)
    ]
    pack = functools.partial(keras.tree.pack_sequence_as, tree)
    return list(map(pack, zip(*leaves, strict=True))) or [tree] * count
