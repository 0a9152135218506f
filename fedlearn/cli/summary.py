"""What a run came to, as tables on the terminal."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from fedlearn.cli import aggregation
from fedlearn.cli import data as cli_data
from fedlearn.cli.algorithms import ALGORITHMS
from fedlearn.cli.run_folder import RunFolder
from fedlearn.cli.units import counted, duration, in_bytes, metric
from fedlearn.metrics.per_client import DECILES


def headline(config: Mapping[str, Any], num_rounds: int) -> str:
    """A line with the facts of a run."""
    flags = config["flags"]
    title = ALGORITHMS[flags["algorithm"]].title
    # Privacy draws each client by its own coin: the number varies.
    about = "about " if config.get("privacy") else ""
    text = (
        f"{title} on {cli_data.title(flags)}, "
        f"{counted(num_rounds, 'round')} of "
        f"{about}{flags['clients_per_round']} of "
        f"{counted(config['num_clients'], 'client')}"
    )
    aggregated = aggregation.title(flags)
    if aggregated:
        text += f", {aggregated}"
    seconds = config.get("seconds")
    return f"{text}, trained in {duration(seconds)}" if seconds else text


def results(
    history: Mapping[str, Sequence[float]], evaluation: Mapping[str, Any]
) -> list[str]:
    """Training and test metrics side by side, and the bytes."""
    names = list(evaluation["statistics"])
    table = [["", "train", "test"]]
    for name in names:
        values = history.get(name)
        table.append(
            [
                name,
                metric(values[-1]) if values else "-",
                metric(_number(evaluation.get(name))),
            ]
        )
    lines = [
        *_aligned(table),
        "  (train: the clients of the last round, while they trained;",
        "   test: all test clients, with the final model)",
    ]
    up, down = history.get("bytes_up"), history.get("bytes_down")
    if up and down:
        sent = num_sent(history)
        lines += [
            "",
            *_aligned(
                [
                    ["bytes", "up", "down"],
                    [
                        "a client a round",
                        in_bytes(sum(up) / sent),
                        in_bytes(sum(down) / sent),
                    ],
                    ["in all", in_bytes(sum(up)), in_bytes(sum(down))],
                ]
            ),
        ]
    return lines


def num_sent(history: Mapping[str, Sequence[float]]) -> float:
    """How many messages clients sent in all; at least 1, to divide by.

    Example:

    >>> num_sent({"num_clients": [3.0, 2.0], "num_rejected": [0.0, 1.0]})
    6.0
    """
    # Private runs may keep to themselves who was rejected.
    rejected = history.get("num_rejected", ())
    return max(sum(history["num_clients"]) + sum(rejected), 1.0)


def privacy(config: Mapping[str, Any]) -> list[str]:
    """What a private run promises, and of what budget; else nothing."""
    plan = config.get("privacy")
    if not plan:
        return []
    norm = plan["clip_norm"]
    clip = norm if norm == "adaptive" else format(norm, "g")
    text = (
        f"Privacy: epsilon {plan['spent']:.4g} "
        f"({plan['spent_with'].upper()}) at delta {plan['delta']:.3g}, for a "
        "client with all of its data, there or not; each takes part by its "
        f"own coin (Poisson sampling); clip norm {clip}, noise of "
        f"{plan['noise_multiplier']:.4g} times it, found with "
        f"{plan['accountant'].upper()} for a budget of {plan['epsilon']:g} in "
        f"{counted(plan['rounds'], 'round')}."
    )
    return [*(f"  {line}" for line in textwrap.wrap(text, 76)), ""]


def per_client(evaluation: Mapping[str, Any]) -> list[str]:
    """How metrics are spread over the test clients."""
    spread = evaluation["statistics"]
    if not spread:
        return ["  no client has test examples"]
    columns = ("mean", "std", "min", "max")
    title = f"over {counted(int(evaluation['num_clients']), 'client')}"
    table = [[title, *columns]] + [
        [name, *(metric(_number(values[c])) for c in columns)]
        for name, values in spread.items()
    ]
    deciles = [["deciles", *(f"{i}0%" for i in range(1, 10))]] + [
        [name, *(_short(_number(values[d])) for d in DECILES)]
        for name, values in spread.items()
    ]
    return [*_aligned(table), "", *_aligned(deciles, gap=2, first=9)]


def files(folder: RunFolder, names: Mapping[str, str]) -> list[str]:
    """Which files are where, with what each is good for."""
    width = max(map(len, names))
    return [
        f"  Files in {folder.path}:",
        *(f"    {name:{width}}  {what}" for name, what in names.items()),
    ]


def _short(value: float) -> str:
    # Nine deciles in 80 columns leave 5 characters each.
    return f"{value:.3f}" if 5e-4 <= abs(value) < 10 else f"{value:.3g}"


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _aligned(
    table: list[list[str]], gap: int = 4, first: int = 17
) -> list[str]:
    """Columns: the first to the left, the others to the right."""
    first = max(first, *(len(row[0]) for row in table))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)][1:]
    return [
        "  "
        + f"{row[0]:{first}}"
        + "".join(
            " " * gap + f"{cell:>{width}}"
            for cell, width in zip(row[1:], widths, strict=True)
        )
        for row in table
    ]
