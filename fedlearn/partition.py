"""A pooled data set divided among clients.

Each function gives every example to exactly one client, and returns a
`FederatedDataset` whose ids are numbers with leading zeros, so that they sort
("00" to "49"). A client's examples keep the order of the pooled arrays. The
random draws come from `fedlearn.seeds`: the same seed divides alike wherever
it is run.
"""

from typing import Any

import numpy as np

from fedlearn import seeds
from fedlearn.data import element as el
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.data.sources import group_rows

# A draw of `dirichlet` that leaves a client short is thrown away; after so
# many the arguments are at fault.
_MAX_DRAWS = 100


def _pooled(x: Any, y: Any, num_clients: int, name: str) -> tuple[Any, int]:
    element = el.as_element((x, y), name)
    total = el.num_examples(element)
    if num_clients < 1:
        raise ValueError(
            f"{name}: num_clients is {num_clients!r}. Expected at least 1."
        )
    if num_clients > total:
        raise ValueError(
            f"{name}: num_clients is {num_clients:,}, but there are only "
            f"{total:,} examples. Expected at most one client an example."
        )
    return element, total


def _labels(y: Any, name: str) -> np.ndarray:
    """One label an example, as a 1-D array."""
    if not isinstance(y, np.ndarray):
        raise ValueError(
            f"{name}: y is a {type(y).__name__} of arrays. Expected one "
            "array of labels."
        )
    if y.shape[1:] not in ((), (1,)):
        hint = ""
        if y.ndim == 2:
            hint = (
                " One-hot labels can be turned into class numbers with "
                "y.argmax(axis=1)."
            )
        raise ValueError(
            f"{name}: y has shape {y.shape}. Expected one label an example, "
            f"shape ({len(y)},).{hint}"
        )
    labels = y.reshape(-1)
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        raise ValueError(
            f"{name}: y holds fractions or NaN. Expected class labels."
        )
    return labels


def _clients(
    element: Any, codes: np.ndarray, num_clients: int
) -> FederatedDataset:
    width = len(str(num_clients - 1))
    ids = tuple(f"{k:0{width}d}" for k in range(num_clients))
    return FederatedDataset(group_rows(element, codes, ids))


def _deal(
    order: np.ndarray, cuts: np.ndarray, owners: np.ndarray
) -> np.ndarray:
    """The owner of each example, where piece i of `order` has `owners[i]`."""
    codes = np.empty(len(order), np.int64)
    codes[order] = np.repeat(owners, np.diff(cuts))
    return codes


def _even_cuts(total: int, pieces: int) -> np.ndarray:
    return np.arange(pieces + 1) * total // pieces


def iid(x: Any, y: Any, num_clients: int, seed: int = 0) -> FederatedDataset:
    """Deals the examples at random, to all the same number up to one.

    The IID split of McMahan et al. 2017, section 3,
    https://arxiv.org/abs/1602.05629.

    Args:
        x: `(examples, ...)` array, or a dict, tuple or list of them.
        y: The same.
        num_clients: At most the number of examples.
        seed: An integer.

    Raises:
        ValueError: If there are more clients than examples.

    Example:

    >>> import numpy as np
    >>> ds = iid(np.zeros((10, 2)), np.arange(10), num_clients=3)
    >>> [ds.num_examples(i) for i in ds.client_ids]
    [3, 3, 4]
    """
    element, total = _pooled(x, y, num_clients, "iid")
    order = seeds.permutation(total, seed, "iid")
    cuts = _even_cuts(total, num_clients)
    codes = _deal(order, cuts, np.arange(num_clients))
    return _clients(element, codes, num_clients)


