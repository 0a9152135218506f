"""All clients alike but for how many examples they have."""

from typing import Any

import numpy as np

from fedlearn import checks, portable_math, seeds
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.partition.pool import Pool, deal


def by_size(
    x: Any,
    y: Any,
    num_clients: int,
    distribution: str = "power_law",
    shape: float = 2.0,
    min_examples: int = 1,
    seed: int = 0,
) -> FederatedDataset:
    """Deals the examples at random, few to many clients and many to a few.

    Labels are IID; only sizes differ ("quantity skew"). Each client draws a
    weight `w_k`, and of the examples beyond `min_examples` for everyone it
    gets the share `w_k / (w_1 + ... + w_K)`, rounded so that all are used:

    - `"power_law"`: `w = U ** (-1 / (shape - 1))` with `U` uniform, whose
      density falls as `w ** -shape`. A power law of sizes is what Li et al.
      2020, https://arxiv.org/abs/1812.06127, section 5.1, divide MNIST and
      FEMNIST by.
    - `"log_normal"`: `w = exp(shape * Z)` with `Z` standard normal. The same
      authors' code draws sizes so, with a deviation of 2.

    Args:
        x, y, num_clients, seed: See `fl.partition`, also for errors.
        distribution: `"power_law"` or `"log_normal"`.
        shape: The exponent of the power law, above 1: the larger, the more
            alike the sizes. Or the standard deviation of the logarithms, at
            least 0: the smaller, the more alike.
        min_examples: What each client has at least.

    Raises:
        ValueError: If the examples don't suffice for `min_examples`, or
            `distribution` or `shape` is none of these.

    Example:

    >>> import numpy as np
    >>> ds = by_size(np.zeros((1000, 2)), np.zeros(1000), num_clients=5)
    >>> sorted(ds.num_examples(i) for i in ds)
    [33, 33, 43, 43, 848]
    """
    pool = Pool(x, y, num_clients, "by_size")
    pool.check_room(min_examples)
    key = (seed, "by_size", distribution)
    bounds = np.cumsum(_weights(num_clients, distribution, shape, key))
    spare = pool.total - min_examples * num_clients
    ends = np.floor(bounds / bounds[-1] * spare + 0.5).astype(np.int64)
    ends += min_examples * np.arange(1, num_clients + 1)
    cuts = np.concatenate([[0], ends])
    return pool.dealt(deal(pool.order(seed), cuts, range(num_clients)))


def _weights(
    size: int, distribution: str, shape: float, key: tuple[seeds.Key, ...]
) -> np.ndarray:
    checks.one_of("distribution", distribution, ("power_law", "log_normal"))
    if distribution == "power_law":
        if not 1 < shape < np.inf:
            raise ValueError(
                f"by_size: shape is {shape!r}. Expected the exponent of a "
                "power law, above 1."
            )
        logs = -portable_math.log(1 - seeds.uniform(size, *key)) / (shape - 1)
    else:
        meaning = "the standard deviation of a log-normal distribution"
        checks.number("shape", shape, meaning=meaning)
        logs = shape * seeds.normal(size, *key)
    # Only shares count; the largest weight is 1, so none overflows.
    return portable_math.exp(logs - logs.max())
