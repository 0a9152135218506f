from typing import Any, NamedTuple

from fedlearn.keras_model.functional_model import Arrays


class Broadcast(NamedTuple):
    """What the server sends to every client of a round.

    Attributes:
        trainable: The trained weights that clients share, as
            `broadcast_encoders` make them.
        statistics: Layers' statistics that are averaged.
        learning_rate: A float32 scalar for the clients' optimizer, where a
            schedule counts rounds; `()` otherwise.
        params: What the aggregator and its encoders tell clients.
        algorithm: What the algorithm tells clients.
        resident: All of the model's variables, `(trainable, non_trainable)`,
            for what isn't in the other fields: frozen weights, and what is
            personal at first. It came with the model and isn't sent again:
            `()` in what is. Without it clients take what the model held when
            their process was built.
    """

    trainable: Any
    statistics: Arrays
    learning_rate: Any
    params: Any
    algorithm: Any = ()
    resident: tuple[Arrays, Arrays] | tuple[()] = ()

    @property
    def sent(self) -> "Broadcast":
        """What is sent in each round: for `fedlearn.messages.wire.pack`."""
        return self._replace(resident=())


class Received(NamedTuple):
    """A broadcast as a client has it, decoded: a value for each variable."""

    trainable: Arrays
    non_trainable: Arrays
    learning_rate: Any
    params: Any
    algorithm: Any = ()
