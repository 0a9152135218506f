"""MNIST by writer: federated test accuracy and training time.

836 real writers, 10 of them a round, batch 20, one epoch, SGD 0.1 at the
clients, McMahan et al.'s CNN of 1,663,370 parameters::

    python benchmarks/mnist_by_writer.py

Training is timed without evaluation, which is done every 10 rounds, and with
the first round's tracing. Prints one line of JSON.
"""

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import real_data

import fedlearn as fl


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    real_data.add_argument(parser)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    started = time.perf_counter()
    train, test = real_data.mnist_by_writer(args.data)
    loading = time.perf_counter() - started
    model = fl.models.mcmahan_cnn(seed=args.seed)
    model.compile(
        optimizer=keras.optimizers.SGD(0.1),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    process = fl.FederatedAveraging(
        model, client=fl.LocalTraining(batch_size=20)
    )
    sampler = fl.samplers.Uniform(train, 10, seed=args.seed)
    state = process.initialize(args.seed)
    seconds, cpu, curve = 0.0, 0.0, {}
    first_round = None
    for round_num in range(args.rounds):
        started = time.perf_counter(), time.process_time()
        cohort = train.select(sampler.sample(round_num))
        state, _ = process.next(state, cohort)
        seconds += time.perf_counter() - started[0]
        cpu += time.process_time() - started[1]
        first_round = first_round or seconds
        if (round_num + 1) % 10 == 0:
            accuracy = process.evaluate(state, test)["accuracy"]
            curve[round_num + 1] = round(accuracy, 4)
            print(
                f"round {round_num + 1}: {accuracy:.4f}, {seconds:.1f} s",
                flush=True,
            )
    print(
        json.dumps(
            {
                "backend": keras.backend.backend(),
                "accuracy": curve,
                "training_s": round(seconds, 1),
                "training_cpu_s": round(cpu, 1),
                "first_round_s": round(first_round, 2),
                "loading_s": round(loading, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
