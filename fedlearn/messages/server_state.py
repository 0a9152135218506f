from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fedlearn.keras_model.functional_model import Arrays

if TYPE_CHECKING:
    from fedlearn.runs.client_states import ClientStates


class ServerState(NamedTuple):
    """Everything that a process remembers from round to round.

    A pytree of arrays; `process.save_state` writes it to a file.

    Attributes:
        trainable: One array for each of `model.trainable_variables`.
        non_trainable: One array for each of `model.non_trainable_variables`.
        optimizer: The variables of the server's optimizer.
        aggregator: The state of the aggregator and its encoders.
        client_states: What stateful clients keep, by client id, a
            `fedlearn.runs.client_states.ClientStates`; empty for clients
            without state.
        round_num: The number of rounds done, an int64 scalar.
        seed: The run's seed, an int64 scalar.
        algorithm: What the algorithm keeps at the server.
        schedule: What `fit` remembers from turn to turn besides, such as the
            clock of simulated conditions and who is under way: nested dicts
            of arrays.
    """

    trainable: Arrays
    non_trainable: Arrays
    optimizer: Arrays
    aggregator: Any
    client_states: "ClientStates"
    round_num: np.ndarray
    seed: np.ndarray
    algorithm: Any = ()
    schedule: Any = ()
