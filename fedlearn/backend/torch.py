"""PyTorch: eager, one client after another.

Enough for the same user code to run; no compilation and no vectorising.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import torch

LOOPS_IN_GRAPH = False
CAN_VMAP = False
ASSIGNS_IN_PLACE = True


def jit(
    fn: Callable, free: Sequence[int] = (), loose: Sequence[int] = ()
) -> Callable:
    del free, loose

    def call(*args):
        with torch.no_grad():
            return fn(*args)

    return call


def value_and_grad(fn: Callable) -> Callable:
    def call(params, *args):
        with torch.enable_grad():
            params = [p.detach().requires_grad_(True) for p in params]
            loss, aux = fn(params, *args)
            grads = torch.autograd.grad(loss, params, allow_unused=True)
        grads = [
            torch.zeros_like(p) if g is None else g
            for p, g in zip(params, grads, strict=True)
        ]
        detach = lambda t: t.detach() if torch.is_tensor(t) else t  # noqa: E731
        return (loss.detach(), keras.tree.map_structure(detach, aux)), grads

    return call


def loop(num_steps, body: Callable[[Any, Any], Any], carry: Any) -> Any:
    for step in range(int(num_steps)):
        carry = body(step, carry)
    return carry


def vmap(fn: Callable) -> Callable:
    raise RuntimeError(
        "The vectorized executor isn't available on PyTorch; "
        "use executor='sequential'."
    )


def random_uniform(seed: Any, shape: Sequence[int]) -> Any:
    low, high = (int(word) & 0xFFFFFFFF for word in seed)
    generator = torch.Generator().manual_seed((high << 32 | low) - (1 << 63))
    numbers = torch.rand(tuple(shape), generator=generator)
    return keras.ops.convert_to_tensor(numbers)


def random_dither(seed: Any, shape: Sequence[int]) -> Any:
    return torch.floor(random_uniform(seed, shape) * 2**16) / 2**16


def sum_of_squares(array: Any) -> Any:
    return torch.sum(torch.square(array))


def to_numpy(tree: Any) -> Any:
    return keras.tree.map_structure(
        lambda leaf: (
            leaf.detach().cpu().numpy() if torch.is_tensor(leaf) else leaf
        ),
        tree,
    )
