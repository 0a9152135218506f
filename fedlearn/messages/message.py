"""What a client sends to the server."""

from typing import Any, NamedTuple

from fedlearn.keras_model.functional_model import Arrays


class Message(NamedTuple):
    """What a client sends to the server at the end of its round.

    Attributes:
        update: Its update as the aggregator's encoders make it.
        told: What is sent as it is: the variables of the model's metrics over
            local training, then layers' statistics that are averaged.
        num_examples: How many examples it has, int32; -1 if its update isn't
            finite, so that the server leaves it out.
    """

    update: Any
    told: Arrays
    num_examples: Any
