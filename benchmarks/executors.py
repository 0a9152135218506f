"""Both plans on several models: where the choice of "auto" comes from.

Sequential and vectorized rounds of the same cohort take turns; each prints
the ratio sequential / vectorized (above one: vectorising is faster) with what
the rule of `executors.Auto` looks at::

    KERAS_BACKEND=jax python benchmarks/executors.py --models 2nn digits_cnn
"""

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers

import fedlearn as fl
from fedlearn.executors import model_work

SIZES = {
    "equal": [20] * 30,
    "ragged": [7, 12, 18, 20, 23, 25, 31, 33, 36, 40],
    "ragged100": list(range(11, 111)),
}


def mlp(width):
    hidden = [layers.Dense(width, activation="relu") for _ in range(2)]
    return keras.Sequential(
        [keras.Input((784,)), *hidden, layers.Dense(10, activation="softmax")]
    )


def lstm():
    return keras.Sequential(
        [
            keras.Input((20,)),
            layers.Embedding(80, 8),
            layers.LSTM(64),
            layers.Dense(80, activation="softmax"),
        ]
    )


MODELS = {
    "logistic": lambda: fl.models.logistic_regression(input_shape=(784,)),
    "2nn": lambda: mlp(200),
    "mlp1000": lambda: mlp(1000),
    "digits_cnn": fl.models.digits_cnn,
    "mcmahan_cnn": fl.models.mcmahan_cnn,
    "lstm": lstm,
}


def client(model, size, rng):
    shape = model.input_shape[1:]
    if shape == (20,):
        return rng.integers(0, 80, (size, 20)), rng.integers(0, 80, size)
    x = rng.normal(size=(size, *shape)).astype("float32")
    return x, rng.integers(0, 10, size)


def measure(name, cohort, rounds):
    rng = np.random.default_rng(0)
    model = MODELS[name]()
    clients = [client(model, n, rng) for n in SIZES[cohort]]
    runs, times = {}, {}
    for executor in ("sequential", "vectorized"):
        model = MODELS[name]()
        model.compile(
            optimizer=keras.optimizers.SGD(0.1),
            loss="sparse_categorical_crossentropy",
        )
        process = fl.FederatedAveraging(
            model, client=fl.LocalTraining(batch_size=10), executor=executor
        )
        state = process.initialize()
        started = time.perf_counter()
        process.next(state, clients)
        times[executor] = []
        runs[executor] = (process, state, time.perf_counter() - started)
    for _ in range(rounds):
        for executor, (process, state, _) in runs.items():
            started = time.perf_counter()
            process.next(state, clients)
            times[executor].append(time.perf_counter() - started)
    seconds = {e: float(np.median(t)) for e, t in times.items()}
    return {
        "backend": keras.backend.backend(),
        "model": name,
        "cohort": cohort,
        "step_work": 10 * model_work.multiplications(model),
        **{f"{e}_s": round(s, 4) for e, s in seconds.items()},
        **{f"{e}_first_s": round(r[2], 1) for e, r in runs.items()},
        "ratio": round(seconds["sequential"] / seconds["vectorized"], 2),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--cohorts", nargs="+", default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    for name in args.models:
        for cohort in args.cohorts:
            print(json.dumps(measure(name, cohort, args.rounds)), flush=True)


if __name__ == "__main__":
    main()
