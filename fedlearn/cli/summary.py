"""What a run came to, as tables on the terminal."""

import datetime
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedlearn.advice.units import counted, in_bytes
from fedlearn.cli import data as cli_data
from fedlearn.names import ALGORITHMS

_SPREAD = {
    "mean": "mean",
    "std": "std",
    "min": "min",
    "decile_1": "10%",
    "decile_5": "50%",
    "decile_9": "90%",
    "max": "max",
}


def title(flags: Mapping[str, Any]) -> str:
    """The algorithm, as papers write it, and the data.

    >>> title({"algorithm": "fedadam:0.1", "dataset": "digits"})
    'FedAdam on digits'
    """
    name = flags["algorithm"].partition(":")[0]
    algorithm = ALGORITHMS[name].makes.partition(":")[2]
    return f"{algorithm} on {cli_data.title(flags)}"


def aggregation(flags: Mapping[str, Any]) -> str:
    """How updates become one, for people; empty for a plain mean."""
    words = []
    # Runs of earlier versions lack some.
    if flags.get("aggregator", "mean") != "mean":
        words.append(flags["aggregator"])
    if flags.get("compress"):
        feedback = " with error feedback" if flags.get("error_feedback") else ""
        words.append(flags["compress"] + feedback)
    return ", ".join(words)


def cohort(config: Mapping[str, Any]) -> str:
    """How many clients of how many take part in a round."""
    # Privacy draws each client by its own coin: the number varies.
    return (
        f"{'about ' if config.get('privacy') else ''}"
        f"{config['flags']['clients_per_round']:,} of "
        f"{counted(config['num_clients'], 'client')}"
    )


def duration(config: Mapping[str, Any]) -> str:
    """How long a run has trained, as hours:minutes:seconds."""
    return str(datetime.timedelta(seconds=round(config.get("seconds", 0))))


def lines(
    config: Mapping[str, Any],
    history: Mapping[str, Sequence[float]],
    evaluation: Mapping[str, Any],
) -> Iterator[str]:
    """The facts of a run, and tables of what came of it."""
    facts = [
        title(config["flags"]),
        f"{counted(len(history['round']), 'round')} of {cohort(config)}",
        aggregation(config["flags"]),
        f"trained in {duration(config)}",
    ]
    yield ", ".join(filter(None, facts))
    yield ""
    # The clients of the last round, while they trained; and all test clients,
    # with the final model.
    yield _row("", "last round", "test")
    for name in evaluation["statistics"]:
        trained = history.get(name, [None])[-1]
        yield _row(name, _number(trained), _number(evaluation.get(name)))
    yield ""
    for direction in ("up", "down"):
        if sent := sum(history.get(f"bytes_{direction}", ())):
            each = in_bytes(sent / num_sent(history, direction))
            yield f"  {in_bytes(sent)} {direction}, {each} a client a round"
    if hours := history.get("sim_hours"):
        yield f"  {hours[-1]:,.1f} hours by the simulated clock"
    if attendance := config.get("attendance"):
        yield f"  {attendance}"
    if plan := config.get("privacy"):
        yield from textwrap.wrap(
            f"Epsilon {plan['spent']:.4g} ({plan['spent_with'].upper()}) at "
            f"delta {plan['delta']:.3g}, for a client with all of its data; "
            f"clip norm {plan['clip_norm']}, noise of "
            f"{plan['noise_multiplier']:.4g} times it, found with "
            f"{plan['accountant'].upper()} for a budget of "
            f"{plan['epsilon']:g} in {counted(plan['rounds'], 'round')}.",
            width=78,
            initial_indent="  ",
            subsequent_indent="  ",
        )
    yield ""
    yield from per_client(evaluation)
    yield ""


def num_sent(
    history: Mapping[str, Sequence[float]], direction: str = "up"
) -> float:
    """How many messages were sent in all; at least 1, to divide by."""
    if direction == "down" and "num_asked" in history:
        return max(sum(history["num_asked"]), 1.0)
    # Private runs may keep to themselves who was rejected.
    rejected = history.get("num_rejected", ())
    return max(sum(history["num_clients"]) + sum(rejected), 1.0)


def per_client(evaluation: Mapping[str, Any]) -> Iterator[str]:
    """How metrics are spread over the test clients."""
    over = f"over {counted(int(evaluation['num_clients']), 'client')}"
    yield _row(over, *_SPREAD.values())
    for name, spread in evaluation["statistics"].items():
        yield _row(name, *(_number(spread[column]) for column in _SPREAD))


def _number(value: float | None) -> str:
    return "nan" if value is None else f"{value:.4g}"


def _row(name: str, *cells: str) -> str:
    width = 12 if len(cells) < 3 else 8
    return f"  {name:<19}" + "".join(f"{cell:>{width}}" for cell in cells)
