"""How much noise a budget asks for."""

from collections.abc import Mapping
from typing import Any

from absl import flags as absl_flags

from fedlearn.cli.errors import UsageError
from fedlearn.cli.flag_types import Choice, Positive, define
from fedlearn.cli.units import counted

FLAGS = (
    "dp_epsilon",
    "dp_delta",
    "dp_clip_norm",
    "dp_accountant",
    "dp_private_metrics",
    "dp_secure_noise",
)


def define_flags(values: absl_flags.FlagValues) -> None:
    """Defines the flags that `FLAGS` names."""
    define(
        values,
        "dp_epsilon",
        None,
        "train with differential privacy for clients: clip updates, add the "
        "least noise with which all rounds keep to this epsilon, and let each "
        "client take part by its own coin (default: no noise)",
        Positive(),
    )
    define(
        values,
        "dp_delta",
        None,
        "the delta of the guarantee (default: clients**-1.1)",
        Positive(),
    )
    define(
        values,
        "dp_clip_norm",
        None,
        "the largest L2 norm of an update (default: one that follows the "
        "median of the updates' norms)",
        Positive(),
    )
    define(
        values,
        "dp_accountant",
        "rdp",
        "what finds the noise: rdp, which epsilon by round is logged with; or "
        "pld, less noise, after a minute",
        Choice(("rdp", "pld")),
    )
    absl_flags.DEFINE_bool(
        "dp_private_metrics",
        False,
        "leave out the metrics of clients' training, which are exact",
        flag_values=values,
    )
    absl_flags.DEFINE_bool(
        "dp_secure_noise",
        False,
        "draw noise from the operating system's entropy, not from the seed",
        flag_values=values,
    )


def check(flags: Any) -> None:
    """Raises UsageError where flags contradict each other."""
    if flags.dp_epsilon is None:
        given = [n for n in FLAGS if n in flags.given]
        if given:
            raise UsageError(
                f"--{given[0]} is for private training. Add --dp_epsilon."
            )
    elif flags.aggregator != "mean":
        raise UsageError(
            "--dp_epsilon adds noise to the mean of clipped updates, and "
            f"--aggregator={flags.aggregator} isn't that. Leave one of them "
            "out."
        )


def plan(
    flags: Any, population: int, before: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """The noise of a run and what it was calibrated for; None without.

    Args:
        flags: With what `FLAGS` names, `rounds` and `clients_per_round`.
        population: How many clients there are.
        before: The plan that the run began with; None for a fresh one.

    Raises:
        UsageError: If a run that goes on would pass its budget.
        ValueError: If there is no such noise.
        ImportError: If dp-accounting isn't installed.
    """
    if flags.dp_epsilon is None:
        return None
    if before is not None:
        if flags.rounds > before["rounds"]:
            raise UsageError(
                f"the noise of this run keeps epsilon at {before['epsilon']:g} "
                f"for {counted(before['rounds'], 'round')}, and "
                f"--rounds={flags.rounds} would spend more. Give another "
                "--output_dir for a run of its own."
            )
        return dict(before)
    from fedlearn.privacy import plan as planned_for

    planned = planned_for(
        epsilon=flags.dp_epsilon,
        delta=flags.dp_delta,
        rounds=flags.rounds,
        population=population,
        clients_per_round=flags.clients_per_round,
        accountant=flags.dp_accountant,
        clip_norm=flags.dp_clip_norm or "adaptive",
    )
    return {
        "epsilon": flags.dp_epsilon,
        "delta": planned.delta,
        "rounds": planned.rounds,
        "sampler": planned.sampler_name,
        "clip_norm": planned.clip_norm,
        "accountant": flags.dp_accountant,
        "noise_multiplier": planned.noise_multiplier,
    }


def told(plan: Mapping[str, Any]) -> str:
    """A line about the noise."""
    return (
        f"Noise of {plan['noise_multiplier']:.4g} times the clip norm keeps "
        f"epsilon at {plan['epsilon']:g}, delta {plan['delta']:.3g} (found "
        f"with {plan['accountant'].upper()}, Poisson sampling)"
    )