def shards(
    x: Any,
    y: Any,
    num_clients: int,
    shards_per_client: int = 2,
    seed: int = 0,
) -> FederatedDataset:
    """Sorts by label, cuts into shards, and deals each client some of them.

    The "pathological" non-IID split of McMahan et al. 2017, section 3,
    https://arxiv.org/abs/1602.05629: with two shards most clients see two
    labels. Examples of one label are in random order before the cut; shards
    are of the same size up to one example.

    Args:
        x: `(examples, ...)` array, or a dict, tuple or list of them.
        y: `(examples,)` labels; `(examples, 1)` will do.
        num_clients: Number of clients.
        shards_per_client: How many shards each gets.
        seed: An integer.

    Raises:
        ValueError: If there are more shards than examples, or `y` holds no
            single labels.

    Example:

    >>> import numpy as np
    >>> y = np.repeat(np.arange(4), 10)
    >>> ds = shards(np.zeros((40, 2)), y, num_clients=2, shards_per_client=2)
    >>> [len(np.unique(ds[i][1])) for i in ds.client_ids]
    [2, 2]
    """
    element, total = _pooled(x, y, num_clients, "shards")
    labels = _labels(element[1], "shards")
    pieces = num_clients * shards_per_client
    if shards_per_client < 1 or pieces > total:
        raise ValueError(
            f"shards: {num_clients:,} clients with {shards_per_client!r} "
            f"shards each need {pieces:,} shards, but there are {total:,} "
            "examples. Expected at least one shard a client and one example "
            "a shard."
        )
    order = seeds.permutation(total, seed, "shards", "examples")
    order = order[np.argsort(labels[order], kind="stable")]
    dealt = seeds.permutation(pieces, seed, "shards", "deal")
    owners = np.empty(pieces, np.int64)
    owners[dealt] = np.repeat(np.arange(num_clients), shards_per_client)
    codes = _deal(order, _even_cuts(total, pieces), owners)
    return _clients(element, codes, num_clients)


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
    `Dir(alpha)`. (Written as the paper does, `Dir(alpha' * p)`, its
    `alpha'` is `alpha * L`.) A large `alpha` makes clients alike; near 0 each
    has one label.

    So that every example is used once, label c is then cut in parts
    proportional to `q_1c, ..., q_Kc`. Since the `q_k` add up to about `K * p`,
    clients come out with about the mix they drew, and sizes that vary around
    `examples / num_clients`, the more the smaller `alpha` is.

    Args:
        x: `(examples, ...)` array, or a dict, tuple or list of them.
        y: `(examples,)` labels; `(examples, 1)` will do.
        num_clients: Number of clients.
        alpha: Concentration, above 0.
        min_examples: What each client has at least. A draw that leaves one
            with fewer is made again, up to 100 times.
        seed: An integer.

    Raises:
        ValueError: If `alpha` is not positive, `y` holds no single labels, or
            no draw gave every client `min_examples`.

    Example:

    >>> import numpy as np
    >>> y = np.repeat(np.arange(4), 25)
    >>> ds = dirichlet(np.zeros((100, 2)), y, num_clients=5, alpha=0.5)
    >>> sum(ds.num_examples(i) for i in ds.client_ids)
    100
    """
    element, total = _pooled(x, y, num_clients, "dirichlet")
    labels = _labels(element[1], "dirichlet")
    if not 0 < alpha < np.inf:
        raise ValueError(f"alpha is {alpha!r}. Expected a number above 0.")
    if min_examples < 0 or min_examples * num_clients > total:
        raise ValueError(
            f"dirichlet: {num_clients:,} clients with at least "
            f"{min_examples!r} examples each need "
            f"{min_examples * num_clients:,}, but there are {total:,}. Lower "
            "num_clients or min_examples."
        )
    order = seeds.permutation(total, seed, "dirichlet", "examples")
    order = order[np.argsort(labels[order], kind="stable")]
    counts = np.unique(labels, return_counts=True)[1]
    concentration = alpha * counts * (len(counts) / total)
    best = 0
    for draw in range(_MAX_DRAWS):
        mixes = _dirichlet_draws(
            concentration, num_clients, seed, "dirichlet", "mixes", draw
        )
        cuts, owners = _cuts_by_mix(mixes, counts)
        codes = _deal(order, cuts, owners)
        fewest = int(np.bincount(codes, minlength=num_clients).min())
        if fewest >= min_examples:
            return _clients(element, codes, num_clients)
        best = max(best, fewest)
    raise ValueError(
        f"dirichlet: in {_MAX_DRAWS} draws there was always a client with "
        f"fewer than min_examples={min_examples} of the {total:,} examples "
        f"(at best {best}). Raise alpha ({alpha}), or lower num_clients "
        f"({num_clients}) or min_examples."
    )


def _cuts_by_mix(
    mixes: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts of the examples sorted by label, and whose each piece is.

    Args:
        mixes: `(clients, labels)`; rows add up to 1.
        counts: `(labels,)` examples of each label.
    """
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


def _dirichlet_draws(
    concentration: np.ndarray, size: int, *key: seeds.Key
) -> np.ndarray:
    """`(size, labels)` draws; rows add up to 1.

    A Dirichlet draw is independent gamma draws divided by their sum. They are
    kept as logarithms: for alpha 0.001 the gammas themselves are mostly 0 in
    float64.
    """
    shape = np.broadcast_to(concentration, (size, len(concentration)))
    logs = _log_gamma_draws(shape.reshape(-1), *key).reshape(shape.shape)
    gammas = np.exp(logs - logs.max(axis=1, keepdims=True))
    return gammas / gammas.sum(axis=1, keepdims=True)


def _log_gamma_draws(shape: np.ndarray, *key: seeds.Key) -> np.ndarray:
    """Logarithms of gamma draws with these shape parameters and scale 1.

    Marsaglia and Tsang 2000, "A simple method for generating gamma
    variables". Drawn for `shape + 1`, which the method needs above 1, and
    brought down by `Gamma(a) = Gamma(a + 1) * U ** (1 / a)`.
    """
    d = shape + (1 - 1 / 3)
    c = 1 / np.sqrt(9 * d)
    logs = np.empty(len(shape))
    open_ = np.arange(len(shape))
    attempt = 0
    while len(open_):
        u = 1 - seeds.uniform(3 * len(open_), *key, "gamma", attempt)
        first, second, accept = u.reshape(3, -1)
        normal = np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second)
        cube = (1 + c[open_] * normal) ** 3
        positive = cube > 0
        log_cube = np.log(np.where(positive, cube, 1))
        bound = 0.5 * normal**2 + d[open_] * (1 - cube + log_cube)
        good = positive & (np.log(accept) < bound)
        done = open_[good]
        logs[done] = np.log(d[done]) + log_cube[good]
        open_ = open_[~good]
        attempt += 1
    boost = 1 - seeds.uniform(len(shape), *key, "boost")
    return logs + np.log(boost) / shape
