"""How a metric is spread over clients."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedlearn.plot import style


def per_client(
    evaluation: Mapping[str, Any], metric: str = "accuracy", ax: Any = None
) -> Any:
    """Draws a histogram of a metric over clients, each counting once.

    Above it lie the nine deciles: the band holds the middle 80 % of the
    clients, the dot is their mean.

    Args:
        evaluation: From `process.evaluate` or `fl.evaluate` with
            `per_client=True`.
        metric: Its name.
        ax: Axes to draw on; None for new ones.

    Returns:
        The axes.

    Raises:
        ValueError: If the evaluation isn't by client, or has no such metric.

    Example:

    >>> evaluation = {"per_client": {
    ...     "a": {"accuracy": 0.5, "num_examples": 10.0},
    ...     "b": {"accuracy": 1.0, "num_examples": 3.0}}}
    >>> per_client(evaluation).get_title(loc="left")
    'Clients by accuracy'
    """
    clients = evaluation.get("per_client")
    if not clients:
        raise ValueError(
            "The evaluation has no metrics of single clients. Evaluate with "
            "`per_client=True`."
        )
    clients = [c for c in clients.values() if c["num_examples"]]
    names = [n for n in (clients[0] if clients else {}) if n != "num_examples"]
    if metric not in names:
        raise ValueError(
            f"The evaluation has no metric {metric!r}. It has: "
            f"{', '.join(names) or 'no client with examples'}."
        )
    values = np.array(
        [np.nan if c[metric] is None else c[metric] for c in clients], float
    )
    left_out = int(np.sum(~np.isfinite(values)))
    values = values[np.isfinite(values)]
    if not len(values):
        raise ValueError(f"No client's {metric!r} is a finite number.")
    ax = style.new_axes(6, 3.8) if ax is None else ax
    share = style.is_share(metric, values)

    low, high = float(values.min()), float(values.max())
    if share:
        # Steps of 5 %, or of 2 % where all clients are close together; one
        # that ends at 1, where the best clients are.
        step = 0.02 if low > 0.8 else 0.05
        first = max(min(np.floor(low / step) * step, 1 - 6 * step), 0)
        edges = np.linspace(first, 1, round((1 - first) / step) + 1)
    else:
        edges = np.linspace(low, high if high > low else low + 1, 21)
    counts, _ = np.histogram(values, edges)
    ax.bar(
        edges[:-1],
        counts,
        width=np.diff(edges),
        align="edge",
        color=style.PALE_BLUE,
        edgecolor="white",
        linewidth=1.5,
    )
    tallest = int(counts.max())
    deciles = np.quantile(values, np.arange(1, 10) / 10)

    def text(value):
        return f"{100 * value:.1f}%" if share else f"{value:.3g}"

    labels = {
        "mean": f"mean {text(values.mean())}, std {text(values.std())}",
        "median": f"median {text(deciles[4])}",
        "deciles": "deciles",
    }
    _strip(ax, values, deciles, labels, tallest)
    style.tidy(ax)
    title = f"Clients by {style.words(metric).lower()}"
    if left_out:
        title += f" ({left_out} not finite)"
    style.title(ax, title)
    style.key(ax, columns=3)
    ax.set_ylim(0, 1.24 * tallest)
    ax.yaxis.get_major_locator().set_params(integer=True)
    ax.set_yticks([t for t in ax.get_yticks() if 0 <= t <= 1.02 * tallest])
    if share:
        from matplotlib.ticker import PercentFormatter

        ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        pad = 0.02 * (1 - edges[0])
        ax.set_xlim(edges[0] - pad, 1 + pad)
    return ax


def _strip(
    ax: Any,
    values: np.ndarray,
    deciles: np.ndarray,
    labels: dict[str, str],
    tallest: float,
) -> None:
    """The deciles as ticks on a band, over the histogram."""
    y, half = 1.13 * tallest, 0.022 * tallest
    ax.plot(
        [values.mean()],
        [y],
        "o",
        color=style.ORANGE,
        markersize=8,
        markeredgecolor="white",
        label=labels["mean"],
        zorder=5,
    )
    ax.fill_between(
        [deciles[0], deciles[-1]],
        y - half,
        y + half,
        color=style.BLUE,
        alpha=0.25,
        linewidth=0,
    )
    ticks = (
        (deciles[4:5], labels["median"], 2.4, 3.0),
        (deciles, labels["deciles"], 1.6, 1.2),
    )
    for places, label, height, width in ticks:
        ax.vlines(
            places,
            y - half * height,
            y + half * height,
            color=style.BLUE,
            linewidth=width,
            label=label,
        )
    ax.plot(
        [values.min(), values.max()],
        [y, y],
        color=style.GREY,
        linewidth=1,
        zorder=1,
    )
