"""Several runs in one picture."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedlearn.plot import style
from fedlearn.plot.history import (
    curve,
    finish,
    metrics_in,
    panels,
    values_of,
)


def compare(
    histories: Mapping[str, Any], metric: str | None = None, ax: Any = None
) -> Any:
    """Draws a metric of several runs by round, a curve a run.

    The metric's values on validation data are drawn; where a run has none,
    those of training, and the key says so.

    Args:
        histories: From a run's name to what `process.fit` returned, or to its
            `history`, a list of values for each metric.
        metric: Its name, such as `"accuracy"`; None for each of the metrics
            that all runs have, beside another.
        ax: Axes to draw on; None for new ones.

    Returns:
        The axes; where `metric` is None and `ax` too, a list of them.

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
        str(name): values_of(history, f"The history of {name!r}")
        for name, history in histories.items()
    }
    found = {name: metrics_in(values) for name, values in runs.items()}
    common = [
        metric
        for metric in next(iter(found.values()))
        if all(metric in names for names in found.values())
    ]
    if metric is None and ax is None and common:
        axes = panels(len(common))
        for name, one in zip(common, axes, strict=True):
            _draw(runs, name, one)
        return axes
    if metric is None and common:
        metric = common[0]
    for name, names in found.items():
        if metric not in names:
            what = "metric that all have" if metric is None else repr(metric)
            raise ValueError(
                f"The run {name!r} has no {what}. It has: {', '.join(names)}."
            )
    assert metric is not None
    ax = style.new_axes(6, 3.8) if ax is None else ax
    _draw(runs, metric, ax)
    return ax


def _draw(runs: Mapping[str, Any], metric: str, ax: Any) -> None:
    lengths = [max(map(len, values.values())) for values in runs.values()]
    validated = [f"val_{metric}" in values for values in runs.values()]
    drawn = []
    for number, (name, values) in enumerate(runs.items()):
        told = validated[number]
        again, colour = divmod(number, len(style.SEVERAL))
        drawn.append(
            curve(
                ax,
                values[f"val_{metric}" if told else metric],
                lengths[number],  # a shorter run ends where it ended
                color=style.SEVERAL[colour],
                linestyle=("-", "--", ":", "-.")[again % 4],
                linewidth=2.0,
                marker="o" if max(lengths) < 15 else None,
                label=name
                if told or not any(validated)
                else f"{name} (training)",
            )
        )
    title = f"{'validation' if any(validated) else 'training'} {metric}"
    finish(ax, title, max(lengths), np.concatenate(drawn))
    if len(runs) <= 4 and sum(map(len, runs)) <= 48:
        style.key(ax, columns=4)
    else:
        style.side_key(ax)
