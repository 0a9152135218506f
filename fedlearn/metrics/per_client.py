import math
from collections.abc import Mapping

import numpy as np

# Up to so many clients are known by name, as hospitals are: `fit` keeps the
# validation of each, and pictures show them one by one.
FEW = 20

DECILES = tuple(f"decile_{i}" for i in range(1, 10))


def statistics(
    per_client: Mapping[str, Mapping[str, float]],
) -> dict[str, dict[str, float]]:
    """Statistics of each metric over clients, each client counting once.

    Args:
        per_client: Each client's metrics, with its `num_examples`. Clients
            without examples are left out.

    Returns:
        For each metric a dict with `mean`, `std` (of the population, not of a
        sample), `min`, `decile_1` to `decile_9` (linearly interpolated, so
        `decile_5` is the median), `max`, and `lowest_tenth` and
        `highest_tenth`, the means over that tenth of the clients, rounded up:
        the worst tenth by accuracy and by loss.

    Example:

    >>> stats = statistics({
    ...     "a": {"accuracy": 0.5, "num_examples": 10},
    ...     "b": {"accuracy": 1.0, "num_examples": 3},
    ... })
    >>> stats["accuracy"]["mean"], stats["accuracy"]["min"]
    (0.75, 0.5)
    """
    clients = [m for m in per_client.values() if m["num_examples"]]
    if not clients:
        return {}
    result = {}
    for name in clients[0]:
        if name == "num_examples":
            continue
        values = np.array([m[name] for m in clients], np.float64)
        deciles = np.quantile(values, np.arange(1, 10) / 10)
        values.sort()
        tenth = math.ceil(len(values) / 10)
        result[name] = {
            "mean": float(values.mean()),
            "std": float(values.std()),
            "min": float(values.min()),
            **dict(zip(DECILES, map(float, deciles), strict=True)),
            "max": float(values.max()),
            "lowest_tenth": float(values[:tenth].mean()),
            "highest_tenth": float(values[-tenth:].mean()),
        }
    return result
