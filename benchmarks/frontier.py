"""Accuracy against bytes: how much less clients can send.

MNIST by 836 writers as in `mnist_by_writer.py` (10 a round, batch 20, one
epoch, SGD 0.1, the CNN of 1,663,370 parameters), with what clients send
compressed in several ways::

    python benchmarks/frontier.py --results frontier.jsonl \
        --picture frontier.png

What `--results` holds already isn't run again, so that the ways can be run one
by one. `bytes_up` is what was really sent in all rounds, header and all. The
goal: 30 times less than without compression, at under half a point of accuracy
lost.

Prints one line of JSON for each way, with `times_less` and `lost` against
"none", once that is known.
"""

import argparse
import json
import os
import pathlib
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
    return {
        "accuracy": round(accuracy, 4),
        "bytes_up": int(sum(history.history["bytes_up"])),
        "cpu_s": round(seconds),
        "rounds": rounds,
        "seed": seed,
    }


def read(path):
    """What earlier runs found, by way."""
    if path is None or not path.exists():
        return {}
    lines = map(json.loads, path.read_text().splitlines())
    return {line.pop("way"): line for line in lines}


def compare(row, base):
    return {
        "times_less": round(base["bytes_up"] / row["bytes_up"], 1),
        "lost": round(base["accuracy"] - row["accuracy"], 4),
    }


def draw(found, path):
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(7.5, 4.5))
    base = found["none"]
    goal = 100 * base["accuracy"] - 0.5
    ax.axhline(goal, color="0.6", linewidth=1, linestyle="--")
    ax.axvline(base["bytes_up"] / 30e6, color="0.6", linewidth=1, ls="--")
    ordered = sorted(found.items(), key=lambda item: item[1]["bytes_up"])
    for k, (name, row) in enumerate(ordered):
        point = (row["bytes_up"] / 1e6, 100 * row["accuracy"])
        ax.plot(*point, "o", color="#0072b2")
        # Above and below in turns: neighbours would write over each other.
        ax.annotate(
            name,
            point,
            textcoords="offset points",
            xytext=(6, 5 if k % 2 else -12),
            fontsize=9,
        )
    ax.margins(y=0.12)
    ax.set_xscale("log")
    ax.set_xlim(right=4 * base["bytes_up"] / 1e6)
    ax.set_xlabel("MB sent by clients, in all rounds")
    ax.set_ylabel("test accuracy, %")
    ax.set_title(
        "Accuracy against upload, MNIST by writer. Dashed: half a point less,\n"
        "and 30 times less, than without compression",
        loc="left",
        fontsize=10,
    )
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
    parser.add_argument(
        "--results", type=pathlib.Path, help="a file of JSON lines to go on"
    )
    parser.add_argument("--picture", help="a PNG file to draw")
    args = parser.parse_args()
    found = read(args.results)
    data = None
    for name in args.ways:
        if name not in found:
            data = data or real_data.mnist_by_writer(args.data)
            found[name] = run(WAYS[name], *data, args.rounds, args.seed)
            if args.results is not None:
                with args.results.open("a") as file:
                    file.write(json.dumps({"way": name, **found[name]}) + "\n")
        row = {"way": name, **found[name]}
        if "none" in found:
            row |= compare(found[name], found["none"])
        print(json.dumps(row), flush=True)
    if args.picture:
        draw({n: found[n] for n in WAYS if n in found}, args.picture)


if __name__ == "__main__":
    main()
