"""What goes to and fro in a round, and how many bytes it is."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from fedlearn import backend
from fedlearn.aggregators.aggregator import Aggregator
from fedlearn.encoders.chain import Chain
from fedlearn.encoders.encoder import Encoder, Memory, Noise, Wire
from fedlearn.keras_model.functional_model import FunctionalModel
from fedlearn.messages import wire
from fedlearn.messages.broadcast import Broadcast


class Traffic:
    """What goes to and fro in a round, and how many bytes it is.

    Nothing is estimated: messages are written out as they would be sent, and
    measured. A message of fixed shapes and dtypes has a fixed length, so one
    of its kind is written, once.

    Args:
        aggregator: Whose messages go up.
        model: Whose metrics go up with them.
        broadcast_encoders: What happens to the weights on their way down.
        averages_statistics: Whether layers' statistics go up and down, as
            they are.

    Raises:
        ValueError: If one of these does what a broadcast has no place for.
    """

    def __init__(
        self,
        aggregator: Aggregator,
        model: FunctionalModel,
        broadcast_encoders: Sequence[Encoder],
        averages_statistics: bool,
    ):
        self._aggregator = aggregator
        self._model = model
        self._down = _download_chain(broadcast_encoders)
        self._send = backend.jit(self._send_fn)
        self._statistics = model.roles.state if averages_statistics else ()
        self._sizes: dict[str, int] = {}

    def send(self, trainable: Any, seed: np.ndarray) -> Any:
        """The weights as clients decode them.

        Args:
            trainable: The server's.
            seed: An int32 array of shape `(2,)`, of this round.
        """
        if not self._down.encoders:
            return trainable
        return self._send(trainable, seed)[1]

    def _send_fn(self, trainable, seed):
        spec = [keras.KerasTensor(w.shape, w.dtype) for w in trainable]
        down = self._down.build(spec)
        params = down.params(down.init(), seed)
        encoded, _, _ = down.encode(list(trainable), params, seed)
        return encoded, down.decode(encoded, params)

    def bytes_down(self, broadcast: Broadcast) -> int:
        """What one client is sent.

        What is the same in all rounds (frozen weights, an adapted layer's
        mean) comes with the model, once, and isn't counted.
        """
        broadcast = broadcast._replace(
            non_trainable=[broadcast.non_trainable[i] for i in self._statistics]
        )
        if not self._down.encoders:
            return self._measure("down", lambda: backend.to_numpy(broadcast))
        rest = broadcast._replace(trainable=[])
        size = self._measure("down", lambda: backend.to_numpy(rest))
        return size + self._measure(
            "weights", lambda: self._weights(broadcast.trainable)
        )

    def _weights(self, trainable: Any) -> Any:
        encoded, _ = self._send(trainable, np.zeros(2, np.int32))
        return self._down.to_wire(backend.to_numpy(encoded))

    def bytes_up(self, message: Callable[[], Any]) -> int:
        """What one client sends, where all send as much.

        Args:
            message: Makes a client's message.
        """
        return self._measure(
            "up", lambda: self._upload(backend.to_numpy(message()))
        )

    def bytes_of(self, message: Any) -> int:
        """What one client sends, where lengths differ."""
        return len(wire.to_bytes(self._upload(message)))

    def _upload(self, message: Any) -> Any:
        # Asked for here: metrics have variables only after a first batch.
        metrics = [
            np.zeros(v.shape, v.dtype) for v in self._model.metrics_variables
        ]
        num_examples = np.asarray(0, np.int32)
        variables = self._model.model.non_trainable_variables
        statistics = [
            np.zeros(variables[i].shape, variables[i].dtype)
            for i in self._statistics
        ]
        sent = self._aggregator.to_wire(message), metrics, num_examples
        return (*sent, *statistics)

    def _measure(self, kind: str, message: Callable[[], Any]) -> int:
        if kind not in self._sizes:
            self._sizes[kind] = len(wire.to_bytes(message()))
        return self._sizes[kind]


def _download_chain(encoders: Sequence[Encoder]) -> Chain:
    for encoder in encoders:
        varies = isinstance(encoder, Wire) and encoder.varies
        if isinstance(encoder, (Noise, Memory)) or varies:
            raise ValueError(
                f"`broadcast_encoders` can't contain {type(encoder).__name__}:"
                " a broadcast has no sum to add noise to, keeps nothing, and "
                "has messages of one length."
            )
    return Chain(encoders)
