from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import backend, seeds
from fedlearn.encoders.chain import Chain, Encoders
from fedlearn.encoders.encoder import Encoder
from fedlearn.messages import wire


def round_trip(
    encoders: Encoder | Encoders, value: Any, seed: int = 0
) -> tuple[Any, int]:
    """Sends a value from a client to a server, byte for byte.

    The value is encoded by compiled functions, made into a message's bytes,
    read from these and decoded, as if one client took part in one round.

    Args:
        encoders: One, or several as for `Mean`.
        value: A float array, or nested lists, tuples and dicts of such.
        seed: Of the round and the client.

    Returns:
        `(value, num_bytes)`: what the server makes of it, NumPy arrays in the
        same structure, and the bytes of the whole message, header included.

    Raises:
        TypeError: If an array isn't one of floats.
        ValueError: If the encoders can't work in this order.

    Example:

    >>> from fedlearn.encoders import UniformQuantization
    >>> value = {"kernel": np.linspace(0, 1, 10_000, dtype="float32")}
    >>> decoded, num_bytes = round_trip(UniformQuantization(bits=8), value)
    >>> bool(abs(decoded["kernel"] - value["kernel"]).max() <= 1 / 255)
    True
    >>> round(num_bytes / 10_000)
    1
    """
    if isinstance(encoders, Encoder):
        encoders = [encoders]
    chain = Chain(encoders)
    arrays = [ops.convert_to_tensor(v) for v in keras.tree.flatten(value)]
    for array in arrays:
        if not keras.backend.is_float_dtype(array.dtype):
            raise TypeError(
                "Encoders take arrays of floats. Received one of dtype "
                f"{keras.backend.standardize_dtype(array.dtype)}."
            )
    chain = chain.build([keras.KerasTensor(a.shape, a.dtype) for a in arrays])
    state = chain.init()
    rng = seeds.generator(seed, "round trip", "server")

    def encode(arrays, state, round_seed, client_seed):
        params = chain.params(state, round_seed)
        memory = chain.init_memory()
        return chain.encode(arrays, params, client_seed, memory)[:2]

    def decode(encoded, state, round_seed, noise):
        params = chain.params(state, round_seed)
        summand = chain.decode_summand(encoded, params)
        return chain.decode_sum(summand, params, noise)

    words = [
        seeds.bits(1, seed, "round trip", whose).view(np.int32)
        for whose in ("round", "client")
    ]
    encode, decode = backend.jit(encode), backend.jit(decode)
    encoded, stats = backend.to_numpy(encode(arrays, state, *words))
    data = wire.pack((chain.to_wire(encoded), stats))
    received = chain.from_wire(wire.unpack(data)[0], encoded)
    decoded = decode(received, state, words[0], chain.draw(state, rng))
    decoded = keras.tree.pack_sequence_as(value, list(decoded))
    return backend.to_numpy(decoded), len(data)
