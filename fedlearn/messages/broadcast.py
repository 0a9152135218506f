"""What the server sends to every client of a round."""

from typing import Any, NamedTuple

from fedlearn.keras_model.functional_model import Arrays


class Broadcast(NamedTuple):
    """What the server sends to every client of a round.

    Attributes:
        trainable: The model's trainable weights.
        non_trainable: Its other variables.
        learning_rate: A float32 scalar for the clients' optimizer, where a
            schedule counts rounds; `()` otherwise.
        params: What the aggregator and its encoders tell clients.
    """

    trainable: Arrays
    non_trainable: Arrays
    learning_rate: Any
    params: Any
