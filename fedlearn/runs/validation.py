from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras

from fedlearn import checks
from fedlearn.data.class_names import listed
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.metrics.per_client import FEW

if TYPE_CHECKING:
    from fedlearn.messages.server_state import ServerState
    from fedlearn.process import LearningProcess

# What an evaluation gives beside the model's metrics.
_BESIDE_METRICS = ("num_clients", "num_examples", "per_client", "statistics")


class Validation:
    """Evaluations during a run, as `validation_data` of `fit` asks for.

    `per_client` has the metrics of each client, where they are few. Refuses
    data whose labels number classes otherwise than those of `clients`, and
    clients whose metrics are to be private.
    """

    def __init__(
        self,
        data: Any,
        frequency: int | Sequence[int],
        process: "LearningProcess",
        clients: Any,
        class_names: tuple[str, ...] | None,
    ):
        self._data = _clients(data)
        self._frequency = frequency
        if isinstance(frequency, int):
            checks.whole("validation_freq", frequency)
        _check_class_names(class_names, self._data)
        private = process.privacy.private_metrics
        if private and self._data is not None:
            _check_private(clients, self._data)
        self._by_name = (
            not private and data is not None and 1 < len(self._data) <= FEW
        )
        self.per_client: dict[str, dict[str, list[float]]] = {}

    def logs(
        self, process: "LearningProcess", state: "ServerState"
    ) -> dict[str, float]:
        """`val_*` of a state; nothing where none is due."""
        if self._data is None or not self._is_due(int(state.round_num)):
            return {}
        metrics = process._validate(state, self._data, per_client=self._by_name)
        for client_id, values in metrics.get("per_client", {}).items():
            kept = self.per_client.setdefault(client_id, {})
            for name, value in values.items():
                kept.setdefault(name, []).append(value)
        return {
            f"val_{name}": value
            for name, value in metrics.items()
            if name not in _BESIDE_METRICS
        }

    def _is_due(self, round_num: int) -> bool:
        if isinstance(self._frequency, int):
            return round_num % self._frequency == 0
        return round_num in self._frequency


def _clients(data: Any) -> Any:
    if data is None or isinstance(data, Mapping | list):
        return data
    # Pooled data are no client of a list, who would have a model of its own.
    if isinstance(data, tuple) or hasattr(data, "element_spec"):
        return {"validation_data": data}
    raise TypeError(
        "`validation_data` must be a FederatedDataset, a list of client data "
        f"sets, or one pooled `(x, y)` tuple. Received: {type(data).__name__}."
    )


def _check_class_names(ours: tuple[str, ...] | None, data: Any) -> None:
    theirs = getattr(data, "class_names", None)
    if ours is not None and theirs is not None and ours != theirs:
        raise ValueError(
            "The labels of `data` and `validation_data` number their classes "
            f"differently: {listed(ours)} and {listed(theirs)}. Make both of "
            "one data set (`split` or `split_examples`), or give both the "
            "same `class_names=[...]` when they are made."
        )


def _check_private(data: Any, validation: Any) -> None:
    """Raises ValueError if metrics of the clients themselves would be logged.

    They are told by their ids, and by their very arrays; copies aren't.
    """
    ours, theirs = _named(data), _named(validation)
    known = []
    if isinstance(data, Mapping) and isinstance(validation, Mapping):
        known = sorted(ours.keys() & theirs.keys())
    if not known:
        arrays = set().union(*ours.values())
        known = [name for name, own in theirs.items() if own & arrays]
    if known:
        raise ValueError(
            f"`validation_data` has clients that are trained on, such as "
            f"{known[0]!r} ({len(known):,} of {len(theirs):,}), and its "
            "metrics are exact, which private_metrics=True is to rule out. "
            "Validate on other clients (`train, held_out = data.split(0.9)`), "
            "or on public examples, as one pooled `(x, y)` tuple."
        )


def _named(clients: Any) -> dict[str, set[int]]:
    """Of each client, which objects it is made of, where they are at hand."""
    if isinstance(clients, FederatedDataset):
        return {client_id: set() for client_id in clients}
    pairs = (
        clients.items() if isinstance(clients, Mapping) else enumerate(clients)
    )
    return {
        str(name): {
            id(part)
            for part in keras.tree.flatten(item)
            if hasattr(part, "shape") or hasattr(part, "element_spec")
        }
        for name, item in pairs
    }
