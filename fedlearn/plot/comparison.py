"""Models beside one another, and which can't be told apart."""

from typing import Any

from fedlearn.plot import style


def comparison(comparison: Any, ax: Any = None) -> Any:
    """Draws how far each model is from the best, on the same clients.

    A row a model, the best at the top: the paired difference from the best
    and its interval, and the model's own mean at the right. Contenders, which
    can't be told from the best, are blue.

    Args:
        comparison: From `fl.evaluate_many`.
        ax: Axes to draw on; None for new ones.

    Returns:
        The axes.

    Raises:
        TypeError: If it isn't a comparison.

    Example:

    >>> from fedlearn.many_models.comparison import Comparison
    >>> clients = {"anna": 0.5, "ben": 0.7, "cleo": 0.6}
    >>> axes = comparison(Comparison({"a": clients, "b": clients}, "accuracy"))
    >>> axes.get_title(loc="left"), axes.get_xlabel()
    ('Accuracy of 2 models', 'difference from a')
    """
    if not hasattr(comparison, "contenders"):
        raise TypeError(
            "`comparison` must be what `fl.evaluate_many` returned. Received: "
            f"{type(comparison).__name__}."
        )
    names = [n for n in comparison.ranking if n not in comparison.failed]
    if not names:
        raise ValueError("No model's metric is a finite number.")
    if ax is None:
        (ax,) = style.new_axes(6.5, 1.4 + 0.3 * len(names))
    across = {"transform": ax.get_yaxis_transform(), "va": "center"}
    means = [comparison.mean[n] for n in names]
    share = style.is_share(comparison.metric, means)
    first = names[0]
    for row, name in enumerate(names):
        contends = name in comparison.contenders
        colour = style.BLUE if contends else style.GREY
        told = comparison.paired(name, first)
        if told.standard_error > 0:
            ax.plot(told.interval, [row, row], color=colour, linewidth=1.6)
        ax.plot(told.difference, row, "o", color=colour, markersize=6)
        mean = means[row]
        text = f"{100 * mean:.1f}%" if share else f"{mean:.3g}"
        ax.text(1.02, row, text, ha="left", color=style.INK, **across)
    style.tidy(ax, grid="x")
    ax.axvline(0, color=style.GREY, linewidth=1, zorder=0)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlabel(f"difference from {first}", color=style.GREY)
    if share:
        style.percent(ax.xaxis)
    clients = len(comparison.client_ids)
    note = f"{clients:,} clients, intervals of {comparison.confidence:.0%}; "
    if comparison.best is None:
        note += f"{len(comparison.contenders)} can't be told apart"
    else:
        note += f"the best is {comparison.best}"
    if comparison.failed:
        note += f"; {len(comparison.failed)} failed"
    metric = style.words(comparison.metric)
    style.title(ax, f"{metric} of {len(comparison.models)} models", note)
    return ax
