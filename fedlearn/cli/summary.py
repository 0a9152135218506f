"""What a run came to, as tables on the terminal."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedlearn.cli import data as cli_data
from fedlearn.cli.units import counted, duration, in_bytes, metric
from fedlearn.metrics.per_client import DECILES
from fedlearn.names import ALGORITHMS


def title(flags: Mapping[str, Any]) -> str:
    """The algorithm, as papers write it, and the data.

    >>> title({"algorithm": "fedadam", "dataset": "digits"})
    'FedAdam on digits'
    """
    algorithm = ALGORITHMS[flags["algorithm"]].makes.partition(":")[2]
    return f"{algorithm} on {cli_data.title(flags)}"


def aggregation(flags: Mapping[str, Any]) -> str:
    """How updates become one, for people; empty for a plain mean.

    >>> aggregation({"aggregator": "krum:2", "compress": "eden:2"})
    'krum:2, eden:2'
    """
    words = []
    # Runs of earlier versions lack some.
    if flags.get("aggregator", "mean") != "mean":
        words.append(flags["aggregator"])
    if flags.get("compress"):
        feedback = " with error feedback" if flags.get("error_feedback") else ""
        words.append(flags["compress"] + feedback)
    return ", ".join(words)


def begin(config: Mapping[str, Any]) -> Iterator[str]:
    """What is going to be trained."""
    flags, plan = config["flags"], config["privacy"]
    on = title(flags).replace(
        " on ",
        f" with {flags['model']} ({config['num_parameters']:,} parameters) on ",
        1,
    )
    yield (
        f"{on}: {counted(flags['rounds'], 'round')}, each with "
        f"{'about ' if plan else ''}{flags['clients_per_round']} of "
        f"{config['num_clients']} clients; {config['backend']}"
    )
    if plan:
        yield (
            f"Noise of {plan['noise_multiplier']:.4g} times the clip norm "
            f"keeps epsilon at {plan['epsilon']:g}, delta {plan['delta']:.3g} "
            f"(found with {plan['accountant'].upper()}, Poisson sampling)"
        )


def lines(
    config: Mapping[str, Any],
    history: Mapping[str, Sequence[float]],
    evaluation: Mapping[str, Any],
) -> Iterator[str]:
    """A line with the facts of a run, and tables of what came of it."""
    flags = config["flags"]
    # Privacy draws each client by its own coin: the number varies.
    facts = (
        f"{title(flags)}, {counted(len(history['round']), 'round')} of "
        f"{'about ' if config.get('privacy') else ''}"
        f"{flags['clients_per_round']} of "
        f"{counted(config['num_clients'], 'client')}",
        aggregation(flags),
        config.get("seconds") and f"trained in {duration(config['seconds'])}",
    )
    yield ", ".join(filter(None, facts))
    yield ""
    yield from _results(history, evaluation)
    yield ""
    if config.get("privacy"):
        yield from _privacy(config["privacy"])
    yield from per_client(evaluation)
    yield ""


def _results(history, evaluation):
    """Training and test metrics side by side, and the bytes."""
    table = [["", "train", "test"]]
    for name in evaluation["statistics"]:
        values = history.get(name)
        table.append(
            [
                name,
                metric(values[-1]) if values else "-",
                metric(_number(evaluation.get(name))),
            ]
        )
    yield from _aligned(table)
    yield "  (train: the clients of the last round, while they trained;"
    yield "   test: all test clients, with the final model)"
    both = [history.get("bytes_up"), history.get("bytes_down")]
    if all(both):
        sent = num_sent(history)
        each = [in_bytes(sum(b) / sent) for b in both]
        total = [in_bytes(sum(b)) for b in both]
        table = [["bytes", "up", "down"], ["a client a round", *each]]
        yield ""
        yield from _aligned([*table, ["in all", *total]])


def num_sent(history: Mapping[str, Sequence[float]]) -> float:
    """How many messages clients sent in all; at least 1, to divide by.

    >>> num_sent({"num_clients": [3.0, 2.0], "num_rejected": [0.0, 1.0]})
    6.0
    """
    # Private runs may keep to themselves who was rejected.
    rejected = history.get("num_rejected", ())
    return max(sum(history["num_clients"]) + sum(rejected), 1.0)


def _privacy(plan):
    """What a private run promises, and of what budget."""
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
    yield from (f"  {line}" for line in textwrap.wrap(text, 76))
    yield ""


def per_client(evaluation: Mapping[str, Any]) -> Iterator[str]:
    """How metrics are spread over the test clients."""
    spread = evaluation["statistics"]
    if not spread:
        yield "  no client has test examples"
        return
    columns = ("mean", "std", "min", "max")
    title = f"over {counted(int(evaluation['num_clients']), 'client')}"
    yield from _aligned(
        [
            [title, *columns],
            *(
                [name, *(metric(_number(values[c])) for c in columns)]
                for name, values in spread.items()
            ),
        ]
    )
    yield ""
    deciles = [["deciles", *(f"{i}0%" for i in range(1, 10))]]
    for name, values in spread.items():
        numbers = [_number(values[d]) for d in DECILES]
        # Nine of them in 80 columns leave 5 characters each.
        deciles.append(
            [
                name,
                *(
                    f"{v:.3f}" if 5e-4 <= abs(v) < 10 else f"{v:.3g}"
                    for v in numbers
                ),
            ]
        )
    yield from _aligned(deciles, gap=2, first=9)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _aligned(table, gap=4, first=17):
    """Columns: the first to the left, the others to the right."""
    first = max(first, *(len(row[0]) for row in table))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for name, *cells in table:
        yield f"  {name:{first}}" + "".join(
            " " * gap + f"{cell:>{width}}"
            for cell, width in zip(cells, widths[1:], strict=True)
        )
