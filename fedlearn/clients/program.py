"""A client's round as pure functions, for executors to compile."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class ClientProgram(NamedTuple):
    """A client's round as pure functions, for executors to compile.

    A round at a client is `start`, then `step` for each of `batches`, then
    `finish`. Executors choose how: one client after another, many at once, in
    other processes.

    Attributes:
        batches: `(num_examples, seed) -> list of int32 arrays`: the positions
            of the examples of each step, on the host.
        start: `(broadcast, seed_words, client_state=()) -> carry`.
        step: `(broadcast, carry, batch) -> carry`.
        padded_step: `(broadcast, carry, batch, num_real) -> carry`: the same
            on a batch with copies of its first row at the end.
        can_pad: `data -> bool`: whether `padded_step` is known to equal `step`.
        finish: `(broadcast, carry, num_examples, seed_words, client_state)
            -> (summand, metrics, finite, kept)`. Executors leave a client
            that isn't finite out of the sums, and count it; `kept` they
            bring to the host for each client, see `Update.kept`.
        batch_size: The length of a full batch.
        keeps: Whether `finish` gives anything in `kept`; else it is `()`.
        stacked: Whether summands are stacked and not added.
        step_work: About how many multiplications the forward pass of a full
            batch takes.
        convolves: Whether a layer is a convolution.
        plain_layers: Whether all layers are Keras's own, and none recurrent,
            a Lambda, or one that changes images.
        pad_to: None where batches are full but for the last of an epoch. Else
            they have any length, also 0, as chance will have it, and this
            says to how many rows, `length -> rows`, one is filled up for
            `padded_step`, which is then exact. Clients of such a program run
            one after another.
    """

    batches: Callable[[int, int], list[np.ndarray]]
    start: Callable[..., Any]
    step: Callable[..., Any]
    padded_step: Callable[..., Any]
    can_pad: Callable[[tuple], bool]
    finish: Callable[..., Any]
    batch_size: int
    keeps: bool
    stacked: bool
    step_work: float
    convolves: bool
    plain_layers: bool
    pad_to: Callable[[int], int] | None = None


def seed_words(seed: int) -> np.ndarray:
    """A client's 64-bit seed as an int32 array of shape `(2,)`, for devices."""
    mask = 0x7FFFFFFF
    return np.array([seed & mask, (seed >> 32) & mask], np.int32)
