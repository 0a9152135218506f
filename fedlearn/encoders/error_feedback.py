from typing import Any, Self

from keras import ops

from fedlearn.encoders.chain import Chain, Encoders
from fedlearn.encoders.encoder import (
    Encoder,
    Memory,
    Noise,
    Spec,
    Updated,
    Value,
    Wire,
)


class ErrorFeedback(Encoder, Memory):
    """Adds to an update what earlier messages of the client left out.

    Compression that favours some directions (the largest entries, signs, low
    rank) loses the same things again and again. With error feedback a client
    keeps what was lost, and sends it later: `v = update + e`, the message is
    `C(v)`, and `e = v - decoded(C(v))` is kept for its next round. Seide et
    al. 2014, "1-bit stochastic gradient descent"; Karimireddy et al. 2019,
    "Error feedback fixes SignSGD", algorithm 2, arXiv:1901.09847.

    It is for compression that never loses more than there is: `TopK`,
    `SignSGD`, `PowerSGD`, nearest rounding, `Drive` and `Eden` from one bit
    on. `RandomMask`, `TernGrad` and `StochasticQuantization` with few levels,
    which are unbiased, may lose more: what is kept would grow and grow.

    It is for clients that come back: hospitals, and simulations. A client that
    is seen first starts from zero; of an update that was rejected nothing is
    kept. Each client that ever took part keeps as many bytes as the trainable
    weights have, in `state.client_states` and in checkpoints. For ten thousand
    phones take `Eden` or `Drive`, which are unbiased and keep nothing.

    Args:
        encoders: The compression, a chain of its own.

    Raises:
        TypeError: If an element isn't an `Encoder`.
        ValueError: If a link adds noise, keeps a state at the server, or
            makes messages of differing lengths.

    Example:

    >>> import keras
    >>> feedback = ErrorFeedback("topk:0.5").build([keras.KerasTensor((2,))])
    >>> value, memory = [ops.array([3.0, 4.0])], [ops.array([0.0, 1.0])]
    >>> _, _, kept = feedback.encode_with(value, ((),), None, memory)
    >>> [float(k) for k in kept[0]]
    [3.0, 0.0]
    """

    decodes = "summand"

    def __init__(self, encoders: Encoders):
        self._chain = Chain(encoders)
        self.encoders = self._chain.encoders
        for encoder in self.encoders:
            if why := _refusal(encoder):
                raise ValueError(
                    f"ErrorFeedback can't contain {type(encoder).__name__}, "
                    f"{why} in the list of encoders."
                )

    def build(self, spec: Spec) -> Self:
        built = super().build(spec)
        built._chain = self._chain.build(spec)
        return built

    def encoded_spec(self) -> Any:
        return self._chain.encoded_spec()

    def init(self) -> Any:
        return self._chain.init()

    def params(self, state: Any, seed: Any, bound: Any) -> Any:
        return self._chain.params(state, seed)

    def init_memory(self) -> Value:
        return [ops.zeros(s.shape, s.dtype) for s in self.spec]

    def encode_with(
        self, value: Any, params: Any, seed: Any, memory: Any
    ) -> tuple[Any, Any, Any]:
        value = [v + e for v, e in zip(value, memory, strict=True)]
        encoded, stats, _ = self._chain.encode(value, params, seed)
        decoded = self._chain.decode(encoded, params)
        kept = [v - d for v, d in zip(value, decoded, strict=True)]
        return encoded, stats, kept

    def decode(self, value: Any, params: Any) -> Any:
        return self._chain.decode(value, params)

    def update(self, state: Any, stats: Any, noise: Any) -> Updated:
        return self._chain.update(state, stats, ((),) * len(self.encoders))


def _refusal(encoder: Encoder) -> str | None:
    if isinstance(encoder, Noise):
        return (
            "which adds noise: what a client keeps would take it off again. "
            "Put it before ErrorFeedback"
        )
    if encoder.decodes == "sum":
        return (
            "which is decoded on the sum over clients. Put it before "
            "ErrorFeedback"
        )
    if type(encoder).draw is not Encoder.draw:
        # Nothing is drawn at the server for what is inside.
        return "which keeps a state at the server. Put it before ErrorFeedback"
    if isinstance(encoder, Memory):
        return "which has a memory of its own. Put it beside ErrorFeedback"
    if isinstance(encoder, Wire) and encoder.varies:
        return "whose messages differ in length. Put it after ErrorFeedback"
    return None
