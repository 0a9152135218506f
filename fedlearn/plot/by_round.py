"""Metrics by round, of a run or of several."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fedlearn.plot import style

Values = Mapping[str, Sequence[float]]

# What `fit` logs besides the model's metrics.
_COUNTS = ("num_", "bytes_", "round", "seconds", "sim_", "wasted_")


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
    values = _values_of(history, "`history`")
    names = _metrics_in(values)
    if metric is not None and metric not in names:
        raise ValueError(
            f"The history has no metric {metric!r}. It has: {', '.join(names)}."
        )
    clients = getattr(history, "per_client", {}).values()
    num_rounds = max(map(len, values.values()))

    def draw(metric: str, ax: Any) -> None:
        pale = {"color": style.PALE_ORANGE, "linewidth": 0.9}
        lines = [
            (values, metric, "training", style.BLUE, 1.4),
            (values, f"val_{metric}", "validation", style.ORANGE, 2.4),
        ]
        drawn = [
            _curve(ax, v[n], num_rounds, label=label, color=c, linewidth=width)
            for v, n, label, c, width in lines
            if n in v
        ]
        own = [c[metric] for c in clients if metric in c]
        for i, line in enumerate(own):  # once in the key
            label = None if i else "each client"
            drawn.append(_curve(ax, line, num_rounds, label=label, **pale))
        finish(ax, metric, num_rounds, np.concatenate(drawn))
        style.key(ax, columns=3)

    return _one_or_all(names, metric, ax, draw)


def compare(
    histories: Mapping[str, Any], metric: str | None = None, ax: Any = None
) -> Any:
    """Draws a metric of several runs by round, a curve a run.

    The metric's values on validation data are drawn; where a run has none,
    those of training, and the key says so.

    Args:
        histories: From a run's name to what `process.fit` returned, or to its
            `history`, a list of values for each metric.
        metric, ax: As of `history`; None for each of the metrics that all
            runs have.

    Returns:
        As of `history`.

    Raises:
        TypeError: If `histories` isn't a mapping of histories.
        ValueError: If there are none, or a run has no such metric.

    Example:

    >>> axes = compare({
    ...     "FedAvg": {"loss": [2.0, 1.0], "val_loss": [2.2, 1.3]},
    ...     "FedAdam": {"loss": [2.0, 0.8], "val_loss": [2.1, 1.0]},
    ... }, "loss")
    >>> [text.get_text() for text in axes.get_legend().get_texts()]
    ['FedAvg', 'FedAdam']
    """
    if not isinstance(histories, Mapping):
        raise TypeError(
            "`histories` must be a dict from names of runs to what "
            "`process.fit` returned, such as {'FedAvg': history}. Received: "
            f"{type(histories).__name__}."
        )
    if not histories:
        raise ValueError("There are no runs to compare.")
    runs = {
        str(name): _values_of(history, f"The history of {name!r}")
        for name, history in histories.items()
    }
    found = {name: _metrics_in(values) for name, values in runs.items()}
    first = next(iter(found.values()))
    common = [n for n in first if all(n in names for names in found.values())]
    for name, names in found.items():
        if metric not in names and (metric is not None or not common):
            what = "metric that all have" if metric is None else repr(metric)
            raise ValueError(
                f"The run {name!r} has no {what}. It has: {', '.join(names)}."
            )
    lengths = [max(map(len, values.values())) for values in runs.values()]

    def draw(metric: str, ax: Any) -> None:
        told = [f"val_{metric}" in values for values in runs.values()]
        drawn = []
        for number, (name, values) in enumerate(runs.items()):
            again, colour = divmod(number, len(style.SEVERAL))
            line = _curve(
                ax,
                values[f"val_{metric}" if told[number] else metric],
                lengths[number],  # a shorter run ends where it ended
                color=style.SEVERAL[colour],
                linestyle=("-", "--", ":", "-.")[again % 4],
                linewidth=2.0,
                marker="o" if max(lengths) < 15 else None,
                label=name + " (training)" * (any(told) and not told[number]),
            )
            drawn.append(line)
        title = f"{'validation' if any(told) else 'training'} {metric}"
        finish(ax, title, max(lengths), np.concatenate(drawn))
        few = len(runs) <= 4 and sum(map(len, runs)) <= 48
        style.key(ax, columns=4) if few else style.side_key(ax)

    return _one_or_all(common, metric, ax, draw)


def _one_or_all(
    names: Sequence[str],
    metric: str | None,
    ax: Any,
    draw: Callable[[str, Any], None],
) -> Any:
    """Draws a metric on axes; or, without either, all in a new figure."""
    if metric is None and ax is None:
        axes = style.new_axes(5.5 * len(names), 3.6, len(names))
        for name, one in zip(names, axes, strict=True):
            draw(name, one)
        return axes
    if ax is None:
        (ax,) = style.new_axes(6, 3.8)
    draw(names[0] if metric is None else metric, ax)
    return ax


def _values_of(history: Any, what: str) -> Values:
    """The lists of what `fit` returned, or of a dict of lists."""
    values = getattr(history, "history", history)
    if not isinstance(values, Mapping):
        raise TypeError(
            f"{what} must be what `process.fit` returned, or a dict of lists. "
            f"Received: {type(history).__name__}."
        )
    return values


def _metrics_in(values: Values) -> list[str]:
    """Names of the metrics, the loss first; without what `fit` counts."""
    distinct = dict.fromkeys(name.removeprefix("val_") for name in values)
    names = [n for n in distinct if not n.startswith(_COUNTS)]
    if not names:
        raise ValueError(
            "The history holds no metric, so there is nothing to draw. Was "
            "`fit` run for at least one round?"
        )
    return sorted(names, key=lambda name: name != "loss")


def _curve(
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
        style.percent(ax.yaxis)
        # From 0, unless that would leave most of the picture empty.
        ax.set_ylim(bottom=0 if low < 0.5 else None, top=1.02)
    elif low >= 0:
        ax.set_ylim(bottom=0)
    ax.set_xlim(0 if num_rounds > 14 else 0.5, max(num_rounds, 1) + 0.5)
