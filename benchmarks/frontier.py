"""Accuracy against bytes: how much less clients can send.

MNIST by 836 writers as in `mnist_by_writer.py` (10 a round, batch 20, one
epoch, SGD 0.1, the CNN of 1,663,370 parameters), with what clients send
compressed in several ways::

    python benchmarks/frontier.py --picture frontier.png

`bytes` is what was really sent in all rounds, header and all. The goal: 30
times less than without compression, at under half a point of accuracy lost.

Prints one line of JSON for each way, with `times_less` and `lost` against the
first.
"""

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import real_data

import fedlearn as fl
from fedlearn.encoders import (
    Eden,
    ErrorFeedback,
    HadamardRotation,
    SignSGD,
    TopK,
    UniformQuantization,
)

WAYS = {
    "none": [],
    "rotated, 8 bits": [HadamardRotation(), UniformQuantization(8)],
    "eden:4": [Eden(4)],
    "eden:1": [Eden(1)],
    "eden:0.5": [Eden(0.5)],
    "eden:0.1": [Eden(0.1)],
    "sign": [SignSGD()],
    "top-k:0.01": [TopK(0.01)],
    "error feedback, top-k:0.01": [ErrorFeedback([TopK(0.01)])],
}


def run(encoders, train, test, rounds, seed):
    model = fl.models.mcmahan_cnn(seed=seed)
    model.compile(
        optimizer=keras.optimizers.SGD(0.1),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    process = fl.FederatedAveraging(
        model,
        client=fl.LocalTraining(batch_size=20),
        aggregator=fl.aggregators.Mean(encoders),
    )
    start = time.process_time()
    history = process.fit(
        train, rounds=rounds, clients_per_round=10, verbose=0, seed=seed
    )
    seconds = time.process_time() - start
    accuracy = process.evaluate(process.state, test)["accuracy"]
    return accuracy, sum(history.history["bytes_up"]), seconds


def draw(found, path):
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(7, 4.5))
    for name, (accuracy, sent, _) in found.items():
        ax.plot(sent / 1e6, 100 * accuracy, "o", color="#0072b2")
        ax.annotate(
            name,
            (sent / 1e6, 100 * accuracy),
            textcoords="offset points",
            xytext=(6, 5),
            fontsize=9,
        )
    ax.set_xscale("log")
    ax.set_xlabel("MB sent by clients, in all rounds")
    ax.set_ylabel("test accuracy, %")
    ax.set_title("Accuracy against upload, MNIST by writer", loc="left")
    ax.grid(alpha=0.3)
    fig.tight_layout()
    fig.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    real_data.add_argument(parser)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--ways", nargs="*", default=list(WAYS), choices=list(WAYS)
    )
    parser.add_argument("--picture", help="a PNG file to draw")
    args = parser.parse_args()
    train, test = real_data.mnist_by_writer(args.data)
    found = {}
    for name in args.ways:
        found[name] = run(WAYS[name], train, test, args.rounds, args.seed)
        accuracy, sent, seconds = found[name]
        first = found[args.ways[0]]
        print(
            json.dumps(
                {
                    "way": name,
                    "accuracy": round(accuracy, 4),
                    "bytes_up": int(sent),
                    "times_less": round(first[1] / sent, 1),
                    "lost": round(first[0] - accuracy, 4),
                    "cpu_s": round(seconds),
                }
            ),
            flush=True,
        )
    if args.picture:
        draw(found, args.picture)


if __name__ == "__main__":
    main()
