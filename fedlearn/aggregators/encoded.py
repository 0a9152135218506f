"""What aggregators share whose clients encode their updates."""

from typing import Any

from fedlearn.aggregators.aggregator import Aggregator
from fedlearn.encoders.chain import Chain, Encoders
from fedlearn.encoders.encoder import Spec, Value


class Encoded(Aggregator):
    """An aggregator whose clients encode their updates: `Mean`, and rules.

    A client's message is `(encoded, stats)`: what is decoded at the server,
    and what is summed for the encoders' next state. Each subclass says where
    it decodes, and what it does then.

    Args:
        encoders: Clients encode left to right, the server decodes right to
            left.

    Raises:
        TypeError: If an element of `encoders` isn't an `Encoder`.
        ValueError: If their order can't work.
    """

    def __init__(self, encoders: Encoders = ()):
        self._chain = Chain(encoders)
        self.encoders = self._chain.encoders
        self.stateful = self._chain.stateful
        self.variable_length = self._chain.variable_length

    def init(self, spec: Spec) -> Any:
        return self._chain.init(spec)

    def params(self, state: Any, seed: Any) -> Any:
        return self._chain.params(state, seed)

    def encode(self, update: Value, params: Any, seed: Any) -> Any:
        return self._chain.encode(update, params, seed)

    def init_client(self, spec: Spec) -> Any:
        return self._chain.init_client(spec)

    def encode_stateful(
        self, update: Value, params: Any, seed: Any, client_state: Any
    ) -> tuple[Any, Any]:
        if not self.stateful:
            return self.encode(update, params, seed), client_state
        encoded, stats, client_state = self._chain.encode_stateful(
            update, params, seed, client_state
        )
        return (encoded, stats), client_state

    def to_wire(self, message: Any) -> Any:
        encoded, stats = message
        return self._chain.to_wire(encoded), stats

    def draw(self, state: Any, rng: Any) -> Any:
        return self._chain.draw(state, rng)
