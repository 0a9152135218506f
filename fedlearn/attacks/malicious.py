from collections.abc import Iterable

from fedlearn import seeds


def choose(
    client_ids: Iterable[str], fraction: float, seed: int = 0
) -> tuple[str, ...]:
    """Some of the clients, all sets of that size equally likely.

    Args:
        client_ids: A `FederatedDataset`, or ids.
        fraction: Of the clients, rounded to a whole number of them.
        seed: An integer.

    Returns:
        Their ids, in the order of `client_ids`.

    Raises:
        ValueError: If `fraction` isn't in [0, 1].

    Example:

    >>> len(choose(["a", "b", "c", "d", "e"], 0.4))
    2
    """
    if not 0 <= fraction <= 1:
        raise ValueError(
            f"`fraction` must be between 0 and 1. Received: {fraction!r}."
        )
    ids = [str(i) for i in client_ids]
    count = int(fraction * len(ids) + 0.5)
    order = seeds.permutation(len(ids), seed, "malicious_clients")
    return tuple(ids[i] for i in sorted(order[:count].tolist()))
