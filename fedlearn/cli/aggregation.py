"""What `--aggregator` makes of the clients' updates."""

from collections.abc import Mapping
from typing import Any

from fedlearn.cli import compression
from fedlearn.cli.errors import UsageError


def aggregator(flags: Any, privacy: Mapping[str, Any] | None) -> Any:
    """The aggregator of a run.

    Args:
        flags: With `aggregator`, `clients_per_round` and what
            `compression.FLAGS` names.
        privacy: The plan of a private run, from `privacy.plan`; or None.

    Raises:
        UsageError: If flags don't go together, or a round has fewer clients
            than the aggregator needs.
        ValueError: If the aggregator can't be made; says why.
    """
    from fedlearn import aggregators

    links = compression.encoders(flags)
    if privacy is not None:
        return aggregators.PrivateMean(
            privacy["clip_norm"],
            noise_multiplier=privacy["noise_multiplier"],
            clients_per_round=flags.clients_per_round,
            encoders=links,
        )
    arguments: dict[str, Any] = {"encoders": links}
    if flags.aggregator.partition(":")[0] == "secure_sum":
        arguments["clients_per_round"] = flags.clients_per_round
    made = aggregators.get(flags.aggregator, **arguments)
    needed = getattr(made, "num_required", 1)
    if needed > flags.clients_per_round:
        raise UsageError(
            f"--aggregator={flags.aggregator} needs at least {needed} clients "
            f"a round, and --clients_per_round={flags.clients_per_round}. "
            "Draw more clients, or expect fewer malicious ones."
        )
    return made


def title(flags: Mapping[str, Any]) -> str:
    """How updates become one, for people; empty for a plain mean.

    Args:
        flags: Values by name; those of earlier versions lack some.

    Example:

    >>> title({"aggregator": "krum:2", "compress": "eden:2"})
    'krum:2, eden:2'
    >>> title({"aggregator": "mean", "compress": None})
    ''
    """
    words = []
    if flags.get("aggregator", "mean") != "mean":
        words.append(flags["aggregator"])
    if flags.get("compress"):
        feedback = " with error feedback" if flags.get("error_feedback") else ""
        words.append(flags["compress"] + feedback)
    return ", ".join(words)
