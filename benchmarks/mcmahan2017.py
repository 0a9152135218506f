"""McMahan et al. 2017, table 2: rounds to 99 % on MNIST with their CNN.

The CNN of 1,663,370 parameters, 100 clients of 600 examples, 10 of them a
round (C = 0.1), batches of B = 10, E epochs, plain SGD at the clients, no
learning-rate decay::

    python benchmarks/mcmahan2017.py --division iid --epochs 5 --rates 0.1 0.2

The paper: E = 5, iid: 20 rounds; E = 1, iid: 34; E = 5, shards: 229 rounds.
One line of JSON per learning rate is printed at the end, and `--history`
names a file for the accuracy of every round. A run of many rounds can be
stopped and goes on where it was (`--checkpoints`).
"""

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import real_data

import fedlearn as fl

PAPER = {("iid", 5): 20, ("iid", 1): 34, ("shards", 5): 229}


class StopAt(keras.callbacks.Callback):
    """Ends training once the test accuracy is reached, and keeps time."""

    def __init__(self, target):
        super().__init__()
        self._target = target
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        accuracy = logs["val_accuracy"]
        seconds = time.perf_counter() - self._started
        print(
            f"round {epoch + 1}: loss {logs['loss']:.4f}, test accuracy "
            f"{accuracy:.4f}, {seconds:.0f} s",
            flush=True,
        )
        if accuracy >= self._target:
            self.model.stop_training = True


def run(args, rate):
    train, test = real_data.mnist_100(args.data, args.division)
    model = fl.models.mcmahan_cnn(seed=args.seed)
    model.compile(
        optimizer=keras.optimizers.SGD(rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    process = fl.FederatedAveraging(
        model, client=fl.LocalTraining(batch_size=10, epochs=args.epochs)
    )
    started = time.perf_counter()
    folder = None
    if args.checkpoints:
        name = f"{args.division}-E{args.epochs}-lr{rate}-seed{args.seed}"
        folder = os.path.join(args.checkpoints, name)
    history = process.fit(
        train,
        rounds=args.rounds,
        clients_per_round=10,
        validation_data=test,
        callbacks=[StopAt(args.target)],
        verbose=0,
        seed=args.seed,
        checkpoint_dir=folder,
    ).history["val_accuracy"]
    reached = [i + 1 for i, a in enumerate(history) if a >= args.target]
    return {
        "division": args.division,
        "epochs": args.epochs,
        "learning_rate": rate,
        "seed": args.seed,
        "rounds_to_target": reached[0] if reached else None,
        "paper": PAPER.get((args.division, args.epochs)),
        "rounds_run": len(history),
        "best_accuracy": max(history),
        "seconds": round(time.perf_counter() - started, 1),
    }, history


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    real_data.add_argument(parser)
    parser.add_argument("--division", choices=["iid", "shards"], default="iid")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.1, 0.2])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--target", type=float, default=0.99)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--history", help="file for every round's accuracy")
    parser.add_argument("--checkpoints", help="folder to resume runs from")
    args = parser.parse_args()
    results = []
    for rate in args.rates:
        result, history = run(args, rate)
        results.append(json.dumps(result))
        if args.history:
            with open(args.history, "a") as file:
                print(json.dumps({**result, "history": history}), file=file)
    print("\n".join(results))


if __name__ == "__main__":
    main()
