"""What a run came to, as tables on the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedlearn.cli import data as cli_data
from fedlearn.cli.algorithms import ALGORITHMS
from fedlearn.cli.run_folder import RunFolder
from fedlearn.cli.units import counted, duration, in_bytes, metric
from fedlearn.metrics.per_client import DECILES


def headline(config: Mapping[str, Any], num_rounds: int) -> str:
    """A line with the facts of a run."""
    flags = config["flags"]
    title = ALGORITHMS[flags["algorithm"]].title
    text = (
        f"{title} on {cli_data.title(flags)}, "
        f"{counted(num_rounds, 'round')} of {flags['clients_per_round']} of "
        f"{counted(config['num_clients'], 'client')}"
    )
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
        sent = max(history["num_clients"][-1] + history["num_rejected"][-1], 1)
        lines += [
            "",
            *_aligned(
                [
                    ["bytes", "up", "down"],
                    [
                        "a client a round",
                        in_bytes(up[-1] / sent),
                        in_bytes(down[-1] / sent),
                    ],
                    ["in all", in_bytes(sum(up)), in_bytes(sum(down))],
                ]
            ),
        ]
    return lines


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
