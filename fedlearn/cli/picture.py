"""The picture of a run."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedlearn.cli.summary import aggregation, num_sent, title
from fedlearn.cli.units import duration, in_bytes
from fedlearn.plot import history as draw_history
from fedlearn.plot import labels as draw_labels
from fedlearn.plot import per_client as draw_per_client
from fedlearn.plot import style

_WIDTH, _HEIGHT, _DPI = 16.0, 10.0, 100  # 1600 pixels wide
_LEFT, _RIGHT = 0.045, 0.965


def draw(
    config: Mapping[str, Any],
    history: Mapping[str, Sequence[float]],
    evaluation: Mapping[str, Any],
    dataset: Any,
) -> bytes:
    """The run as a PNG.

    Args:
        config: From `config.json`.
        history: A list of values a metric.
        evaluation: By client, on test data.
        dataset: The training data, for its labels.
    """
    # Without pyplot: no window system, and nothing of the process changes.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(
        {
            "font.family": ["DejaVu Sans"],
            "font.size": 10.5,
            "axes.labelsize": 10.5,
            "legend.fontsize": 9.5,
        }
    ):
        figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=_DPI, facecolor="white")
        FigureCanvasAgg(figure)
        _headline(figure, config, history)
        _facts(figure, config, history, evaluation)
        panels = figure.add_gridspec(
            2,
            3,
            left=_LEFT,
            # The labels' bars stick out.
            right=_RIGHT - 0.033,
            top=0.705,
            bottom=0.07,
            wspace=0.19,
            hspace=0.52,
            width_ratios=(1, 1, 0.95),
        )
        names = _metrics(evaluation)
        _metric(figure.add_subplot(panels[0, 0]), history, "loss")
        second = names[0] if names else "loss"
        if names:
            _metric(figure.add_subplot(panels[0, 1]), history, second)
        draw_per_client(evaluation, second, figure.add_subplot(panels[1, 0]))
        _traffic(figure.add_subplot(panels[1, 1]), history)
        if config.get("privacy"):
            _epsilon(figure.add_subplot(panels[0, 2]), config, history)
            _labels(figure.add_subplot(panels[1, 2]), dataset)
        else:
            _labels(figure.add_subplot(panels[:, 2]), dataset)
        png = io.BytesIO()
        figure.savefig(png, format="png", metadata={"Software": "fedlearn"})
    return png.getvalue()


def _metric(ax, history, name) -> None:
    if name in history or f"val_{name}" in history:
        draw_history(history, name, ax)
        return
    # A private run may tell nothing of its training.
    style.tidy(ax)
    style.title(ax, style.words(name), "not measured")


def _metrics(evaluation: Mapping[str, Any]) -> list[str]:
    names = [n for n in evaluation["statistics"] if n != "loss"]
    return sorted(names, key=lambda name: "acc" not in name)


def _headline(figure, config, history) -> None:
    flags = config["flags"]
    figure.text(
        _LEFT,
        0.943,
        title(flags),
        fontsize=25,
        fontweight="bold",
        color=style.INK,
        va="center",
    )
    num_rounds = len(history["round"])
    passes = "pass" if flags["epochs"] == 1 else "passes"
    about = "about " if config.get("privacy") else ""
    aggregated = aggregation(flags)
    aggregated = f"{aggregated}   ·   " if aggregated else ""
    figure.text(
        _LEFT,
        0.905,
        f"{_model(flags['model'])}, {config['num_parameters']:,} parameters"
        f"   ·   {num_rounds:,} rounds of {about}"
        f"{flags['clients_per_round']:,} of "
        f"{config['num_clients']:,} clients   ·   {flags['epochs']} {passes} "
        f"in batches of {flags['batch_size']}   ·   "
        f"client {config['optimizers']['client']}, "
        f"server {config['optimizers']['server']}   ·   "
        f"{aggregated}{config['backend']}",
        fontsize=11.5,
        color=style.GREY,
        va="center",
    )

    started = config["started"][:10]
    figure.text(
        _RIGHT,
        0.943,
        f"fedlearn {config['fedlearn']}   ·   {started}",
        fontsize=10,
        color=style.GREY,
        va="center",
        ha="right",
    )


def _model(name: str) -> str:
    return name if len(name) <= 30 else "…" + name[-29:]


def _facts(figure, config, history, evaluation) -> None:
    facts = []
    names = _metrics(evaluation)
    if names and evaluation.get(names[0]) is not None:
        name = names[0]
        spread = evaluation["statistics"][name]

        def text(value):
            share = style.is_share(name, [spread["min"], spread["max"]])
            return f"{100 * value:.1f}%" if share else f"{value:.4g}"

        facts += [
            (text(evaluation[name]), f"test {name.replace('_', ' ')}"),
            (text(spread["decile_1"]), "10th percentile of clients"),
            (text(spread["min"]), "worst client"),
        ]
    if evaluation.get("loss") is not None:
        facts.append((f"{evaluation['loss']:.3g}", "test loss"))
    plan = config.get("privacy")
    if plan:
        facts.append(
            (
                f"ε {plan['spent']:.3g}",
                f"of {plan['epsilon']:g}, at delta {plan['delta']:.2g}",
            )
        )
    if config.get("seconds"):
        facts.append((duration(config["seconds"]), "training time"))
    if history.get("bytes_up"):
        sent = num_sent(history)
        for direction in ("up", "down"):
            numbers = history[f"bytes_{direction}"]
            facts.append(
                (
                    in_bytes(np.nansum(numbers)),
                    f"{direction}, {in_bytes(np.nansum(numbers) / sent)} a "
                    "message",
                )
            )
    step = (_RIGHT - _LEFT) / len(facts)
    for i, (value, label) in enumerate(facts):
        x = _LEFT + i * step
        figure.text(
            x,
            0.843,
            value,
            fontsize=18.5,
            fontweight="bold",
            color=style.BLUE,
            va="center",
        )
        figure.text(
            x, 0.812, label, fontsize=9.5, color=style.GREY, va="center"
        )
    from matplotlib.lines import Line2D

    for y in (0.875, 0.788):
        figure.add_artist(
            Line2D([_LEFT, _RIGHT], [y, y], color=style.FAINT, linewidth=1.2)
        )


def _traffic(ax, history) -> None:
    style.tidy(ax)
    if not history.get("bytes_up"):
        style.title(ax, "Bytes", "not measured")
        return
    from matplotlib.ticker import FuncFormatter

    rounds = np.arange(1, len(history["bytes_up"]) + 1)
    lines = (
        ("bytes_up", "up", style.BLUE, "-", 3.0),
        ("bytes_down", "down", style.ORANGE, (0, (2.5, 2.5)), 2.0),
    )
    for name, label, colour, dashes, width in lines:
        total = np.nancumsum(history[name])
        ax.plot(
            rounds,
            total,
            color=colour,
            linestyle=dashes,
            linewidth=width,
            label=label,
        )
    style.title(ax, "Bytes so far, all clients")
    style.key(ax, columns=2)
    ax.yaxis.set_major_formatter(FuncFormatter(_byte_tick))
    ax.set_ylim(bottom=0)
    ax.set_xlim(0 if len(rounds) > 14 else 0.5, len(rounds) + 0.5)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_xlabel("round", color=style.GREY)


def _epsilon(ax, config, history) -> None:
    plan = config["privacy"]
    style.tidy(ax)
    spent = np.asarray(history["epsilon"], float)
    rounds = np.arange(1, len(spent) + 1)
    ax.axhline(
        plan["epsilon"],
        color=style.ORANGE,
        linewidth=2.0,
        linestyle=(0, (2.5, 2.5)),
        label=f"budget for {plan['rounds']:,} rounds",
    )
    ax.plot(
        rounds,
        spent,
        color=style.BLUE,
        linewidth=3.0,
        label="by RDP",
        marker="o" if len(rounds) < 15 else None,
        markersize=4,
    )
    ax.plot(
        rounds[-1:],
        [plan["spent"]],
        color=style.INK,
        marker="D",
        markersize=6,
        linestyle="none",
        label="in the end, tighter, by PLD",
        clip_on=False,
    )
    style.title(ax, "Epsilon so far")
    style.key(ax, columns=3)
    ax.set_ylim(bottom=0)
    ax.set_xlim(0 if len(rounds) > 14 else 0.5, len(rounds) + 0.5)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_xlabel("round", color=style.GREY)


def _byte_tick(value: float, position: int | None = None) -> str:
    del position
    number, unit = in_bytes(value).split()
    return f"{float(number):g} {unit}" if value else "0"


def _labels(ax, dataset) -> None:
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
