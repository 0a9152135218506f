"""A whole run as one picture."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedlearn.plot import style
from fedlearn.plot.by_round import finish
from fedlearn.plot.by_round import history as draw_history
from fedlearn.plot.labels import labels as draw_labels
from fedlearn.plot.per_client import per_client as draw_per_client

_LEFT, _RIGHT = 0.045, 0.965
_FONTS: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 10.5,
    "axes.labelsize": 10.5,
    "legend.fontsize": 9.5,
}


def run_picture(
    title: str,
    subtitle: str,
    corner: str,
    facts: Sequence[tuple[str, str]],
    history: Mapping[str, Sequence[float]],
    evaluation: Mapping[str, Any],
    dataset: Any,
    privacy: Mapping[str, Any] | None = None,
) -> bytes:
    """A PNG of 1600 x 1000 pixels.

    Args:
        title: In large letters.
        subtitle: Below it.
        corner: At the right, small.
        facts: Numbers and what they are, in a line.
        history: A list of values for each metric.
        evaluation: By client, on test data; see `fedlearn.evaluate`.
        dataset: The training data, for its labels.
        privacy: `epsilon`, the budget for so many `rounds`, and `spent`.
    """
    # Without pyplot: no window system, and nothing of the process changes.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    with rc_context(_FONTS):
        figure = Figure(figsize=(16.0, 10.0), dpi=100, facecolor="white")
        FigureCanvasAgg(figure)

        def write(x, y, text, size, colour, **kind):
            kind = {"fontsize": size, "color": colour, "va": "center", **kind}
            figure.text(x, y, text, **kind)

        write(_LEFT, 0.943, title, 25, style.INK, fontweight="bold")
        write(_LEFT, 0.905, subtitle, 11.5, style.GREY)
        write(_RIGHT, 0.943, corner, 10, style.GREY, ha="right")
        for i, (value, label) in enumerate(facts):
            x = _LEFT + i * (_RIGHT - _LEFT) / len(facts)
            write(x, 0.843, value, 18.5, style.BLUE, fontweight="bold")
            write(x, 0.812, label, 9.5, style.GREY)
        for y in (0.875, 0.788):
            figure.add_artist(
                Line2D([_LEFT, _RIGHT], [y, y], color=style.FAINT, lw=1.2)
            )
        room = {"left": _LEFT, "top": 0.705, "bottom": 0.07}
        room["right"] = _RIGHT - 0.033  # the labels' bars stick out
        gaps = {"wspace": 0.19, "hspace": 0.52, "width_ratios": (1, 1, 0.95)}
        panels = figure.add_gridspec(2, 3, **room, **gaps)

        def at(*place):
            return figure.add_subplot(panels[place])

        first = next(iter(metrics(evaluation)), None)
        _metric(at(0, 0), history, "loss")
        if first:
            _metric(at(0, 1), history, first)
        draw_per_client(evaluation, first or "loss", at(1, 0))
        _traffic(at(1, 1), history)
        if privacy:
            _epsilon(at(0, 2), history, privacy)
        _labels(at(1 if privacy else slice(None), 2), dataset)
        png = io.BytesIO()
        figure.savefig(png, format="png", metadata={"Software": "fedlearn"})
    return png.getvalue()


def metrics(evaluation: Mapping[str, Any]) -> list[str]:
    """Names of an evaluation's metrics but the loss, accuracies first."""
    names = [n for n in evaluation["statistics"] if n != "loss"]
    return sorted(names, key=lambda name: "acc" not in name)


def _metric(ax, history, name):
    if name in history or f"val_{name}" in history:
        draw_history(history, name, ax)
        return
    # A private run may tell nothing of its training.
    style.tidy(ax)
    style.title(ax, style.words(name), "not measured")


_DASHED = {"linestyle": (0, (2.5, 2.5)), "linewidth": 2.0}


def _traffic(ax, history):
    if not history.get("bytes_up"):
        style.tidy(ax)
        style.title(ax, "Bytes", "not measured")
        return
    from matplotlib.ticker import EngFormatter

    up, down = (np.nancumsum(history[f"bytes_{d}"]) for d in ("up", "down"))
    rounds = range(1, len(up) + 1)
    ax.plot(rounds, up, color=style.BLUE, linewidth=3.0, label="up")
    ax.plot(rounds, down, color=style.ORANGE, label="down", **_DASHED)
    ax.yaxis.set_major_formatter(EngFormatter("B"))
    finish(ax, "Bytes so far, all clients", len(up), up)
    style.key(ax, columns=2)


def _epsilon(ax, history, privacy):
    spent, last = history["epsilon"], len(history["epsilon"])
    budget = f"budget for {privacy['rounds']:,} rounds"
    ax.axhline(privacy["epsilon"], color=style.ORANGE, label=budget, **_DASHED)
    marker = "o" if last < 15 else None
    line = {"linewidth": 3.0, "marker": marker, "markersize": 4}
    rounds = range(1, last + 1)
    ax.plot(rounds, spent, color=style.BLUE, label="by RDP", **line)
    end = "in the end, tighter, by PLD"
    mark = {"marker": "D", "markersize": 6, "clip_on": False}
    ax.plot(last, privacy["spent"], **mark, color=style.INK, ls="", label=end)
    finish(ax, "Epsilon so far", last, spent)
    style.key(ax, columns=3)


def _labels(ax, dataset):
    try:
        draw_labels(dataset, ax)
    except ValueError:  # no classes: how many examples, instead
        sizes = sorted((dataset.num_examples(i) for i in dataset), reverse=True)
        ax.fill_between(
            range(1, len(sizes) + 1), sizes, step="mid", color=style.PALE_BLUE
        )
        style.tidy(ax)
        style.title(ax, "Examples of each client", "largest first")
        ax.set_xlabel("client", color=style.GREY)
        ax.set_ylim(bottom=0)
