"""A coordinator without data, and a device elsewhere with its clients'.

They are processes of the operating system, and exchange files: the
coordinator's description, what it sends, and what clients answer.
"""

import json
import pathlib
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn import aggregators as ag
from fedlearn import encoders as en
from fedlearn.executors.total import Total
from fedlearn.messages import wire
from fedlearn.runs import atomic_file
from tests import zoo

pytestmark = pytest.mark.integration

ROOT = pathlib.Path(__file__).resolve().parents[1]
SIZES = (8, 5, 3, 9)
IDS = tuple(f"client_{i}" for i in range(len(SIZES)))
ROUNDS = 2


def data_of(client_id):
    number = int(client_id.removeprefix("client_"))
    return zoo.points(SIZES[number], seed=number)


def model():
    """With statistics that change, random masks, and what is never sent."""
    scale = keras.layers.Normalization()
    scale.adapt(np.arange(32, dtype="float32").reshape(8, 4))
    frozen = keras.layers.Dense(5, activation="relu", trainable=False)
    made = keras.Sequential(
        [
            keras.Input((4,)),
            scale,
            frozen,
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3, seed=1),
            keras.layers.Dense(3),
        ]
    )
    made.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return made


def make_process():
    feedback = en.ErrorFeedback([en.TopK(0.5)])
    return fl.FederatedAveraging(
        model(),
        fl.LocalTraining(batch_size=4),
        aggregator=ag.Mean([feedback, en.EntropyCoding()]),
        executor="sequential",
    )


def wait_for(path):
    deadline = time.monotonic() + 300
    while not pathlib.Path(path).exists():
        assert time.monotonic() < deadline, f"{path} didn't come"
        time.sleep(0.01)
    return path


def device(folder):
    """What runs elsewhere: answers the rounds."""
    with open(wait_for(folder / "process.json")) as file:
        process = fl.LearningProcess.from_config(json.load(file))
    like = (
        process.broadcast(process.initialize()),
        dict.fromkeys(IDS, np.uint64(0)),
    )
    kept = {}
    for round_num in range(ROUNDS):
        with open(wait_for(folder / f"{round_num}"), "rb") as file:
            broadcast, seeds = wire.read(file, like=like)
        for name in IDS:
            message, kept[name] = process.client_message(
                broadcast, data_of(name), int(seeds[name]), kept.get(name)
            )
            path = folder / f"{round_num}.{name}"
            atomic_file.write(path, wire.chunks(message))


def round_of_files(server, state, folder):
    broadcast = server.broadcast(state)
    seeds = {i: np.uint64(server.client_seed(state, i)) for i in IDS}
    path = folder / f"{state.round_num}"
    atomic_file.write(path, wire.chunks((broadcast, seeds)))
    total = Total(len(IDS))
    for number, client_id in enumerate(IDS):
        with open(wait_for(f"{path}.{client_id}"), "rb") as file:
            message = wire.read(file, like=server.message_spec)
        total.add(server.accept(broadcast, message), number)
    return server.server_update(state, broadcast, total.result())


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="it compiles in each process"
)
def test_rounds_of_a_device_and_a_coordinator_are_those_of_next(tmp_path):
    process = make_process()
    config = process.get_config()
    start = [sys.executable, "-m", __name__, tmp_path]
    device = subprocess.Popen(start, cwd=ROOT)
    try:
        atomic_file.write(
            tmp_path / "process.json", json.dumps(config).encode()
        )
        one = process.initialize(seed=5)
        process.save_state(one, tmp_path / "state")
        for _ in range(ROUNDS):
            one, expected = process.next(one, {i: data_of(i) for i in IDS})
            # Each round in a coordinator that is started anew.
            server = fl.LearningProcess.from_config(config)
            server.build(zoo.spec_of(data_of(IDS[0])))
            assert server.client_metrics == process.client_metrics
            state, metrics = round_of_files(
                server, server.load_state(tmp_path / "state"), tmp_path
            )
            assert metrics == expected
            same = one._replace(client_states=state.client_states)
            zoo.assert_equal(state, same)
            assert len(state.client_states) == 0  # they are the device's
            server.save_state(state, tmp_path / "state")
        assert device.wait(300) == 0
    finally:
        device.kill()
        device.wait()


def test_a_round_of_nobody_in_a_process_that_never_saw_a_client():
    server = make_process()
    server.build(zoo.spec_of(data_of(IDS[0])))
    state = server.initialize()
    broadcast = server.broadcast(state)
    after, metrics = server.server_update(
        state, broadcast, server.empty_update(broadcast)
    )
    zoo.assert_equal(after.trainable, state.trainable)
    assert metrics["num_examples"] == metrics["num_clients"] == 0


if __name__ == "__main__":
    device(pathlib.Path(sys.argv[1]))
