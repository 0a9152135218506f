"""What a search of hyper-parameters tried, and what came of it."""

from typing import Any

from fedlearn.plot import style


def search(search: Any, ax: Any = None, num_named: int = 5) -> Any:
    """Draws the metric of each candidate by the rounds it was trained.

    Args:
        search: From `fl.search`.
        ax: Axes to draw on; None for new ones.
        num_named: How many of the best have a colour and a name, and are
            seen whole; the others are grey.

    Returns:
        The axes.

    Raises:
        TypeError: If it isn't a search.

    Example:

    >>> from fedlearn.many_models.comparison import Comparison
    >>> from fedlearn.many_models.search import Rung, Search
    >>> found = Comparison({"lr=1": {"anna": 0.5}, "lr=2": {"anna": 0.7}})
    >>> tried = {"lr=1": {"lr": 1}, "lr=2": {"lr": 2}}
    >>> axes = search(Search(tried, [Rung(3, found)], 30, 30, process=None))
    >>> [text.get_text() for text in axes.get_legend().get_texts()]
    ['lr=1', 'lr=2']
    """
    if not hasattr(search, "rungs"):
        raise TypeError(
            "`search` must be what `fl.search` returned. Received: "
            f"{type(search).__name__}."
        )
    if ax is None:
        (ax,) = style.new_axes(7.5, 3.8)
    metric = search.comparison.metric
    best = [r["candidate"] for r in search.rows if not r["failed"]][:num_named]
    drawn: list[float] = []
    others = [name for name in search.candidates if name not in best]
    for place, name in enumerate([*others, *best], start=-len(others)):
        points = [
            (rung.rounds, rung.comparison.mean[name])
            for rung in search.rungs
            if name in rung.alive
        ]
        line: dict[str, Any] = {"color": style.FAINT, "zorder": 1}
        if place >= 0:
            colour = style.SEVERAL[place % len(style.SEVERAL)]
            label = name if len(name) <= 40 else f"{name[:39]}…"
            line = {"color": colour, "label": label, "zorder": 99 - place}
        ax.plot([x for x, _ in points], [y for _, y in points], "o-", **line)
        drawn += [y for _, y in points] if place >= 0 else []
    # Others may be so bad that nothing else would be seen.
    room = 0.1 * (max(drawn) - min(drawn)) or 1e-3
    ax.set_ylim(min(drawn) - room, max(drawn) + room)
    style.tidy(ax)
    ax.set_xlabel("rounds", color=style.GREY)
    ax.xaxis.get_major_locator().set_params(integer=True)
    if style.is_share(metric, drawn):
        style.percent(ax.yaxis)
    style.side_key(ax)
    note = (
        f"{len(search.candidates)} candidates, {search.spent:,} client rounds"
    )
    if failed := sum(row["failed"] for row in search.rows):
        note += f", {failed} failed"
    style.title(ax, f"Validation {metric}", note)
    return ax
