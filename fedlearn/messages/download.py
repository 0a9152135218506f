from collections.abc import Sequence
from typing import Any

import numpy as np

from fedlearn import backend
from fedlearn.encoders.chain import Chain
from fedlearn.encoders.encoder import Encoder, Memory, Noise, Spec, Wire
from fedlearn.keras_model.functional_model import Arrays


class Download:
    """Encoded weights: made at the server, decoded by each client.

    Refuses encoders that do what a broadcast has no place for.
    """

    def __init__(self, encoders: Sequence[Encoder], spec: Spec):
        for encoder in encoders:
            varies = isinstance(encoder, Wire) and encoder.varies
            if isinstance(encoder, (Noise, Memory)) or varies:
                raise ValueError(
                    "`broadcast_encoders` can't contain "
                    f"{type(encoder).__name__}: a broadcast has no sum to add "
                    "noise to, keeps nothing, and has messages of one length."
                )
        chain = self._chain = Chain(encoders).build(spec)

        def params(seed):
            return chain.params(chain.init(), seed)

        self._encode = backend.jit(
            lambda weights, seed: chain.encode(weights, params(seed), seed)[0]
        )
        self._decode = backend.jit(
            lambda encoded, seed: chain.decode(encoded, params(seed))
        )

    def encode(self, weights: Arrays, seed: Any) -> Any:
        """What is sent of the server's weights, before it is packed.

        With encoders also the seed that decodes it.
        """
        if not self._chain.encoders:
            return weights
        return {"encoded": self._encode(list(weights), seed), "seed": seed}

    def decode(self, sent: Any) -> Arrays:
        """The weights of what `encode` gave."""
        if not self._chain.encoders:
            return sent
        return list(self._decode(sent["encoded"], sent["seed"]))

    def send(self, weights: Arrays, seed: np.ndarray) -> Any:
        """What is really sent of the server's weights.

        With encoders NumPy arrays.
        """
        sent = self.encode(weights, seed)
        if not self._chain.encoders:
            return sent
        encoded = self._chain.to_wire(backend.to_numpy(sent["encoded"]))
        return {**sent, "encoded": encoded}

    def receive(self, sent: Any) -> Arrays:
        """The weights that a client makes of what was sent."""
        if not self._chain.encoders:
            return sent
        encoded = self._chain.from_wire(
            sent["encoded"], self._chain.encoded_spec()
        )
        return self.decode({**sent, "encoded": encoded})
