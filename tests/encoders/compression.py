"""What the tests of compressing encoders share."""

import keras
import numpy as np
from keras import ops

from fedlearn import backend


def spec_of(value):
    return [keras.KerasTensor(v.shape, v.dtype) for v in value]


def words(seed):
    return np.array([seed, 7 * seed + 1], np.int32)


def tripper(encoder, value):
    """A function that encodes and decodes lists of arrays like `value`."""
    encoder = encoder.build(spec_of(value))

    def there_and_back(value, round_seed, client_seed):
        params = encoder.params((), round_seed, np.inf)
        encoded, _ = encoder.encode(value, params, client_seed)
        return encoder.decode(encoded, params)

    if backend.name == "jax":  # whose single operations are compiled too
        there_and_back = backend.jit(there_and_back)

    def trip(value, seed=0):
        arguments = (value, words(seed), words(seed + 1000))
        arguments = keras.tree.map_structure(ops.convert_to_tensor, arguments)
        return backend.to_numpy(list(there_and_back(*arguments)))

    return trip


def trip(encoder, value, seed=0):
    """Encodes and decodes a list of arrays; NumPy arrays."""
    return tripper(encoder, value)(value, seed)


def error(decoded, value):
    """The normalised squared error of one array."""
    decoded, value = (np.asarray(v, np.float64) for v in (decoded, value))
    return ((decoded - value) ** 2).sum() / (value**2).sum()


def errors_of_means(encoder, vectors, num_clients):
    """For each vector: the mean error of a client, and that of the mean."""
    encoder = encoder.build(spec_of(vectors[:1]))

    def one(seed, vector):
        params = encoder.params((), seed, np.inf)
        encoded, _ = encoder.encode([vector], params, seed)
        return encoder.decode(encoded, params)[0]

    run = backend.jit(
        lambda seeds, vector: backend.vmap(lambda s: one(s, vector))(seeds)
    )
    seeds = np.stack([words(k) for k in range(num_clients)])
    for vector in vectors:
        decoded = ops.convert_to_numpy(run(seeds, vector))
        singles = np.mean([error(d, vector) for d in decoded])
        yield singles, error(decoded.astype(np.float64).mean(axis=0), vector)


def normal(size, seed=0):
    return np.random.default_rng(seed).normal(size=size).astype("float32")


def heavy_tailed(size, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_t(2.5, size=size).astype("float32")
