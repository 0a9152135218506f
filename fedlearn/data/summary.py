"""The text of `FederatedDataset.summary`, and how much clients differ."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedlearn.data import element as el
from fedlearn.data.class_names import listed

# More distinct integers than this are no classes but ids, times or tokens.
_MAX_LABELS = 1000
_SHOWN = (
    *("entropy_pooled", "entropy_mean"),
    *("distance_mean", "distance_max", "distance_by_chance"),
)


def entropy(counts: np.ndarray) -> float:
    """Shannon entropy in bits of a distribution given by counts."""
    p = counts[counts > 0] / counts.sum()
    # Adding 0 turns the -0.0 of a single label into 0.0.
    return float(-(p * np.log2(p)).sum() + 0.0)


class _LabelCounts:
    """How many examples of each label each client has, if it has labels."""

    def __init__(self) -> None:
        self.values: list[np.ndarray] = []
        self.counts: list[np.ndarray] = []
        self.names: set[int] = set()
        self.usable = True

    def add(self, element: el.Element) -> None:
        y: Any = element.get("label") if isinstance(element, Mapping) else None
        if isinstance(element, tuple) and len(element) > 1:
            y = element[1]
        self.usable = (
            self.usable
            and isinstance(y, np.ndarray)
            and y.dtype.kind in "biu"
            and y.shape[1:] in ((), (1,))
        )
        if not self.usable or not len(y):
            return
        values, counts = np.unique(y, return_counts=True)
        self.values.append(values.astype(np.int64))
        self.counts.append(counts)
        self.names.update(values.tolist())
        self.usable = len(self.names) <= _MAX_LABELS


def label_distances(
    values: Sequence[np.ndarray], counts: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """How far each client's mix of labels is from that of all examples.

    The distance is the total variation: the part of its examples that a
    client would have to swap to have the pooled mix.

    Even examples dealt at random give some distance: the mean deviation of a
    binomial number (de Moivre 1730; Diaconis and Zabell 1991, "Closed form
    summation for classical distributions", Theorem 1), for draws without
    replacement less by the factor that their standard deviation is.

    `values` and `counts` are each client's labels and how many examples each
    has; returned are the `(clients,)` distances, and those by chance.
    """
    sizes = np.array([c.sum() for c in counts])
    owner = np.repeat(np.arange(len(counts)), [len(c) for c in counts])
    names, codes = np.unique(np.concatenate(values), return_inverse=True)
    each = np.concatenate(counts)
    shares = np.bincount(codes, each, len(names)) / each.sum()
    # A client's missing labels add their whole shares.
    differing = np.bincount(owner, np.abs(each / sizes[owner] - shares[codes]))
    missing = 1 - np.bincount(owner, shares[codes])
    distances = np.maximum(0.5 * (differing + missing), 0)
    if len(names) == 1:
        return distances, np.zeros(len(sizes))

    from scipy import stats  # comes with scikit-learn

    distinct, where = np.unique(sizes, return_inverse=True)
    expected = np.empty(len(distinct))
    for k, n in enumerate(distinct.tolist()):
        # For binomial X, E|X - np| = 2 m (1 - p) P(X = m) with m = [np] + 1.
        m = np.floor(n * shares).astype(np.int64) + 1
        chance = stats.binom.pmf(m, n, shares)
        expected[k] = (m * (1 - shares) * chance).sum() / n
    expected *= np.sqrt((each.sum() - distinct) / (each.sum() - 1))
    return distances, expected[where]


def _heterogeneity(labels: _LabelCounts) -> dict[str, float]:
    distances, by_chance = label_distances(labels.values, labels.counts)
    low, middle, high = np.quantile(distances, [0.25, 0.5, 0.75])
    values, counts = map(np.concatenate, (labels.values, labels.counts))
    pooled = np.bincount(np.unique(values, return_inverse=True)[1], counts)
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


def heterogeneity(clients: Mapping[str, el.Element]) -> dict[str, float]:
    """See `FederatedDataset.heterogeneity`."""
    labels = _LabelCounts()
    for client_id in clients:
        labels.add(clients[client_id])
        if not labels.usable:
            raise ValueError(
                f"The labels of client {client_id!r} are not one integer for "
                f"each example, or there are more than {_MAX_LABELS:,} "
                "different ones. Expected classes in y, or in the feature "
                "'label'; use `map` to give data with such labels."
            )
    if not labels.counts:
        raise ValueError("There are no examples. Expected labels to compare.")
    return _heterogeneity(labels)


def summary_lines(
    clients: Mapping[str, el.Element],
    class_names: Sequence[str] | None = None,
) -> list[str]:
    """The lines that say what is in a data set."""
    sizes = []
    labels = _LabelCounts()
    spec: Any = None
    for client_id in clients:
        element = clients[client_id]
        sizes.append(el.num_examples(element))
        if spec is None or (sizes[-1] and not max(sizes[:-1])):
            spec = el.spec_of(element)
        if labels.usable:
            labels.add(element)
    rows = [("clients", f"{len(sizes):,}")]
    if sizes:
        quartiles = np.percentile(sizes, [25, 50, 75])
        shown = " / ".join(f"{q:,.0f}" for q in quartiles)
        text = f"min {min(sizes):,}, quartiles {shown}, max {max(sizes):,}"
        rows.append(("examples", f"{sum(sizes):,}"))
        rows.append(("examples per client", text))
    label_name = "label" if isinstance(spec, dict) else "y"
    has_labels = labels.usable and labels.names
    for name, leaf in el.named_arrays(spec) if sizes else ():
        shape = ", ".join(["n", *map(str, leaf.shape)])
        text = f"{leaf.dtype} ({shape}{'' if leaf.shape else ','})"
        if has_labels and name == label_name:
            plural = "" if len(labels.names) == 1 else "s"
            text += f", {len(labels.names)} label{plural}"
            if class_names is None:
                text += f" from {min(labels.names)} to {max(labels.names)}"
            else:
                text += f" of {listed(class_names)}"
        rows.append((name, text))
    if has_labels:
        numbers = _heterogeneity(labels)
        means = [f"{numbers[f'label_{name}']:.2f}" for name in _SHOWN]
        alone = numbers["single_label_clients"]
        pooled, mean, distance, most, chance = means
        rows += [
            ("label entropy", f"{pooled} bits pooled, {mean} mean per client"),
            (
                "label distance",
                f"{distance} mean, {most} max; dealt at random {chance}",
            ),
            ("one label only", f"{alone:.0%} of clients"),
        ]
    width = max(len(name) for name, _ in rows)
    lines = [f"  {name:<{width}}  {text}" for name, text in rows]
    return ["FederatedDataset", *lines]
