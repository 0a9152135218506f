"""Messages as bytes: seconds, and memory beside what is sent.

A message of ten float32 arrays, one of which has nine tenths of the numbers,
is packed into bytes and unpacked; written to a file and read from it; and the
same numbers are a model whose state is saved and loaded::

    python benchmarks/messages.py
    python benchmarks/messages.py --numbers 1000 --steps pack unpack  # a try

Each step of each size runs in a process of its own, and prints a line of JSON:
`peak` is the most that is allocated, and `resident` what the process grows by,
as multiples of the message, which is in both of them where it is there before.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

STEPS = ("pack", "unpack", "write", "read", "save", "load")
NUMBERS = (10_000, 1_000_000, 40_000_000, 1_200_000_000)


def measure(step, numbers, path):
    """One step: what is printed. `write` and `save` leave a file for others."""
    import numpy as np

    from fedlearn.messages import wire

    state = step in ("save", "load")
    process = _process(numbers) if state else None
    # What isn't the message's: first imports.
    wire.unpack(wire.pack([np.zeros(1)]))
    resident = _resident()
    tracemalloc.start()
    tree = found = None
    if step in ("pack", "write"):
        tree = _tree(np, numbers)
    elif step == "unpack":
        found = wire.pack(_tree(np, numbers))
    elif step == "save":
        found = process.initialize()
        resident = _resident()
    tracemalloc.reset_peak()
    _forget_peak()
    started = time.perf_counter()
    if step == "pack":
        found = wire.pack(tree)
    elif step == "unpack":
        found = wire.unpack(found, like=_Spec.of(numbers))
    elif step == "write":
        with open(path, "wb") as file:
            file.writelines(wire.chunks(tree))
    elif step == "read":
        with open(path, "rb") as file:
            found = wire.read(file, like=_Spec.of(numbers))
    elif step == "save":
        process.save_state(found, path)
    else:
        found = process.load_state(path)
    seconds = time.perf_counter() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "step": step,
        "numbers": numbers,
        "seconds": round(seconds, 4),
        "peak": round(peak / (4 * numbers), 2),
        "resident": round((_peak() - resident) / (4 * numbers), 2),
    }


def _shapes(numbers):
    return [(9, numbers // 10)] + [(numbers // 90,)] * 9


def _tree(np, numbers):
    return [np.ones(shape, "float32") for shape in _shapes(numbers)]


class _Spec:
    dtype = "float32"

    def __init__(self, shape):
        self.shape = shape

    @classmethod
    def of(cls, numbers):
        return [cls(shape) for shape in _shapes(numbers)]


def _process(numbers):
    import keras

    import fedlearn as fl

    model = keras.Sequential(
        [keras.Input((1000,)), keras.layers.Dense(numbers // 1001)]
    )
    model.compile("sgd", "mse")
    return fl.FederatedAveraging(model)


def _resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _forget_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _peak():
    with open("/proc/self/status") as file:
        (line,) = (line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--numbers", type=int, nargs="+", default=NUMBERS)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--folder", help="for the files")
    parser.add_argument("--path", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.path:
        (step,), (numbers,) = options.steps, options.numbers
        print(json.dumps(measure(step, numbers, options.path)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for numbers in options.numbers:
            for step in options.steps:
                kind = "state" if step in ("save", "load") else "message"
                child = [sys.executable, __file__, "--steps", step]
                child += ["--numbers", str(numbers)]
                child += ["--path", os.path.join(folder, kind)]
                subprocess.run(child, check=True)


if __name__ == "__main__":
    main()
