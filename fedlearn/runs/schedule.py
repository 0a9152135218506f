import abc
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from fedlearn.samplers.sampler import Sampler

if TYPE_CHECKING:
    from fedlearn.data.federated_dataset import FederatedDataset
    from fedlearn.messages.server_state import ServerState
    from fedlearn.process import LearningProcess


class Turn(NamedTuple):
    """One change of the server's weights, by these `clients`' updates."""

    state: "ServerState"
    metrics: dict[str, float]
    clients: Mapping[str, Any]


class Schedule(abc.ABC):
    """What `fit` runs, one turn after another.

    Synchronous rounds are one schedule (`Rounds`); clients that come back
    when they are done can be another. `LearningProcess.schedule` names that
    of a process. It holds no state: what it remembers from turn to turn is in
    that of the server, its `schedule`.

    Attributes:
        sampler: How clients take part, for the accounting of privacy; None
            for everyone in every turn.
    """

    sampler: Sampler | None = None

    def initialize(self) -> Any:
        """What it remembers at first: nested dicts, lists, tuples of arrays."""
        return ()

    @abc.abstractmethod
    def next(
        self,
        process: "LearningProcess",
        state: "ServerState",
        data: "FederatedDataset",
    ) -> Turn:
        """The turn that follows a state. Changes nothing that it is given.

        `state.round_num` counts the turns before; `state.schedule` is what it
        remembers, as of `initialize` or of the turn before.
        """

    def facts(self, state: "ServerState") -> dict[str, Any]:
        """What a history has besides numbers, by its attribute; of clients."""
        del state
        return {}


class Rounds(Schedule):
    """Synchronous rounds: a turn is `next` of the clients that are drawn."""

    def __init__(self, sampler: Sampler | None = None):
        self.sampler = sampler

    def next(
        self,
        process: "LearningProcess",
        state: "ServerState",
        data: "FederatedDataset",
    ) -> Turn:
        clients = data
        if self.sampler is not None:
            drawn = self.sampler.sample(int(state.round_num))
            if not drawn:
                return _of_nobody(process, state)
            clients = data.select(drawn)
        state, metrics = process.next(state, clients)
        return Turn(state, metrics, clients)


def _of_nobody(process: "LearningProcess", state: "ServerState") -> Turn:
    """A turn in which nobody takes part, as Poisson sampling may draw.

    A round all the same, with noise if there is some; without, the server stays
    as it is. Nobody's loss is no number, but has its place in the history: a
    plot has a gap there, and a callback that looks for the best value passes
    it over.
    """
    broadcast = process.broadcast(state)
    nobody = process.empty_update(broadcast)
    state, metrics = process.server_update(state, broadcast, nobody)
    for name in set(process.client_metrics) & set(metrics):
        if not name.startswith(("num_", "bytes_")):
            metrics[name] = math.nan
    return Turn(state, metrics, {})
