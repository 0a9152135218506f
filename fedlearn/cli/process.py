"""The process that flags describe."""

from collections.abc import Mapping
from typing import Any

from fedlearn import serialization
from fedlearn.cli import own_data
from fedlearn.cli.flags import UsageError
from fedlearn.datasets.task import Task
from fedlearn.names import ALGORITHMS

# What some algorithms are at the server.
_SERVERS = ("fedavgm", "fedadam", "fedyogi", "fedadagrad", "reptile")
# Whose clients count the same, however many examples they have.
_UNIFORM = (
    *("scaffold", "feddyn", "qfedavg", "agnosticfedavg", "reptile"),
    "fedbuff",
)
# Whose clients keep layers of their own.
_LAYERS = ("fedper", "fedrep", "lgfedavg", "fedrecon")


def process(
    flags: Any, task: Task, model: Any, privacy: Mapping[str, Any] | None
) -> Any:
    """The process of a run."""
    from fedlearn import LocalTraining, optimizers
    from fedlearn.privacy import Privacy

    amounts = task.label is not None and task.label.dtype.kind == "f"
    if amounts and flags.model == own_data.MODEL:
        # Their gradients are of any size: one that isn't misled.
        flags.client_optimizer = flags.client_optimizer or "adam"
        flags.client_learning_rate = flags.client_learning_rate or 0.01
    chosen, rate = flags.client_optimizer, flags.client_learning_rate
    optimizer = None
    if chosen or rate or not model.compiled:
        if chosen in (None, "sgd"):
            chosen, rate = "sgd", rate or task.learning_rate
        optimizer = optimizers.get(chosen, **_given("learning_rate", rate))
    if not model.compiled:
        task.compile(model, optimizer)
    arguments: dict[str, Any] = {}
    algorithm = without_numbers(flags.algorithm)
    server, rate = flags.server_optimizer, flags.server_learning_rate
    if algorithm in _SERVERS:
        arguments = _given("server_learning_rate", rate)
    elif server or rate:
        if server in (None, "sgd"):
            server, rate = "sgd", rate or 1.0
        arguments["server_optimizer"] = optimizers.get(
            server, **_given("learning_rate", rate)
        )
    if algorithm in ("scaffold", "feddyn"):
        arguments["population"] = len(task.train)
    if algorithm == "agnosticfedavg":
        arguments["domains"] = task.train.client_ids
    if algorithm == "fedbuff":
        arguments["buffer_size"] = flags.clients_per_round
    arguments |= _given("proximal", flags.proximal)
    if flags.personal:
        arguments["personal"] = flags.personal.split(",")
    return serialization.make(
        flags.algorithm,
        ALGORITHMS,
        "--algorithm",
        model=model,
        client=LocalTraining(
            optimizer,
            batch_size=flags.batch_size,
            epochs=flags.epochs,
            statistics=flags.statistics,
        ),
        aggregator=_aggregator(flags, privacy),
        privacy=privacy
        and Privacy(
            privacy["delta"], flags.dp_secure_noise, flags.dp_private_metrics
        ),
        executor=flags.executor,
        **arguments,
    )


def without_numbers(name: str) -> str:
    """The algorithm that a string such as `ditto:0.5` names."""
    return name.partition(":")[0]


def check(flags: Any) -> None:
    """Raises a UsageError where flags contradict each other."""
    algorithm = without_numbers(flags.algorithm)
    for name, algorithms in (("proximal", ("fedprox",)), ("personal", _LAYERS)):
        given = getattr(flags, name)
        if given is not None and algorithm not in algorithms:
            raise UsageError(
                f"--{name} is for --algorithm={' or '.join(algorithms)}, not "
                f"{flags.algorithm}."
            )
    if algorithm in _LAYERS and not flags.personal:
        raise UsageError(
            f"--algorithm={flags.algorithm} needs --personal=LAYERS."
        )
    if algorithm in _SERVERS and flags.server_optimizer is not None:
        raise UsageError(
            f"--algorithm={flags.algorithm} is a server optimizer itself. "
            "Leave --server_optimizer out, or choose --algorithm=fedavg."
        )
    private = sorted(name for name in flags.given if name.startswith("dp_"))
    if flags.dp_epsilon is None and private:
        raise UsageError(
            f"--{private[0]} is for private training. Add --dp_epsilon."
        )
    if flags.dp_epsilon is not None and algorithm == "fedbuff":
        raise UsageError(
            "--dp_epsilon plans for clients that are drawn by coins, and of "
            "fedbuff's a fast one may be in every round. Choose another "
            "--algorithm, or plan in Python."
        )
    if flags.conditions and flags.dp_epsilon is not None:
        raise UsageError(
            "--dp_epsilon plans for clients that are drawn by coins, and under "
            "--conditions those count that are there first. Leave one of them "
            "out, or plan in Python."
        )
    if flags.dp_epsilon is not None and flags.aggregator != "mean":
        raise UsageError(
            "--dp_epsilon adds noise to the mean of clipped updates, and "
            f"--aggregator={flags.aggregator} isn't that. Leave one of them "
            "out."
        )


def plan(
    flags: Any, population: int, before: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """The noise of a run and what it was calibrated for; None without."""
    if flags.dp_epsilon is None:
        return None
    if before is not None:
        if flags.rounds > before["rounds"]:
            raise UsageError(
                f"the noise of this run keeps epsilon at {before['epsilon']:g} "
                f"for {before['rounds']:,} rounds, and --rounds={flags.rounds} "
                "would spend more. Give another --output_dir for a run of its "
                "own."
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


def _aggregator(flags: Any, privacy: Mapping[str, Any] | None) -> Any:
    from fedlearn import aggregators

    links = encoders(flags)
    if privacy is not None:
        return aggregators.PrivateMean(
            privacy["clip_norm"],
            noise_multiplier=privacy["noise_multiplier"],
            clients_per_round=flags.clients_per_round,
            encoders=links,
        )
    arguments: dict[str, Any] = {"encoders": links}
    algorithm = without_numbers(flags.algorithm)
    if flags.aggregator == "mean" and algorithm in _UNIFORM:
        arguments["weighting"] = "uniform"
    if flags.aggregator == "mean" and algorithm == "fedbuff":
        arguments["denominator"] = float(flags.clients_per_round)
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


def encoders(flags: Any) -> list[Any]:
    """The chain that `compress` and `error_feedback` name."""
    from fedlearn.encoders import EntropyCoding, ErrorFeedback, chain

    links = list(chain.links(flags.compress or []))
    if not flags.error_feedback:
        return links
    if flags.compress is None:
        raise UsageError(
            "--error_feedback is for what --compress leaves out. Add "
            "--compress, such as --compress=topk:0.01."
        )
    # Entropy coding leaves nothing out, and has to come last.
    inner = [link for link in links if not isinstance(link, EntropyCoding)]
    return [ErrorFeedback(inner), *links[len(inner) :]]


def _given(name: str, value: float | None) -> dict[str, Any]:
    return {} if value is None else {name: value}
