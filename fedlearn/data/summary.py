"""The text of `FederatedDataset.summary`, and how much clients differ."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fedlearn.data import element as el
from fedlearn.data.class_names import listed

if TYPE_CHECKING:
    from fedlearn.data.federated_dataset import FederatedDataset

# More distinct integers than this are no classes but ids, times or tokens.
_MAX_LABELS = 1000


def entropy(counts: np.ndarray) -> float:
    """Shannon entropy in bits of a distribution given by counts.

    Example:

    >>> entropy(np.array([5, 5]))
    1.0
    """
    p = counts[counts > 0] / counts.sum()
    # Adding 0 turns the -0.0 of a single label into 0.0.
    return float(-(p * np.log2(p)).sum() + 0.0)


def _labels(element: el.Element) -> np.ndarray | None:
    y: Any = element.get("label") if isinstance(element, Mapping) else None
    if isinstance(element, tuple) and len(element) > 1:
        y = element[1]
    if not isinstance(y, np.ndarray) or y.dtype.kind not in "biu":
        return None
    if y.shape[1:] not in ((), (1,)):
        return None
    return y.reshape(-1)


class _LabelCounts:
    """How many examples of each label each client has, if it has labels."""

    def __init__(self) -> None:
        self.values: list[np.ndarray] = []
        self.counts: list[np.ndarray] = []
        self.names: set[int] = set()
        self.usable = True

    def add(self, element: el.Element) -> None:
        labels = _labels(element)
        self.usable = self.usable and labels is not None
        if not self.usable or labels is None or not len(labels):
            return
        values, counts = np.unique(labels, return_counts=True)
        self.values.append(values.astype(np.int64))
        self.counts.append(counts)
        self.names.update(values.tolist())
        self.usable = len(self.names) <= _MAX_LABELS


def label_distances(
    values: Sequence[np.ndarray], counts: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """How far each client's mix of labels is from that of all examples.

    The distance is the total variation: half the sum over labels of how much
    the label's share at the client and its share of all examples differ. It
    is the part of its examples that a client would have to swap to have the
    pooled mix: 0 for the same mix, and near 1 for a client whose only label
    is rare elsewhere.

    Even examples dealt at random give some distance, the more the fewer
    examples a client has. What to expect then is the mean deviation of a
    binomial number (de Moivre 1730; Diaconis and Zabell 1991, "Closed form
    summation for classical distributions", Theorem 1), for draws without
    replacement less by the factor that their standard deviation is.

    Args:
        values: For each client, the labels that it has, each once.
        counts: For each client, how many examples of each of those it has.

    Returns:
        Two arrays of shape `(clients,)`: the distance of each client, and
        what it would be on average if it were dealt its number of examples
        at random from all.

    Example:

    >>> values = [np.array([0, 1]), np.array([0])]
    >>> counts = [np.array([2, 2]), np.array([4])]
    >>> label_distances(values, counts)[0].tolist()
    [0.25, 0.25]
    """
    sizes = np.array([c.sum() for c in counts])
    owner = np.repeat(np.arange(len(counts)), [len(c) for c in counts])
    names, codes = np.unique(np.concatenate(values), return_inverse=True)
    each = np.concatenate(counts)
    shares = np.bincount(codes, each, len(names)) / each.sum()
    here, pooled = each / sizes[owner], shares[codes]
    # A client's missing labels add their whole shares.
    differing = np.bincount(owner, np.abs(here - pooled))
    missing = 1 - np.bincount(owner, pooled)
    distances = np.maximum(0.5 * (differing + missing), 0)

    distinct, where = np.unique(sizes, return_inverse=True)
    if len(names) == 1:
        return distances, np.zeros(len(sizes))
    log_factorial = np.concatenate(
        [[0], np.cumsum(np.log(np.arange(1, distinct[-1] + 1)))]
    )
    expected = np.array(
        [_by_chance(n, shares, log_factorial) for n in distinct]
    )
    total = each.sum()
    expected *= np.sqrt((total - distinct) / (total - 1))
    return distances, expected[where]


def _by_chance(
    size: int, shares: np.ndarray, log_factorial: np.ndarray
) -> float:
    """The mean distance of `size` independent draws from these shares.

    For binomial X, E|X - np| = 2 m (1 - p) P(X = m) with m = [np] + 1.
    """
    m = np.floor(size * shares).astype(np.int64) + 1
    log_probability = (
        log_factorial[size]
        - log_factorial[m]
        - log_factorial[size - m]
        + m * np.log(shares)
        + (size - m) * np.log1p(-shares)
    )
    deviation = 2 * m * (1 - shares) * np.exp(log_probability)
    return float(0.5 * deviation.sum() / size)


def _heterogeneity(labels: _LabelCounts) -> dict[str, float]:
    distances, by_chance = label_distances(labels.values, labels.counts)
    low, middle, high = np.quantile(distances, [0.25, 0.5, 0.75])
    names = np.concatenate(labels.values)
    pooled = np.bincount(
        np.unique(names, return_inverse=True)[1], np.concatenate(labels.counts)
    )
    return {
        "label_entropy_pooled": entropy(pooled),
        "label_entropy_mean": float(np.mean([*map(entropy, labels.counts)])),
        "label_distance_mean": float(distances.mean()),
        "label_distance_q25": float(low),
        "label_distance_median": float(middle),
        "label_distance_q75": float(high),
        "label_distance_max": float(distances.max()),
        "label_distance_by_chance": float(by_chance.mean()),
        "single_label_clients": float(
            np.mean([len(c) == 1 for c in labels.counts])
        ),
    }


def heterogeneity(dataset: "FederatedDataset") -> dict[str, float]:
    """How much the labels of clients differ, in numbers.

    Each client counts once, whatever its size; those without examples are
    left out. Reads every client once.

    Args:
        dataset: Has one integer label an example: `y`, or the feature
            `label`.

    Returns:
        A dict of

        - `label_entropy_pooled`, `label_entropy_mean`: entropy in bits of the
          labels of all examples, and its mean over clients;
        - `label_distance_mean`, `_q25`, `_median`, `_q75`, `_max`: total
          variation distance of clients' mixes of labels from that of all
          examples, 0 (alike) to 1; see `label_distances`;
        - `label_distance_by_chance`: about what the mean would be if the
          examples were dealt at random to clients of these sizes;
        - `single_label_clients`: share of clients that have one label only.

    Raises:
        ValueError: If there are no such labels, no examples, or more than
            1,000 different labels.

    Example:

    >>> from fedlearn import partition
    >>> y = np.arange(1000) % 10
    >>> numbers = heterogeneity(partition.dirichlet(y, y, 20, alpha=0.1))
    >>> numbers["label_distance_mean"] > numbers["label_distance_by_chance"]
    True
    """
    labels = _LabelCounts()
    for client_id in dataset:
        labels.add(dataset[client_id])
        if not labels.usable:
            raise ValueError(
                f"The labels of client {client_id!r} are not one integer for "
                f"each example, or there are more than {_MAX_LABELS:,} "
                "different ones. Expected classes in y, or in the feature "
                "'label'; use `map` to give data with such labels."
            )
    if not labels.counts:
        raise ValueError(
            f"There are no examples in the {len(dataset):,} clients. Expected "
            "some labels to compare."
        )
    return _heterogeneity(labels)


def _table(rows: list[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in rows)
    return [f"  {name:<{width}}  {text}" for name, text in rows]


def summary_lines(dataset: "FederatedDataset") -> list[str]:
    """The lines that say what is in a data set."""
    if not len(dataset):
        return ["FederatedDataset", *_table([("clients", "0")])]
    sizes = []
    labels = _LabelCounts()
    spec: Any = None
    for client_id in dataset:
        element = dataset[client_id]
        sizes.append(el.num_examples(element))
        if spec is None or (sizes[-1] and not max(sizes[:-1])):
            spec = el.spec_of(element)
        if labels.usable:
            labels.add(element)
    quartiles = np.percentile(sizes, [25, 50, 75])
    rows = [
        ("clients", f"{len(sizes):,}"),
        ("examples", f"{sum(sizes):,}"),
        (
            "examples per client",
            f"min {min(sizes):,}, quartiles "
            + " / ".join(f"{q:,.0f}" for q in quartiles)
            + f", max {max(sizes):,}",
        ),
    ]
    shown = labels.usable and labels.names
    label_name = "label" if isinstance(spec, dict) else "y"
    for name, leaf in el.named_arrays(spec):
        text = f"{leaf.dtype} {_shape(leaf.shape)}"
        if shown and name == label_name:
            low, high = min(labels.names), max(labels.names)
            plural = "" if len(labels.names) == 1 else "s"
            text += f", {len(labels.names)} label{plural}"
            if dataset.class_names is None:
                text += f" from {low} to {high}"
            else:
                text += f" of {listed(dataset.class_names)}"
        rows.append((name, text))
    if shown:
        rows += _label_rows(_heterogeneity(labels))
    return ["FederatedDataset", *_table(rows)]


def _label_rows(numbers: dict[str, float]) -> list[tuple[str, str]]:
    return [
        (
            "label entropy",
            f"{numbers['label_entropy_pooled']:.2f} bits pooled, "
            f"{numbers['label_entropy_mean']:.2f} mean per client",
        ),
        (
            "label distance",
            f"{numbers['label_distance_mean']:.2f} mean, "
            f"{numbers['label_distance_max']:.2f} max; dealt at random "
            f"{numbers['label_distance_by_chance']:.2f}",
        ),
        ("one label only", f"{numbers['single_label_clients']:.0%} of clients"),
    ]


def _shape(shape: tuple[int, ...]) -> str:
    inner = ", ".join(["n", *map(str, shape)])
    return f"({inner},)" if not shape else f"({inner})"
