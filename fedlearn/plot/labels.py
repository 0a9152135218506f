"""How labels lie on clients."""

from typing import Any

import numpy as np

from fedlearn.plot import style

_MOST_LABELS = 100  # of text or of regression there are too many to see


def labels(dataset: Any, ax: Any = None, max_clients: int = 100) -> Any:
    """Draws which share of each client's examples has which label.

    A row a client, a column a label. Rows are sorted by the label that a
    client has most of: where clients are alike the picture is even and pale,
    where they differ it shows a diagonal. The bars at the right are the
    clients' numbers of examples.

    Args:
        dataset: A `FederatedDataset` with integer labels, shown by their
            `class_names` if there are any.
        ax: Axes to draw on; None for new ones. The bars stick out of them at
            the right by an eighth of their width.
        max_clients: Of more clients so many are drawn, evenly from the
            sorted ones.

    Returns:
        The axes.

    Raises:
        ValueError: If the labels aren't one integer for each example, there
            are more than 100 different ones, or there are no examples.

    Example:

    >>> import numpy as np, fedlearn as fl
    >>> ds = fl.FederatedDataset.from_clients(
    ...     {"a": (np.zeros((3, 2)), [0, 1, 1]), "b": (np.ones((1, 2)), [0])})
    >>> labels(ds).get_xlabel()
    'label'
    """
    names, counts = _count(dataset)
    if ax is None:
        (ax,) = style.new_axes(5.5, 5.5)
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    top = shares.argmax(axis=1)
    order = np.lexsort((-shares.max(axis=1), top))
    if len(order) > max_clients:
        kept = np.linspace(0, len(order) - 1, max_clients).round()
        order = order[kept.astype(int)]

    # So that clients that are alike stay pale, the darkest is no less than
    # five times an even share; so that one client of a single example does
    # not make all others pale, it is not far above what most clients have.
    largest = shares[totals > 0].max(axis=1)
    usual = min(largest.max(), 1.5 * np.quantile(largest, 0.9))
    darkest = max(float(usual), min(1, 5 / len(names)))
    more = " or more" if darkest < largest.max() else ""
    look = {"aspect": "auto", "interpolation": "nearest", "cmap": "Blues"}
    ax.imshow(shares[order], vmin=0, vmax=darkest, **look)
    style.tidy(ax, grid="")
    ax.spines["bottom"].set_visible(False)
    step = -(-len(names) // 16)
    ax.set_xticks(range(0, len(names), step), names[::step])
    if max(map(len, names)) > 3 and len(names) > 4:
        ax.tick_params(axis="x", labelrotation=45)
    ax.set_yticks([])
    ax.set_xlabel("label", color=style.GREY)
    ax.set_ylabel("client", color=style.GREY)
    of = f" of {len(counts):,}" if len(order) < len(counts) else ""
    note = f"{len(order):,}{of} clients; white 0%, darkest {darkest:.0%}{more}"
    style.title(ax, "Labels of each client", f"{note} of the client")

    bars = ax.inset_axes((1.02, 0, 0.11, 1), sharey=ax)
    # Gaps narrower than a pixel would show as stripes.
    height = 0.8 if len(order) <= 60 else 1
    bars.barh(range(len(order)), totals[order], height, color=style.GREY)
    bars.axis("off")
    most = f"{int(totals[order].max()):,} examples"
    font = {"ha": "left", "va": "top", "color": style.GREY, "fontsize": 9}
    # Upright, beside the longest bar: below it are names of labels.
    bars.text(1.1, 1, most, rotation=270, transform=bars.transAxes, **font)
    return ax


def _count(dataset: Any) -> tuple[list[str], np.ndarray]:
    """Names of labels, and how many of each a client has, a row each."""
    columns: list[np.ndarray] = []
    for client in dataset:
        element = dataset[client]
        y = element.get("label") if isinstance(element, dict) else element[1]
        y = np.asarray(y) if not isinstance(y, (dict, list)) else None
        if y is not None and y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y is None or y.ndim != 1 or y.dtype.kind not in "iub":
            raise ValueError(
                "The labels of a client are not one integer for each "
                "example, so there are no classes to count. Use `map` to "
                "give data with such labels."
            )
        columns.append(y)
    if not sum(map(len, columns)):
        raise ValueError(
            f"There are no examples in the {len(columns):,} clients. Expected "
            "some labels to draw."
        )
    names = np.unique(np.concatenate(columns))
    if len(names) > _MOST_LABELS:
        raise ValueError(
            f"There are {len(names):,} different labels. Expected at most "
            f"{_MOST_LABELS}: more can't be told apart in a picture."
        )
    places = (np.searchsorted(names, y) for y in columns)
    counts = [np.bincount(place, minlength=len(names)) for place in places]
    known = getattr(dataset, "class_names", None)
    return [
        known[int(k)] if known and 0 <= k < len(known) else str(int(k))
        for k in names
    ], np.array(counts)
