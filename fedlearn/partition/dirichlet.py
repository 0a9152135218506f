"""A random mix of labels for each client."""

from typing import Any

import numpy as np

from fedlearn import checks
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.partition.dirichlet_draws import dirichlet_draws
from fedlearn.partition.pool import Pool, deal

# A draw that leaves a client short is thrown away; after so many the
# arguments are at fault.
_MAX_DRAWS = 100


def dirichlet(
    x: Any,
    y: Any,
    num_clients: int,
    alpha: float,
    min_examples: int = 1,
    seed: int = 0,
) -> FederatedDataset:
    """Gives each client a mix of labels drawn from a Dirichlet distribution.

    After Hsu et al. 2019, "Measuring the effects of non-identical data
    distribution for federated visual classification",
    https://arxiv.org/abs/1909.06335: client k draws its mix of labels
    `q_k ~ Dir(a_1, ..., a_L)`, where `a_c = alpha * L * p_c` and `p_c` is the
    share of label c in all data. With balanced labels this is the symmetric
    `Dir(alpha)`. (The paper's `alpha` is `alpha * L`.) A large `alpha` makes
    clients alike; near 0 each has one label.

    So that every example is used once, label c is then cut in parts
    proportional to `q_1c, ..., q_Kc`: clients come out with about the mix they
    drew, and sizes that vary the more the smaller `alpha` is.

    Args:
        x, y, num_clients, seed: See `fl.partition`, also for errors.
        alpha: Concentration, above 0.
        min_examples: What each client has at least. A draw that leaves one
            with fewer is made again, up to 100 times.

    Raises:
        ValueError: If `alpha` is not positive, or no draw gave every client
            `min_examples`.

    Example:

    >>> import numpy as np
    >>> y = np.repeat(np.arange(4), 25)
    >>> ds = dirichlet(np.zeros((100, 2)), y, num_clients=5, alpha=0.5)
    >>> sum(ds.num_examples(i) for i in ds.client_ids)
    100
    """
    pool = Pool(x, y, num_clients, "dirichlet")
    labels = pool.labels()
    alpha = checks.positive("alpha", alpha)
    pool.check_room(min_examples)
    order = pool.order(seed, labels)
    counts = np.unique(labels, return_counts=True)[1]
    concentration = alpha * counts * (len(counts) / pool.total)
    best = 0
    for draw in range(_MAX_DRAWS):
        mixes = dirichlet_draws(
            concentration, num_clients, seed, "dirichlet", "mixes", draw
        )
        cuts, owners = _cuts_by_mix(mixes, counts)
        codes = deal(order, cuts, owners)
        fewest = int(np.bincount(codes, minlength=num_clients).min())
        if fewest >= min_examples:
            return pool.dealt(codes)
        best = max(best, fewest)
    raise ValueError(
        f"dirichlet: in {_MAX_DRAWS} draws there was always a client with "
        f"fewer than min_examples={min_examples} of the {pool.total:,} "
        f"examples (at best {best}). Raise alpha ({alpha}), or lower "
        f"num_clients ({num_clients}) or min_examples."
    )


def _cuts_by_mix(
    mixes: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts of the examples sorted by label, and whose each piece is."""
    num_clients = len(mixes)
    bounds = np.cumsum(mixes, axis=0)
    # With tiny alphas a label may have no weight at any client.
    weights = bounds[-1]
    even = np.arange(1, num_clients + 1) / num_clients
    shares = np.where(
        weights > 0, bounds / np.where(weights > 0, weights, 1), even[:, None]
    )
    ends = np.floor(shares * counts + 0.5).astype(np.int64)
    ends[-1] = counts
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    cuts = np.concatenate([[0], (ends + starts).T.reshape(-1)])
    return cuts, np.tile(np.arange(num_clients), len(counts))
