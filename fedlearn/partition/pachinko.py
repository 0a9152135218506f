"""A random mix of labels, and of their kinds, for each client."""

from typing import Any

import numpy as np

from fedlearn import checks, portable_math, seeds
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.partition.dirichlet_draws import log_gamma_draws
from fedlearn.partition.pool import Pool, deal, even_cuts, labels_of


def pachinko(
    x: Any,
    y: Any,
    num_clients: int,
    coarse_labels: Any,
    examples_per_client: int | None = None,
    alpha: float = 0.1,
    beta: float = 10.0,
    seed: int = 0,
) -> FederatedDataset:
    """Gives each client a mix of coarse labels, and one of labels in each.

    The Pachinko allocation of Li and McCallum 2006 as Reddi et al. 2021,
    "Adaptive federated optimization", https://arxiv.org/abs/2003.00295, use
    it to divide CIFAR-100: client k draws its mix of the coarse labels from
    the symmetric `Dir(alpha)`, and for each coarse label a mix of the labels
    under it from `Dir(beta)`. Each of its examples is then drawn by way of a
    coarse label and a label, without replacement. A label all of whose
    examples are taken drops out, and its share goes to the others in
    proportion: first to those under the same coarse label.

    With their `alpha=0.1` and `beta=10`, a client has few coarse labels, and
    of each all labels about equally often. Clients that come late take what
    is left.

    Args:
        x, y, num_clients, seed: See `fl.partition`, also for errors.
        coarse_labels: The coarse label of each example, an array like `y`.
        examples_per_client: How many examples each client gets; what is left
            over is in no client. None uses all, the same number for all up
            to one.
        alpha: Concentration of the coarse labels, above 0.
        beta: Concentration of the labels under a coarse one, above 0.

    Raises:
        ValueError: If `alpha` or `beta` is not positive, there are too few
            examples, or a label lies under two coarse labels.

    Example:

    >>> import numpy as np
    >>> y = np.repeat(np.arange(20), 30)
    >>> ds = pachinko(np.zeros((600, 2)), y, 10, coarse_labels=y // 5)
    >>> {ds.num_examples(i) for i in ds}
    {60}
    """
    pool = Pool(x, y, num_clients, "pachinko")
    labels = pool.labels()
    alpha = checks.positive("alpha", alpha)
    beta = checks.positive("beta", beta)
    if examples_per_client is None:
        sizes = np.diff(even_cuts(pool.total, num_clients))
    else:
        checks.whole("examples_per_client", examples_per_client)
        pool.check_room(examples_per_client)
        sizes = np.full(num_clients, examples_per_client)
    names, codes = np.unique(labels, return_inverse=True)
    parents = _parents(names, codes, coarse_labels)

    left = np.bincount(codes)
    taken = np.empty((num_clients, len(names)), np.int64)
    for k, size in enumerate(sizes.tolist()):
        key = (seed, "pachinko", k)
        taken[k] = _draw_client(left, parents, size, alpha, beta, key)
        left = left - taken[k]
    # Examples of a label go in random order, client after client; what is
    # left then belongs to nobody.
    pieces = np.concatenate([taken, left[None]]).T
    owners = np.tile(np.arange(num_clients + 1), len(names))
    cuts = np.concatenate([[0], np.cumsum(pieces)])
    return pool.dealt(deal(pool.order(seed, codes), cuts, owners))


def _parents(
    names: np.ndarray, codes: np.ndarray, coarse_labels: Any
) -> np.ndarray:
    """The number of the coarse label over each label in `names`."""
    coarse = labels_of(np.asarray(coarse_labels), "pachinko, coarse_labels")
    if len(coarse) != len(codes):
        raise ValueError(
            f"pachinko: coarse_labels has {len(coarse):,} entries, but y has "
            f"{len(codes):,}. Expected one for each example."
        )
    coarse_names, coarse_codes = np.unique(coarse, return_inverse=True)
    parents = np.zeros(len(names), np.int64)
    parents[codes] = coarse_codes
    torn = np.flatnonzero(parents[codes] != coarse_codes)
    if len(torn):
        label = codes[torn[0]]
        found = coarse_names[[coarse_codes[torn[0]], parents[label]]]
        one, other = sorted(found.tolist())
        raise ValueError(
            f"pachinko: label {names[label].item()!r} lies under the coarse "
            f"labels {one!r} and {other!r}. Expected each label under one."
        )
    return parents


def _draw_client(
    left: np.ndarray,
    parents: np.ndarray,
    size: int,
    alpha: float,
    beta: float,
    key: tuple[seeds.Key, ...],
) -> np.ndarray:
    """How many of the examples `left` of each label a client takes.

    The number of each coarse label is settled first. It is the same as
    drawing one example after the other: within a coarse label the labels are
    drawn without regard to the others.
    """
    num_coarse = int(parents.max()) + 1
    roots = log_gamma_draws(np.full(num_coarse, alpha), *key, "coarse")
    leaves = log_gamma_draws(np.full(len(left), beta), *key, "fine")
    room = np.zeros(num_coarse, np.int64)
    np.add.at(room, parents, left)
    taken = np.zeros(len(left), np.int64)
    by_coarse = _draw(roots, room, size, *key, "draw coarse")
    for coarse in np.flatnonzero(by_coarse):
        under = np.flatnonzero(parents == coarse)
        count, path = int(by_coarse[coarse]), (*key, "draw fine", int(coarse))
        taken[under] = _draw(leaves[under], left[under], count, *path)
    return taken


def _draw(
    logits: np.ndarray, room: np.ndarray, size: int, *key: seeds.Key
) -> np.ndarray:
    """How often each of `len(room)` things is drawn, at most `room` times.

    Draws of what is used up are thrown away and made again among the rest,
    which is what renormalising after each draw comes to.
    """
    counts = np.zeros(len(room), np.int64)
    attempt = 0
    while (missing := size - int(counts.sum())) > 0:
        live = np.flatnonzero(counts < room)
        # As logarithms, since all that are left may have weights that are 0
        # in float64 beside the largest.
        weights = portable_math.exp(logits[live] - logits[live].max())
        bounds = np.cumsum(weights)
        points = seeds.uniform(missing, *key, attempt) * bounds[-1]
        # A point can round up to the last bound, which is behind the end.
        hits = np.searchsorted(bounds[:-1], points, side="right")
        counts[live] += np.bincount(hits, minlength=len(live))
        counts = np.minimum(counts, room)
        attempt += 1
    return counts
