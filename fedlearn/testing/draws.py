"""Values and seeds for the batteries: the same numbers on every run."""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import seeds
from fedlearn.encoders.encoder import Spec

# Of several variables, with numbers of elements that are no powers of two.
DEFAULT_SPEC = (
    keras.KerasTensor((5, 3), "float32"),
    keras.KerasTensor((7,), "float32"),
    keras.KerasTensor((), "float32"),
)


def value(spec: Spec, client: int = 0, scale: float = 1.0) -> list[np.ndarray]:
    """A client's normal numbers, times `scale`, on the host."""
    sizes = [math.prod(s.shape) for s in spec]
    numbers = scale * seeds.normal(sum(sizes), "battery", "value", client)
    arrays = np.split(numbers, np.cumsum(sizes)[:-1])
    return [
        a.reshape(s.shape).astype(_numpy_dtype(s.dtype))
        for a, s in zip(arrays, spec, strict=True)
    ]


def _numpy_dtype(name: str) -> Any:
    # Of bfloat16, too.
    return np.asarray(ops.convert_to_numpy(ops.zeros((), name))).dtype


def words(*key: seeds.Key) -> np.ndarray:
    """A seed as encoders get it, int32 of shape `(2,)`."""
    return seeds.bits(1, "battery", "seed", *key).view(np.int32)


def generator() -> np.random.Generator:
    """The server's randomness."""
    return seeds.generator("battery", "server")


@contextmanager
def other_global_seeds() -> Iterator[None]:
    """Other global seeds for a while; nothing may depend on them."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    keras.random.uniform(())  # moves Keras's own on
    np.random.seed(1)
    random.seed(1)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
