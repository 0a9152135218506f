"""Made-up classification, whose clients differ as much as one likes.

clients   Made up: each has its own linear model and its own points.
x         float32 (n, 60)
y         int64 (n,), 0 to 9
licence   None: drawn by this library.
cite      Li, Sahu, Zaheer, Sanjabi, Talwalkar and Smith, 'Federated
          optimization in heterogeneous networks', MLSys 2020,
          arXiv:1812.06127, section 5.1 and appendix C.1.
"""

from typing import Any

import numpy as np

from fedlearn import checks, portable_math, seeds
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.datasets.task import Task

__all__ = ["FILES", "load_data", "task"]
__dir__ = __all__.copy  # `dir` shows what is public

_FEATURES = 60
_CLASSES = 10

FILES = ()


def load_data(
    alpha: float = 1.0,
    beta: float = 1.0,
    num_clients: int = 30,
    iid: bool = False,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> tuple[FederatedDataset, FederatedDataset]:
    """Synthetic(alpha, beta) of Li et al. 2020, the FedProx paper.

    Each client has its own linear model and its own cloud of points:

    - labels: `y = argmax(W_k x + b_k)`, where the elements of `W_k` and
      `b_k` are drawn from `N(u_k, 1)`, and `u_k` from `N(0, alpha)`;
    - points: `x ~ N(v_k, S)` with diagonal `S_jj = j ** -1.2`, where the
      elements of `v_k` are drawn from `N(B_k, 1)`, and `B_k` from
      `N(0, beta)`;
    - sizes: 50 more than a log-normal number, rounded down, whose logarithm
      has mean 4 and standard deviation 2. The paper says "a power law"; this
      is what its code draws.

    `alpha` says how much the clients' models differ and `beta` how much
    their points do; even at `(0, 0)` clients are not alike, since `W_k` and
    `v_k` are still drawn anew. They are standard deviations, as in the
    authors' code. With `iid`, all share one `W`, `b` (elements from
    `N(0, 1)`) and `v = 0`.

    `x` has shape `(n, 60)` and dtype `float32`; `y` has shape `(n,)` and
    dtype `int64`, 0 to 9. Drawn by `fedlearn.seeds`, with the same bits
    everywhere; the authors' own draws are others.

    Args:
        alpha: Standard deviation of `u_k`, 0 or more.
        beta: Standard deviation of `B_k`, 0 or more.
        num_clients: Number of clients, 1 or more.
        iid: Whether all clients draw from one distribution.
        test_fraction: Part of each client's examples that is for testing.
        seed: An integer.

    Returns:
        `(train, test)`, two data sets of the same clients.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> train, test = load_data(alpha=0.5, beta=0.5, num_clients=12)
    >>> len(train), train["03"][0].shape[1]
    (12, 60)
    >>> min(train.num_examples(i) + test.num_examples(i) for i in train) >= 50
    True
    """
    checks.number("alpha", alpha)
    checks.number("beta", beta)
    num_clients = checks.whole("num_clients", num_clients)
    checks.fraction("test_fraction", test_fraction, one=False)
    key = (seed, "synthetic")
    logs = 4 + 2 * seeds.normal(num_clients, *key, "sizes")
    sizes = 50 + np.floor(portable_math.exp(logs)).astype(np.int64)
    model_means = alpha * seeds.normal(num_clients, *key, "u")
    point_means = beta * seeds.normal(num_clients, *key, "B")
    j = np.arange(1, _FEATURES + 1, dtype=np.float64)
    deviations = portable_math.exp(-0.6 * portable_math.log(j))
    width = len(str(num_clients - 1))
    num_weights = (_FEATURES + 1) * _CLASSES
    clients = {}
    for k in range(num_clients):
        if iid:
            model = seeds.normal(num_weights, *key, "model")
            centre = np.zeros(_FEATURES)
        else:
            model = seeds.normal(num_weights, *key, "model", k) + model_means[k]
            centre = seeds.normal(_FEATURES, *key, "v", k) + point_means[k]
        normal = seeds.normal(int(sizes[k]) * _FEATURES, *key, "x", k)
        points = centre + deviations * normal.reshape(-1, _FEATURES)
        x = points.astype(np.float32)
        clients[f"{k:0{width}d}"] = x, _labels(x, model.reshape(-1, _CLASSES))
    data = FederatedDataset.from_clients(clients)
    return data.split_examples(1 - test_fraction, seed)


def _labels(x: np.ndarray, model: np.ndarray) -> np.ndarray:
    """The class of the largest of `x W + b`; `b` is the model's last row."""
    scores = np.tile(model[-1], (len(x), 1))
    # Feature by feature: a matrix product adds in an order that depends on
    # the machine, and where two classes nearly tie a last bit decides.
    for column, weights in zip(x.T.astype(np.float64), model, strict=False):
        scores += column[:, None] * weights
    return scores.argmax(axis=1).astype(np.int64)


def task(**arguments: Any) -> Task:
    """The class of a point; arguments as of `load_data`.

    The batch size is published; the learning rate isn't: Li et al. 2020 take
    0.01, for 20 epochs a round.
    """
    train, test = load_data(**arguments)
    sizes = {"input_shape": (_FEATURES,), "num_classes": _CLASSES}
    return Task(train, test, "logistic_regression", sizes)
