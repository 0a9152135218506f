"""How the pictures look: colours that differ for colour-blind eyes, too."""

from typing import Any

# From Okabe and Ito, "Color universal design", 2008: these stay apart under
# the common kinds of colour blindness, and in print by their lightness.
BLUE = "#0072B2"
ORANGE = "#D55E00"
INK = "#1F2933"
GREY = "#66727F"
FAINT = "#E4E7EB"
PALE_BLUE = "#A9CFE6"
PALE_ORANGE = "#F0BF9E"
# For curves beside one another; yellow is too pale for a line.
SEVERAL = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", INK)


def new_axes(width: float, height: float, count: int = 1) -> Any:
    """Axes beside one another in a new figure of that size in inches."""
    from matplotlib import pyplot  # not at import: it takes a second

    figure = pyplot.figure(figsize=(width, height), layout="constrained")
    return list(figure.subplots(1, count, squeeze=False)[0])


def tidy(axes: Any, grid: str = "y") -> None:
    """Leaves of an axes' frame what is needed to read it."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.tick_params(colors=GREY, labelcolor=INK, length=0, pad=5)
    if grid:
        axes.grid(axis=grid, color=FAINT, linewidth=1)
    axes.set_axisbelow(True)


def title(axes: Any, text: str, note: str = "") -> None:
    """A title at the left, and under it a note in grey, or a `key`."""
    font = {"fontweight": "bold", "fontsize": 12}
    axes.set_title(text, loc="left", color=INK, pad=27, **font)
    if note:
        place = {"xycoords": "axes fraction", "textcoords": "offset points"}
        axes.annotate(note, (0, 1), (0, 7), color=GREY, fontsize=9.5, **place)


_KEY: Any = {"frameon": False, "fontsize": 9.5, "labelcolor": GREY}


def key(axes: Any, columns: int) -> None:
    """A legend where a title has its note: no curve can be under it."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=columns,
        borderaxespad=0.35,
        borderpad=0,
        handlelength=1.2,
        handletextpad=0.5,
        columnspacing=1.1,
        **_KEY,
    )


def side_key(axes: Any) -> None:
    """A legend at the right, for many or long labels."""
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), **_KEY)


def words(name: str) -> str:
    """The name of a metric as a person writes it."""
    return name.replace("_", " ").capitalize()


def percent(axis: Any) -> None:
    """Labels an axis of shares in percent."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1, decimals=0))


def is_share(name: str, values: Any) -> bool:
    """Whether a metric is a share of 1, better shown in percent."""
    return "acc" in name and all(0 <= v <= 1 for v in values)
