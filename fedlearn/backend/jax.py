"""JAX: everything is traced, and every new shape is a new compilation."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from fedlearn.backend.compile_clock import clock

LOOPS_IN_GRAPH = False
ASSIGNS_IN_PLACE = False


def _on_duration(event: str, duration_secs: float, **_: Any) -> None:
    # Tracing is timed by the clock itself; lowering and XLA are told here.
    if event.startswith("/jax/core/compile/") and "trace" not in event:
        clock.add(duration_secs)


jax.monitoring.register_event_duration_secs_listener(_on_duration)


def jit(
    fn: Callable, free: Sequence[int] = (), loose: Sequence[int] = ()
) -> Callable:
    del free, loose  # XLA compiles another length anew
    return jax.jit(clock.traces(fn))


def value_and_grad(fn: Callable) -> Callable:
    return jax.value_and_grad(fn, has_aux=True)


def loop(num_steps, body: Callable[[Any, Any], Any], carry: Any) -> Any:
    return jax.lax.fori_loop(0, num_steps, body, carry)


def vmap(fn: Callable) -> Callable:
    return jax.vmap(fn)


def where_rows(mask: Any, new: Any, old: Any) -> Any:
    def chosen(new, old):
        rows = mask.reshape((-1,) + (1,) * (new.ndim - 1))
        return jax.numpy.where(rows, new, old)

    return jax.tree_util.tree_map(chosen, new, old)


def _key(seed: Any) -> Any:
    words = jax.numpy.asarray(seed).astype("uint32")
    return jax.random.wrap_key_data(words, impl="threefry2x32")


def random_uniform(seed: Any, shape: Sequence[int]) -> Any:
    return jax.random.uniform(_key(seed), shape, "float32")


def random_dither(seed: Any, shape: Sequence[int]) -> Any:
    bits = jax.random.bits(_key(seed), shape, "uint16")
    return bits.astype("float32") * np.float32(2.0**-16)


def sum_of_squares(array: Any) -> Any:
    return jax.numpy.sum(jax.numpy.square(array))


def float64() -> Any:
    return jax.enable_x64(True)


def num_threads() -> int | None:
    return int(os.environ.get("NPROC", 0)) or None


def to_numpy(tree: Any) -> Any:
    # One transfer for all leaves: fetching them singly waits for each.
    return jax.tree_util.tree_map(
        lambda leaf: np.asarray(leaf), jax.device_get(tree)
    )


def stack(trees: Sequence[Any]) -> Any:
    return jax.tree_util.tree_map(lambda *leaves: np.stack(leaves), *trees)


def rows(tree: Any, count: int) -> list[Any]:
    # Slices of NumPy take a hundredth of the time of those of JAX. Copies: one
    # that is kept would keep all the others.
    tree = to_numpy(tree)
    return [
        jax.tree_util.tree_map(lambda a, k=k: np.array(a[k]), tree)
        for k in range(count)
    ]
