"""How a metric is spread over clients."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedlearn.metrics.per_client import FEW
from fedlearn.plot import style


def per_client(
    evaluation: Any, metric: str = "accuracy", ax: Any = None
) -> Any:
    """Draws a metric over clients, each counting once.

    Up to 20 clients are bars with names and numbers of examples, sorted by
    the metric, and a line at the mean. More are a histogram with mean, median
    and the nine deciles. Where clients have models of their own, the server's
    is beside them, a diamond a client or an outline.

    Args:
        evaluation: From `process.evaluate` or `fl.evaluate` with
            `per_client=True`; or what `process.fit` returned, where it kept
            validation by client: its last values are drawn.
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
    clients = _clients_of(evaluation)
    clients = {i: c for i, c in clients.items() if c["num_examples"]}
    first = next(iter(clients.values()), {})
    names = [n for n in first if n != "num_examples"]
    if metric not in names:
        raise ValueError(
            f"The evaluation has no metric {metric!r}. It has: "
            f"{', '.join(names) or 'no client with examples'}."
        )
    found = {i: c for i, c in clients.items() if _is_finite(c[metric])}
    if not found:
        raise ValueError(f"No client's {metric!r} is a finite number.")
    title = f"Clients by {style.words(metric).lower()}"
    if left_out := len(clients) - len(found):
        title += f" ({left_out} not finite)"
    servers = {}
    if isinstance(evaluation, Mapping) and "global" in evaluation:
        servers = evaluation["global"]["per_client"]
    beside = {
        i: float(c[metric])
        for i, c in servers.items()
        if i in found and _is_finite(c[metric])
    }
    numbers = {i: float(c[metric]) for i, c in found.items()}
    share = style.is_share(metric, [*numbers.values(), *beside.values()])
    few = len(found) <= FEW
    if ax is None:
        height = 1.2 + 0.26 * len(found) if few else 3.8
        (ax,) = style.new_axes(7.6 if beside else 6, height)
    if few:
        sizes = {i: int(c["num_examples"]) for i, c in found.items()}
        _bars(ax, numbers, beside, sizes, share)
    else:
        _histogram(ax, numbers, beside, share)
    style.title(ax, title)
    style.key(ax, columns=3)
    if share:
        style.percent(ax.xaxis)
    return ax


def _clients_of(evaluation: Any) -> Mapping[str, Mapping[str, Any]]:
    if isinstance(evaluation, Mapping):
        clients = evaluation.get("per_client")
        way = "Evaluate with `per_client=True`."
    else:
        kept = getattr(evaluation, "per_client", {})
        clients = {
            client_id: {name: values[-1] for name, values in c.items()}
            for client_id, c in kept.items()
        }
        way = (
            "`fit` keeps those of 2 to 20 validation clients. For others "
            "draw `process.evaluate(clients, per_client=True)`."
        )
    if not clients:
        raise ValueError(f"There are no metrics of single clients here. {way}")
    return clients


def _is_finite(value: float | None) -> bool:
    return value is not None and bool(np.isfinite(value))


def _text(value: float, share: bool) -> str:
    return f"{100 * value:.1f}%" if share else f"{value:.3g}"


def _bars(
    ax: Any,
    found: Mapping[str, float],
    beside: Mapping[str, float],
    sizes: Mapping[str, int],
    share: bool,
) -> None:
    # The first is at the bottom.
    names = sorted(found, key=lambda name: found[name])
    values = np.array([found[name] for name in names])
    ax.barh(range(len(names)), values, height=0.8, color=style.PALE_BLUE)
    spread = f"mean {_text(values.mean(), share)}"
    spread += f", std {_text(values.std(), share)}"
    ax.axvline(values.mean(), color=style.ORANGE, linewidth=1.6, label=spread)
    if beside:
        rows = [y for y, name in enumerate(names) if name in beside]
        others = np.array([beside[names[y]] for y in rows])
        told = f"the server's, mean {_text(others.mean(), share)}"
        ax.plot(others, rows, "D", color=style.BLUE, markersize=4, label=told)
    # Names stand in the bars, so that the axes are as wide as others, and
    # there is room at the right for a column of numbers.
    drawn = [0.0, *values, *beside.values()]
    low, high = min(drawn), max(drawn)
    high = 1 if share else high
    ax.set_xlim(low, high + 0.16 * ((high - low) or 1))
    style.tidy(ax, grid="x")
    ax.set_yticks([])
    ax.set_xticks([t for t in ax.get_xticks() if low <= t <= high])
    across = {"transform": ax.get_yaxis_transform(), "va": "center"}
    for y, (name, value) in enumerate(zip(names, values, strict=True)):
        named = f"{name} (n = {sizes[name]:,})"
        ax.text(0.012, y, named, fontsize=9.5, **across)
        ax.text(0.99, y, _text(value, share), ha="right", **across)


def _histogram(
    ax: Any,
    found: Mapping[str, float],
    beside: Mapping[str, float],
    share: bool,
) -> None:
    values = np.array(list(found.values()))
    others = np.array(list(beside.values()))
    drawn = [*values, *others]
    low, high = float(min(drawn)), float(max(drawn))
    if share:
        # Steps of 5 %, or of 2 % where all clients are close together.
        step = 0.02 if low > 0.8 else 0.05
        first = max(min(np.floor(low / step) * step, 1 - 6 * step), 0)
        edges = np.linspace(first, 1, round((1 - first) / step) + 1)
    else:
        edges = np.linspace(low, high if high > low else low + 1, 21)
    ax.hist(values, edges, color=style.PALE_BLUE, edgecolor="white")
    if beside:
        told = f"the server's, mean {_text(others.mean(), share)}"
        outline = {"histtype": "step", "color": style.INK, "label": told}
        ax.hist(others, edges, **outline)
    deciles = np.quantile(values, np.arange(1, 10) / 10)
    mean, std, median = (
        _text(v, share) for v in (values.mean(), values.std(), deciles[4])
    )
    told = f"median {median}, and deciles"
    ax.axvline(
        values.mean(), color=style.ORANGE, label=f"mean {mean}, std {std}"
    )
    ax.axvline(deciles[4], color=style.BLUE, label=told)
    # A mark of their own in the key would look like a further decile.
    top = ax.get_xaxis_transform()
    ax.plot(deciles, [0.96] * 9, "|", c=style.BLUE, ms=9, transform=top)
    style.tidy(ax)
    # Not 2.5, which percent without decimals don't show.
    ax.xaxis.get_major_locator().set_params(steps=[1, 2, 5, 10])
    ax.margins(y=0.12)
    ax.yaxis.get_major_locator().set_params(integer=True)
