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
    algorithm, _, data = title(flags).partition(" on ")
    yield (
        f"{algorithm} with {flags['model']} ({config['num_parameters']:,} "
        f"parameters) on {data}: {counted(flags['rounds'], 'round')}, each "
        f"with {_cohort(config)} of {config['num_clients']} clients; "
        f"{config['backend']}"
    )
    if plan:
        yield (
            f"Noise of {plan['noise_multiplier']:.4g} times the clip norm "
            f"keeps epsilon at {plan['epsilon']:g}, delta {plan['delta']:.3g} "
            f"(found with {plan['accountant'].upper()}, Poisson sampling)"
        )


def _cohort(config):
    # Privacy draws each client by its own coin: the number varies.
    about = "about " if config.get("privacy") else ""
    return f"{about}{config['flags']['clients_per_round']}"


def lines(
    config: Mapping[str, Any],
    history: Mapping[str, Sequence[float]],
    evaluation: Mapping[str, Any],
) -> Iterator[str]:
    """A line with the facts of a run, and tables of what came of it."""
    facts = [
        title(config["flags"]),
        f"{counted(len(history['round']), 'round')} of {_cohort(config)} of "
        f"{counted(config['num_clients'], 'client')}",
        aggregation(config["flags"]),
    ]
    if config.get("seconds"):
        facts.append(f"trained in {duration(config['seconds'])}")
    yield ", ".join(filter(None, facts))
    yield ""
    yield from _aligned(
        ["", "train", "test"],
        *(
            [
                name,
                metric(history[name][-1]) if history.get(name) else "-",
                _metric(evaluation.get(name)),
            ]
            for name in evaluation["statistics"]
        ),
    )
    yield "  (train: the clients of the last round, while they trained;"
    yield "   test: all test clients, with the final model)"
    yield ""
    both: Any = [history.get("bytes_up"), history.get("bytes_down")]
    if all(both):
        sent = num_sent(history)
        yield from _aligned(
            ["bytes", "up", "down"],
            ["a client a round", *(in_bytes(sum(b) / sent) for b in both)],
            ["in all", *(in_bytes(sum(b)) for b in both)],
        )
        yield ""
    if config.get("privacy"):
        text = _privacy(config["privacy"])
        yield from (f"  {line}" for line in textwrap.wrap(text, 76))
        yield ""
    yield from per_client(evaluation)
    yield ""


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
    return (
        f"Privacy: epsilon {plan['spent']:.4g} "
        f"({plan['spent_with'].upper()}) at delta {plan['delta']:.3g}, for a "
        "client with all of its data, there or not; each takes part by its "
        "own coin (Poisson sampling); clip norm "
        f"{norm if norm == 'adaptive' else format(norm, 'g')}, noise of "
        f"{plan['noise_multiplier']:.4g} times it, found with "
        f"{plan['accountant'].upper()} for a budget of {plan['epsilon']:g} in "
        f"{counted(plan['rounds'], 'round')}."
    )


def per_client(evaluation: Mapping[str, Any]) -> Iterator[str]:
    """How metrics are spread over the test clients."""
    spread = evaluation["statistics"]
    if not spread:
        yield "  no client has test examples"
        return
    columns = ("mean", "std", "min", "max")
    yield from _aligned(
        [f"over {counted(int(evaluation['num_clients']), 'client')}", *columns],
        *([n, *(_metric(v[c]) for c in columns)] for n, v in spread.items()),
    )
    yield ""
    yield from _aligned(
        ["deciles", *(f"{i}0%" for i in range(1, 10))],
        *([n, *(_short(v[d]) for d in DECILES)] for n, v in spread.items()),
        gap=2,
        first=9,
    )


def _metric(value: float | None) -> str:
    return metric(float("nan") if value is None else value)


def _short(value: float | None) -> str:
    # Nine deciles in 80 columns leave 5 characters each.
    if value is None:
        return "nan"
    return f"{value:.3f}" if 5e-4 <= abs(value) < 10 else f"{value:.3g}"


def _aligned(*table, gap=4, first=17):
    """Columns: the first to the left, the others to the right."""
    first = max(first, *(len(row[0]) for row in table))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for name, *cells in table:
        yield f"  {name:{first}}" + "".join(
            " " * gap + f"{cell:>{width}}"
            for cell, width in zip(cells, widths[1:], strict=True)
        )
