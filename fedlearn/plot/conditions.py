"""A simulated run by the hours of its clock."""

from typing import Any

import numpy as np

from fedlearn.plot import style


def conditions(history: Any, ax: Any = None) -> Any:
    """Draws rounds an hour, and what became of those that were asked.

    Args:
        history: What `process.fit(..., conditions=...)` returned, or its
            `history`: a list of values for each name.
        ax: Axes for the rounds alone; None for new ones, and others for the
            clients beside them.

    Returns:
        The axes; a list of them if `ax` is None.

    Raises:
        ValueError: If the run had no conditions.

    Example:

    >>> axes = conditions({"sim_hours": [0.2, 0.7, 1.5, 3.1]})
    >>> [axis.get_title(loc="left") for axis in axes]
    ['Rounds an hour']
    """
    values = getattr(history, "history", history)
    if not values.get("sim_hours"):
        raise ValueError(
            "The history has no `sim_hours`. Train under conditions: "
            "`process.fit(..., conditions=fl.conditions.Phones())`."
        )
    hours = np.asarray(values["sim_hours"], float)
    edges = np.arange(int(hours[0]), int(hours[-1]) + 2)

    def by_hour(numbers: Any = None) -> np.ndarray:
        return np.histogram(hours, edges, weights=numbers)[0]

    told = ax is None and "num_asked" in values
    if ax is not None:
        axes = [ax]
    else:
        axes = style.new_axes(6.5 * (1 + told), 3.6, 1 + told)
    axes[0].stairs(by_hour(), edges, color=style.BLUE, linewidth=2.0)
    _finish(axes[0], "Rounds an hour", edges)
    if told:
        asked, late, dropped = (
            by_hour(values[f"num_{name}"])
            for name in ("asked", "late", "dropped")
        )
        layers = {
            "dropped out": (asked, style.PALE_ORANGE),
            "late": (asked - dropped, style.ORANGE),
            "in time": (asked - dropped - late, style.BLUE),
        }
        for label, (top, colour) in layers.items():
            axes[1].stairs(top, edges, fill=True, color=colour, label=label)
        _finish(axes[1], "Clients an hour", edges)
        style.key(axes[1], columns=3)
    return axes if ax is None else ax


def _finish(ax: Any, title: str, edges: np.ndarray) -> None:
    style.tidy(ax)
    style.title(ax, title)
    span = int(edges[-1] - edges[0])
    every = next(n for n in (1, 3, 6, 12, 24, 72, 168, span) if span / n <= 10)
    first = -(-int(edges[0]) // every) * every
    ticks = range(first, int(edges[-1]) + 1, every)
    # The day begins again, so that one sees when it is night.
    ax.set_xticks(ticks, [str(t % 24 if every < 24 else t) for t in ticks])
    unit = "hour of the day" if every < 24 else "hours since midnight"
    ax.set_xlabel(unit, color=style.GREY)
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(bottom=0)
