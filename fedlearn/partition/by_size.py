"""All clients alike but for how many examples they have."""

from typing import Any

import numpy as np

from fedlearn import portable_math, seeds
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.partition.division import clients, deal, pooled


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
        x: `(examples, ...)` array, or a dict, tuple or list of them.
        y: The same.
        num_clients: Number of clients.
        distribution: `"power_law"` or `"log_normal"`.
        shape: The exponent of the power law, above 1: the larger, the more
            alike the sizes. Or the standard deviation of the logarithms, at
            least 0: the smaller, the more alike.
        min_examples: What each client has at least.
        seed: An integer.

    Raises:
        ValueError: If the examples don't suffice for `min_examples`, or
            `distribution` or `shape` is none of these.

    Example:

    >>> import numpy as np
    >>> ds = by_size(np.zeros((1000, 2)), np.zeros(1000), num_clients=5)
    >>> sorted(ds.num_examples(i) for i in ds)
    [33, 33, 43, 43, 848]
    """
    element, total, class_names = pooled(x, y, num_clients, "by_size")
    if min_examples < 0 or min_examples * num_clients > total:
        raise ValueError(
            f"by_size: {num_clients:,} clients with at least "
            f"{min_examples!r} examples each need "
            f"{min_examples * num_clients:,}, but there are {total:,}. Lower "
            "num_clients or min_examples."
        )
    key = (seed, "by_size", distribution)
    bounds = np.cumsum(_weights(num_clients, distribution, shape, key))
    spare = total - min_examples * num_clients
    ends = np.floor(bounds / bounds[-1] * spare + 0.5).astype(np.int64)
    ends += min_examples * np.arange(1, num_clients + 1)
    order = seeds.permutation(total, seed, "by_size", "examples")
    cuts = np.concatenate([[0], ends])
    return clients(
        element,
        deal(order, cuts, np.arange(num_clients)),
        num_clients,
        class_names,
    )


def _weights(
    size: int, distribution: str, shape: float, key: tuple[seeds.Key, ...]
) -> np.ndarray:
    if distribution == "power_law":
        if not 1 < shape < np.inf:
            raise ValueError(
                f"by_size: shape is {shape!r}. Expected the exponent of a "
                "power law, above 1."
            )
        logs = -portable_math.log(1 - seeds.uniform(size, *key)) / (shape - 1)
    elif distribution == "log_normal":
        if not 0 <= shape < np.inf:
            raise ValueError(
                f"by_size: shape is {shape!r}. Expected the standard "
                "deviation of a log-normal distribution, 0 or more."
            )
        logs = shape * seeds.normal(size, *key)
    else:
        raise ValueError(
            f"by_size: distribution is {distribution!r}. Expected "
            "'power_law' or 'log_normal'."
        )
    # Only shares count; the largest weight is 1, so none overflows.
    return portable_math.exp(logs - logs.max())
