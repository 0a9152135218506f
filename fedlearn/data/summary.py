"""The text of `FederatedDataset.summary`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fedlearn.data import element as el

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
    if isinstance(element, tuple):
        y = element[1]
    if not isinstance(y, np.ndarray) or y.dtype.kind not in "biu":
        return None
    if y.shape[1:] not in ((), (1,)):
        return None
    return y.reshape(-1)


class _LabelCounts:
    def __init__(self) -> None:
        self.pooled: dict[int, int] = {}
        self.entropies: list[float] = []
        self.usable = True

    def add(self, element: el.Element) -> None:
        labels = _labels(element)
        self.usable = self.usable and labels is not None
        if not self.usable or labels is None or not len(labels):
            return
        values, counts = np.unique(labels, return_counts=True)
        self.entropies.append(entropy(counts))
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            self.pooled[value] = self.pooled.get(value, 0) + count
        self.usable = len(self.pooled) <= _MAX_LABELS


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
    shown = labels.usable and labels.pooled
    label_name = "label" if isinstance(spec, dict) else "y"
    for name, leaf in el.named_arrays(spec):
        text = f"{leaf.dtype} {_shape(leaf.shape)}"
        if shown and name == label_name:
            low, high = min(labels.pooled), max(labels.pooled)
            plural = "" if len(labels.pooled) == 1 else "s"
            text += f", {len(labels.pooled)} label{plural}"
            text += f" from {low} to {high}"
        rows.append((name, text))
    if shown:
        pooled = entropy(np.array(list(labels.pooled.values())))
        mean = float(np.mean(labels.entropies))
        rows.append(
            (
                "label entropy",
                f"{pooled:.2f} bits pooled, {mean:.2f} mean per client",
            )
        )
    return ["FederatedDataset", *_table(rows)]


def _shape(shape: tuple[int, ...]) -> str:
    inner = ", ".join(["n", *map(str, shape)])
    return f"({inner},)" if not shape else f"({inner})"
