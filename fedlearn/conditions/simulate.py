from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fedlearn import checks, serialization
from fedlearn.conditions.attendance import Attendance
from fedlearn.conditions.conditions import Conditions
from fedlearn.conditions.fleet import Fleet
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.names import CONDITIONS
from fedlearn.samplers import Uniform


class Simulated(NamedTuple):
    """Rounds in which nobody trained.

    Attributes:
        history: A list of values for each name that `fit` logs of conditions,
            and `num_clients`.
        attendance: Who took part, and who never did.
        cohorts: Who counts in each round.
    """

    history: dict[str, list[float]]
    attendance: Attendance
    cohorts: list[list[str]]


def simulate(
    conditions: str | Conditions,
    clients: Any,
    rounds: int,
    clients_per_round: int,
    bytes_down: float = 0.0,
    bytes_up: float = 0.0,
    seed: int = 0,
) -> Simulated:
    """The rounds of `fit(..., conditions=...)` without any training.

    Says in seconds what a run would take in days, and who would be left out.
    With the seed, the bytes and the numbers of examples of a run it has that
    run's clients.

    Args:
        conditions: What clients are like, as for `fit`.
        clients: A `FederatedDataset`; a dict from clients' ids to how many
            examples they train on (times the local epochs); or ids alone.
        rounds: How many.
        clients_per_round: How many are waited for, whoever they are.
        bytes_down: What each client downloads.
        bytes_up: What each client uploads.
        seed: Of the run.

    Raises:
        ValueError: If nobody asks for work, or too few report ever again.

    Example:

    >>> from fedlearn.conditions import Conditions
    >>> given = Conditions(durations=60.0, over_select=1.3)
    >>> found = simulate(given, map(str, range(50)), 3, clients_per_round=10)
    >>> [round(hours, 3) for hours in found.history["sim_hours"]]
    [0.017, 0.033, 0.05]
    >>> found.history["num_late"]
    [3.0, 3.0, 3.0]
    """
    given: Conditions = serialization.get(
        conditions, CONDITIONS, Conditions, "conditions"
    )
    sampler = Uniform(clients, clients_per_round, seed=seed)
    num_trained: Callable[[str], int | None]
    if isinstance(clients, FederatedDataset):
        num_trained = clients.num_examples
    else:
        numbers = clients.values() if isinstance(clients, Mapping) else ()
        num_trained = dict(zip(sampler.client_ids, numbers, strict=False)).get
    for name, sent in (("bytes_down", bytes_down), ("bytes_up", bytes_up)):
        checks.number(name, sent)
    fleet = Fleet(given, sampler, sampler.client_ids)
    kept, logs, cohorts = fleet.initialize(), [], []
    for round_num in range(checks.whole("rounds", rounds, least=0)):
        kept, ids, figures = fleet.round(
            kept, round_num, seed, num_trained, bytes_down, bytes_up
        )
        logs.append({**figures, "num_clients": float(len(ids))})
        cohorts.append(ids)
    history = {name: [one[name] for one in logs] for name in (logs or [{}])[0]}
    return Simulated(history, fleet.attendance(kept), cohorts)
