"""What encoders cost, how much they save and how much they lose.

Times are multiples of one pass `x + 1` over the same memory, so that they say
the same on machines of different speed. A million parameters, heavy-tailed.

    python benchmarks/compression.py [--size=1000000] [--repeats=5]
"""

import argparse
import time

import keras
import numpy as np
from keras import ops

from fedlearn import backend, encoders

NAMES = {
    "Cast float16": [encoders.Cast("float16")],
    "UniformQuantization 8": [encoders.UniformQuantization(8)],
    "rotated, 8 bits": [
        encoders.HadamardRotation(),
        encoders.UniformQuantization(8),
    ],
    "rotated, 8 bits, nearest": [
        encoders.HadamardRotation(),
        encoders.UniformQuantization(8, stochastic=False),
    ],
    "rotated, 4 bits": [
        encoders.HadamardRotation(),
        encoders.UniformQuantization(4),
    ],
    "HadamardRotation": [encoders.HadamardRotation()],
    "Eden 4": [encoders.Eden(4)],
    "Eden 2": [encoders.Eden(2)],
    "Drive": [encoders.Drive()],
    "Eden 0.5": [encoders.Eden(0.5)],
    "StochasticQuantization 127": [encoders.StochasticQuantization(127)],
    "TernGrad": [encoders.TernGrad()],
    "SignSGD": [encoders.SignSGD()],
    "TopK 1 %": [encoders.TopK(0.01)],
    "RandomMask 10 %": [encoders.RandomMask(0.1)],
    "PowerSGD 4": [encoders.PowerSGD(4)],
}


def best_seconds(fn, args, repeats):
    def wait():
        for leaf in keras.tree.flatten(fn(*args)):
            if hasattr(leaf, "block_until_ready"):
                leaf.block_until_ready()

    wait()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        wait()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(links, value, repeats):
    spec = [keras.KerasTensor(value.shape, "float32")]
    chain = encoders.Chain(links).build(spec)
    params = chain.params(
        chain.init(), ops.convert_to_tensor(np.array([1, 2], np.int32))
    )
    seed = ops.convert_to_tensor(np.array([3, 4], np.int32))
    encode = backend.jit(lambda v, p, s: chain.encode([v], p, s)[0])
    decode = backend.jit(chain.decode)
    encoded = encode(value, params, seed)
    return (
        best_seconds(encode, (value, params, seed), repeats),
        best_seconds(decode, (encoded, params), repeats),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    columns = 1000 if args.size % 1000 == 0 else 1
    vector = rng.standard_t(3, size=args.size).astype("float32")
    vector = vector.reshape(-1, columns)
    value = ops.convert_to_tensor(vector)
    one = best_seconds(backend.jit(lambda v: v + 1), (value,), 5 * args.repeats)
    print(
        f"{backend.name}; one pass: {1e3 * one:.2f} ms for {args.size} numbers"
    )
    print(
        f"{'encoders':28}{'encode ms':>10}{'passes':>8}{'decode ms':>10}"
        f"{'passes':>8}{'bits':>8}{'error':>10}"
    )
    for name, links in NAMES.items():
        there, back = measure(links, value, args.repeats)
        decoded, num_bytes = encoders.round_trip(links, vector)
        error = ((decoded - vector) ** 2).sum() / (vector**2).sum()
        print(
            f"{name:28}{1e3 * there:10.1f}{there / one:8.1f}"
            f"{1e3 * back:10.1f}{back / one:8.1f}"
            f"{8 * num_bytes / args.size:8.3f}{error:10.2g}",
            flush=True,
        )


if __name__ == "__main__":
    main()
