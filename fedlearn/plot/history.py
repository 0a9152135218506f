"""Metrics by round."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedlearn.plot import style

# What `fit` logs besides the model's metrics.
_COUNTS = ("num_", "bytes_", "round", "seconds")


def history(history: Any, metric: str | None = None, ax: Any = None) -> Any:
    """Draws a metric of training and of validation by round.

    Args:
        history: What `process.fit` returned, or its `history`: a list of
            values for each metric. A shorter list is taken to be of every
            second, third, ... round, as with `validation_freq`; NaN is left
            out.
        metric: Its name, such as `"accuracy"`; None for each of the model's
            metrics beside another.
        ax: Axes to draw on; None for new ones.

    Returns:
        The axes; where `metric` is None and `ax` too, a list of them.

    Raises:
        ValueError: If there is no such metric.

    Example:

    >>> axes = history({"loss": [2.0, 1.0], "val_loss": [2.2, 1.3]}, "loss")
    >>> axes.get_title(loc="left"), axes.get_xlabel()
    ('Loss', 'round')
    """
    values = getattr(history, "history", history)
    if not isinstance(values, Mapping):
        raise TypeError(
            "`history` must be what `process.fit` returned, or a dict of "
            f"lists. Received: {type(history).__name__}."
        )
    names = _metrics(values)
    if metric is None and ax is None:
        from matplotlib import pyplot

        _, axes = pyplot.subplots(
            1,
            len(names),
            figsize=(5.5 * len(names), 3.6),
            layout="constrained",
            squeeze=False,
        )
        for name, one in zip(names, axes[0], strict=True):
            _draw(values, name, one)
        return list(axes[0])
    metric = names[0] if metric is None else metric
    if metric not in names:
        raise ValueError(
            f"The history has no metric {metric!r}. It has: {', '.join(names)}."
        )
    ax = style.new_axes(6, 3.8) if ax is None else ax
    _draw(values, metric, ax)
    return ax


def _metrics(values: Mapping[str, Sequence[float]]) -> list[str]:
    distinct = dict.fromkeys(name.removeprefix("val_") for name in values)
    names = [n for n in distinct if not n.startswith(_COUNTS)]
    if not names:
        raise ValueError(
            "The history holds no metric, so there is nothing to draw. Was "
            "`fit` run for at least one round?"
        )
    # The loss first, as everybody looks for it.
    return sorted(names, key=lambda name: name != "loss")


def _draw(values: Mapping[str, Sequence[float]], metric: str, ax: Any) -> None:
    num_rounds = max(len(v) for v in values.values())
    drawn: list[float] = []
    lines = [
        (metric, "training", style.BLUE, 1.4),
        (f"val_{metric}", "validation", style.ORANGE, 2.4),
    ]
    for name, label, colour, width in lines:
        if name not in values:
            continue
        y = np.asarray(
            [np.nan if v is None else v for v in values[name]], float
        )
        every = max(num_rounds // max(len(y), 1), 1)
        x = np.arange(1, len(y) + 1) * every
        known = np.isfinite(y)
        ax.plot(
            x[known],
            y[known],
            color=colour,
            linewidth=width,
            label=label,
            marker="o" if known.sum() < 15 else None,
            markersize=4,
            solid_capstyle="round",
        )
        drawn += y[known].tolist()
    style.tidy(ax)
    style.title(ax, style.words(metric))
    ax.set_xlabel("round", color=style.GREY)
    ax.xaxis.get_major_locator().set_params(integer=True)
    if style.is_share(metric, drawn):
        from matplotlib.ticker import PercentFormatter

        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        # From 0, unless that would leave most of the picture empty.
        low = 0 if min(drawn) < 0.5 else None
        ax.set_ylim(bottom=low, top=1.02)
    elif drawn and min(drawn) >= 0:
        ax.set_ylim(bottom=0)
    ax.set_xlim(0 if num_rounds > 14 else 0.5, num_rounds + 0.5)
    style.key(ax, columns=2)
