"""Sorting many short columns by a fixed sequence of comparisons."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from fedlearn import backend

# A compilation takes longer than a few rounds' sorting of fewer columns.
FEWEST_COLUMNS = 2**14
# So many columns of some 100 rows stay in a core's cache from stage to stage.
_COLUMNS_AT_ONCE = 512


def sort_columns(stack: Any) -> Any:
    """Each column of a matrix, sorted: `ops.sort(stack, axis=0)`.

    `ops.sort` takes one column after another. Here whole rows are compared,
    as a sorting network says; that is faster by an order of magnitude where a
    compiler joins the steps (XLA). Without it, for few columns, or where the
    number of rows isn't known when the graph is made, it is `ops.sort`. Takes
    float32 of shape `(n, d)`, without NaN.
    """
    num_rows, num_columns = stack.shape
    compiled = _compiler()
    few = (num_rows or 0) < 2 or num_columns < FEWEST_COLUMNS
    if compiled is None or few:
        return ops.sort(stack, axis=0)
    return compiled(_sort_pieces)(stack)


@functools.cache
def stages(num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Which rows a sorting network compares, step by step.

    Batcher's odd-even merge exchange: Knuth 1998, "The art of computer
    programming", volume 3, algorithm 5.2.2M. Rows that are compared in one
    stage are all different; there are about `log2(n)**2 / 2` stages.

    `(partners, keeps_smaller)` of shape `(num_stages, n)`: the row that a row
    is compared with (itself if with none), int32; and whether it becomes the
    smaller of the two.
    """
    partners, keeps_smaller = [], []
    largest = 1 << ((num_rows - 1).bit_length() - 1)
    merged = largest
    while merged:
        step, bits, distance = largest, 0, merged
        while True:
            partner = np.arange(num_rows, dtype=np.int32)
            low = partner[: num_rows - distance]
            low = low[low & merged == bits]
            partner[low], partner[low + distance] = low + distance, low
            partners.append(partner)
            keeps_smaller.append(partner >= np.arange(num_rows))
            if step == merged:
                break
            step, bits, distance = step // 2, merged, step - merged
        merged //= 2
    return np.stack(partners), np.stack(keeps_smaller)


def _sort_pieces(stack):
    num_rows, num_columns = stack.shape
    partners, keeps_smaller = map(ops.convert_to_tensor, stages(num_rows))
    width = min(_COLUMNS_AT_ONCE, num_columns)

    def stage(number, rows):
        others = ops.take(rows, partners[number], axis=0)
        return ops.where(
            keeps_smaller[number][:, None],
            ops.minimum(rows, others),
            ops.maximum(rows, others),
        )

    def sort_piece(number, found):
        # The last piece goes over some columns once more, to be as wide.
        start = ops.minimum(number * width, num_columns - width)
        rows = ops.slice(stack, (0, start), (num_rows, width))
        rows = backend.loop(partners.shape[0], stage, rows)
        return ops.slice_update(found, (0, start), rows)

    return backend.loop(
        -(-num_columns // width), sort_piece, ops.zeros_like(stack)
    )


def _compiler() -> Callable | None:
    """What compiles with XLA, which makes one loop of a stage; or None."""
    if backend.name == "jax":
        return backend.jit
    if backend.name == "tensorflow":
        import tensorflow as tf

        if tf.test.is_built_with_xla():
            return functools.partial(
                tf.function, jit_compile=True, autograph=False
            )
    return None
