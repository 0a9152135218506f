from typing import Any, NamedTuple

from fedlearn.keras_model.functional_model import Arrays


class Message(NamedTuple):
    """What a client sends to the server at the end of its round.

    Attributes:
        update: As the aggregator's encoders make it.
        told: What is sent as it is: the variables of metrics, then layers'
            statistics that are averaged.
        num_examples: -1 if the update isn't finite: the client is left out.
    """

    update: Any
    told: Arrays
    num_examples: Any
