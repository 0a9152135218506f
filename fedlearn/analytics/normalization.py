import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from fedlearn.analytics.moments import (
    Bounds,
    Moments,
    both_bounds,
    moments,
)
from fedlearn.analytics.query import Query, as_dataset
from fedlearn.analytics.query_privacy import QueryPrivacy
from fedlearn.data import element as el
from fedlearn.privacy.ledger import Ledger


def normalization(
    data: Any,
    bounds: Bounds | Mapping[str, Bounds] = None,
    privacy: QueryPrivacy | None = None,
    budget: Ledger | None = None,
) -> Any:
    """Layers that give inputs a mean of 0 and a variance of 1, over clients.

    Each is what `keras.layers.Normalization` becomes by `adapt` on pooled
    data: a mean and a variance for each position of the last axis.

    Args:
        data: The clients, of `(x, y)` or dicts of features; see `mean`.
        bounds: `(low, high)` as of `mean`; of several inputs also a dict of
            them. Needed for noise or a secure sum.
        privacy: A `QueryPrivacy`; None for exact numbers. One epsilon is for
            all inputs together.
        budget: As of `mean`.

    Returns:
        A `keras.layers.Normalization`; of several inputs one for each, in
        their structure. Its attribute `analytics` is a `Moments`. With noise,
        a variance below its own error is taken to be that error.

    Raises:
        ValueError: If an input isn't numbers, or as for `mean`.

    Example:

    >>> data = {"anna": ([[1.0], [2.0]], [0, 0]), "ben": ([[6.0]], [1])}
    >>> layer = normalization(data)
    >>> float(layer(np.array([[3.0]]))[0, 0])
    0.0
    """
    clients = as_dataset(data)
    spec = inputs(clients.element_spec)
    shapes = [s.shape for s in el.arrays(spec)]
    sizes = [math.prod(s) for s in shapes]
    query = Query(
        "normalization", clients, features, "numbers", privacy, budget
    )
    found = moments(query, _flat_bounds(bounds, spec))
    cuts = np.cumsum(sizes)[:-1]
    numbers = ("mean", "variance", "mean_error", "error")
    parts = [np.split(getattr(found, n), cuts) for n in numbers]
    layers = iter(
        [
            _layer(found, shape, *values)
            for shape, *values in zip(shapes, *parts, strict=True)
        ]
    )
    return el.map_arrays(lambda _: next(layers), spec)


def inputs(element: Any) -> Any:
    """What a model gets: `x` of `(x, y)`, and all of a dict."""
    return element if isinstance(element, dict) else element[0]


def features(element: Any) -> np.ndarray:
    """All numbers of an example in a row."""
    arrays = list(el.arrays(inputs(element)))
    return np.concatenate(
        [a.reshape(len(a), math.prod(a.shape[1:])) for a in arrays], axis=1
    )


def _flat_bounds(bounds: Any, spec: Any) -> Any:
    if bounds is None:
        return None
    arrays = dict(el.named_arrays(spec))
    if not isinstance(bounds, Mapping):
        bounds = dict.fromkeys(arrays, bounds)
    if bounds.keys() != arrays.keys():
        raise ValueError(
            "`bounds` must be (low, high); or of several inputs a dict of "
            f"them: {', '.join(arrays) or 'but there is one'}. Received: "
            f"those of {', '.join(map(str, bounds))}."
        )
    pairs = [both_bounds(bounds[n], a.shape) for n, a in arrays.items()]
    return [np.concatenate(ends) for ends in zip(*pairs, strict=True)]


def _layer(
    found: Moments,
    shape: tuple[int, ...],
    mean: np.ndarray,
    variance: np.ndarray,
    mean_error: np.ndarray,
    error: np.ndarray,
) -> keras.layers.Normalization:
    # Positions along other axes than the last are as many values of one.
    last = shape[-1:]
    rows = [v.reshape(-1, *last) for v in (mean, variance, mean_error, error)]
    mean = rows[0].mean(axis=0)
    variance = (rows[1] + (rows[0] - mean) ** 2).mean(axis=0)
    mean_error, error = rows[2].max(axis=0), rows[3].max(axis=0)
    kept = np.maximum(variance, error)
    layer = keras.layers.Normalization(
        axis=-1 if shape else None, mean=mean.tolist(), variance=kept.tolist()
    )
    layer.build((None, *shape))  # has its mean, as one that was adapted
    layer.analytics = dataclasses.replace(
        found, mean=mean, variance=kept, mean_error=mean_error, error=error
    )
    return layer
