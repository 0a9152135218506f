import keras
import numpy as np
import pytest
from keras import ops

from fedlearn import backend
from tests import zoo


def test_stacked_states_come_apart_as_they_were():
    def state(number):
        return {"a": [np.full((3, 2), number, "float32")], "b": (number > 1,)}

    trees = [state(np.float32(number)) for number in range(4)]
    trees[0] = keras.tree.map_structure(ops.convert_to_tensor, trees[0])
    stacked = backend.stack(trees)
    assert tuple(stacked["a"][0].shape) == (4, 3, 2)
    rows = backend.rows(stacked, 3)
    assert len(rows) == 3
    for row, tree in zip(rows, trees, strict=False):
        zoo.assert_equal(row, tree)
    assert backend.rows((), 2) == [(), ()]


def test_a_row_that_is_kept_keeps_no_others():
    stacked = [keras.ops.ones((4, 64, 64))]
    rows = [np.asarray(memoryview(r)) for (r,) in backend.rows(stacked, 4)]
    places = [row.__array_interface__["data"][0] for row in rows]
    assert set(np.diff(places)) != {rows[0].nbytes}


def test_rows_that_arent_taken_may_be_nan():
    new = [np.array([[1.0, 2.0], [np.nan, 3.0]], "float32"), np.ones(2)]
    old = keras.tree.map_structure(np.zeros_like, new)
    chosen = backend.where_rows(
        ops.convert_to_tensor([True, False]),
        *keras.tree.map_structure(ops.convert_to_tensor, (new, old)),
    )
    zoo.assert_equal(chosen, [np.array([[1, 2], [0, 0]]), np.array([1, 0])])


@pytest.mark.skipif(backend.name != "tensorflow", reason="XLA copies nothing")
def test_lanes_are_not_copied():
    import tensorflow as tf

    def double(x):
        return backend.vmap(lambda row: 2 * row)(x)

    spec = tf.TensorSpec([None, 3])
    graph = tf.function(double).get_concrete_function(spec).graph
    # Functions are pruned to what their outputs need.
    needed, queue = set(), [t.op for t in graph.outputs]
    while queue:
        op = queue.pop()
        needed.add(op.type)
        queue += [t.op for t in op.inputs]
    assert "Mul" in needed
    assert "GatherV2" not in needed
