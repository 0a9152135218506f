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
            out. Where it has them by client (`per_client`), those are drawn
            too, thinly.
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
    values = values_of(history)
    by_client = getattr(history, "per_client", {})
    names = metrics_in(values)
    if metric is None and ax is None:
        axes = panels(len(names))
        for name, one in zip(names, axes, strict=True):
            _draw(values, name, one, by_client)
        return axes
    metric = names[0] if metric is None else metric
    if metric not in names:
        raise ValueError(
            f"The history has no metric {metric!r}. It has: {', '.join(names)}."
        )
    ax = style.new_axes(6, 3.8) if ax is None else ax
    _draw(values, metric, ax, by_client)
    return ax


def metrics_in(values: Mapping[str, Sequence[float]]) -> list[str]:
    """Names of the metrics, the loss first; without what `fit` counts."""
    distinct = dict.fromkeys(name.removeprefix("val_") for name in values)
    names = [n for n in distinct if not n.startswith(_COUNTS)]
    if not names:
        raise ValueError(
            "The history holds no metric, so there is nothing to draw. Was "
            "`fit` run for at least one round?"
        )
    # The loss first, as everybody looks for it.
    return sorted(names, key=lambda name: name != "loss")


def _draw(
    values: Mapping[str, Sequence[float]],
    metric: str,
    ax: Any,
    by_client: Mapping[str, Mapping[str, Sequence[float]]],
) -> None:
    num_rounds = max(len(v) for v in values.values())
    lines: list[tuple[Any, str | None, str, float]] = [
        (values.get(metric), "training", style.BLUE, 1.4),
        (values.get(f"val_{metric}"), "validation", style.ORANGE, 2.4),
    ]
    label: str | None = "each client"
    for client in by_client.values():
        lines.append((client.get(metric), label, style.PALE_ORANGE, 0.9))
        label = None  # once in the key
    drawn = [
        curve(ax, line, num_rounds, color=colour, label=name, linewidth=width)
        for line, name, colour, width in lines
        if line is not None
    ]
    finish(ax, metric, num_rounds, np.concatenate(drawn))
    style.key(ax, columns=3)


def curve(
    ax: Any, values: Sequence[float | None], num_rounds: int, **line: Any
) -> np.ndarray:
    """Draws values by round, and returns those that are finite."""
    line.setdefault("marker", "o" if len(values) < 15 else None)
    y = np.asarray([np.nan if v is None else v for v in values], float)
    every = max(num_rounds // max(len(y), 1), 1)
    x = np.arange(1, len(y) + 1) * every
    known = np.isfinite(y)
    width = line["linewidth"]
    # The thin ones lie behind.
    more = {"markersize": 2 + width, "zorder": 2 + width / 10}
    ax.plot(x[known], y[known], **more, **line)
    return y[known]


def finish(ax: Any, metric: str, num_rounds: int, drawn: Any) -> None:
    """Title, axes and limits of curves by round."""
    style.tidy(ax)
    style.title(ax, style.words(metric))
    ax.set_xlabel("round", color=style.GREY)
    ax.xaxis.get_major_locator().set_params(integer=True)
    low = min(drawn, default=0)
    if style.is_share(metric, drawn):
        from matplotlib.ticker import PercentFormatter

        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        # From 0, unless that would leave most of the picture empty.
        ax.set_ylim(bottom=0 if low < 0.5 else None, top=1.02)
    elif low >= 0:
        ax.set_ylim(bottom=0)
    ax.set_xlim(0 if num_rounds > 14 else 0.5, max(num_rounds, 1) + 0.5)


def panels(count: int) -> list[Any]:
    """Axes beside one another in a new figure."""
    from matplotlib import pyplot

    size = (5.5 * count, 3.6)
    figure = pyplot.figure(figsize=size, layout="constrained")
    return list(figure.subplots(1, count, squeeze=False)[0])


def values_of(
    history: Any, what: str = "`history`"
) -> Mapping[str, Sequence[float]]:
    """The lists of what `fit` returned, or of a dict of lists."""
    values = getattr(history, "history", history)
    if not isinstance(values, Mapping):
        raise TypeError(
            f"{what} must be what `process.fit` returned, or a dict of lists. "
            f"Received: {type(history).__name__}."
        )
    return values
