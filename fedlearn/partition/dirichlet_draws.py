"""Draws from Dirichlet and gamma distributions, alike on every machine."""

import numpy as np

from fedlearn import portable_math, seeds


def dirichlet_draws(
    concentration: np.ndarray, size: int, *key: seeds.Key
) -> np.ndarray:
    """Draws from one Dirichlet distribution, `(size, labels)`.

    Gamma draws divided by their sum, which are kept as logarithms: for alpha
    0.001 the gammas themselves are mostly 0 in float64.
    """
    shape = np.broadcast_to(concentration, (size, len(concentration)))
    logs = log_gamma_draws(shape.reshape(-1), *key).reshape(shape.shape)
    gammas = portable_math.exp(logs - logs.max(axis=1, keepdims=True))
    # Adds from left to right, where `sum` groups as the machine likes.
    return gammas / np.cumsum(gammas, axis=1)[:, -1:]


def log_gamma_draws(shape: np.ndarray, *key: seeds.Key) -> np.ndarray:
    """Logarithms of gamma draws with these shape parameters and scale 1.

    Marsaglia and Tsang 2000, "A simple method for generating gamma
    variables". Drawn for `shape + 1`, which the method needs above 1, and
    brought down by `Gamma(a) = Gamma(a + 1) * U ** (1 / a)`.
    """
    log = portable_math.log
    d = shape + (1 - 1 / 3)
    c = 1 / np.sqrt(9 * d)
    logs = np.empty(len(shape))
    open_ = np.arange(len(shape))
    attempt = 0
    while len(open_):
        u = 1 - seeds.uniform(3 * len(open_), *key, "gamma", attempt)
        first, second, accept = u.reshape(3, -1)
        normal = portable_math.normals(first, second)
        root = 1 + c[open_] * normal
        cube = root * root * root
        positive = cube > 0
        log_cube = log(np.where(positive, cube, 1))
        bound = 0.5 * normal * normal + d[open_] * (1 - cube + log_cube)
        good = positive & (log(accept) < bound)
        done = open_[good]
        logs[done] = log(d[done]) + log_cube[good]
        open_ = open_[~good]
        attempt += 1
    boost = 1 - seeds.uniform(len(shape), *key, "boost")
    return logs + log(boost) / shape
