import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn.encoders import (
    Cast,
    Clip,
    EntropyCoding,
    ErrorFeedback,
    GaussianNoise,
    TopK,
    UniformQuantization,
)
from tests import zoo

COHORT = zoo.clients((8, 4), make=zoo.line)


def process_with(encoders, model=None, executor="sequential"):
    return fl.FederatedAveraging(
        model or zoo.regression(),
        client=fl.LocalTraining(batch_size=4, shuffle=False),
        executor=executor,
        broadcast_encoders=encoders,
    )


@pytest.mark.parametrize("executor", ["sequential", "vectorized"])
def test_clients_start_from_what_is_decoded(executor):
    """The server adds their changes to its own, whole weights."""
    rounded = process_with([Cast("float16")], executor=executor)
    state = rounded.initialize()
    # Weights that float16 can't hold.
    whole = [np.asarray(w) + 1 / 3 for w in zoo.numpy(state.trainable)]
    state = state._replace(trainable=whole)
    halves = [w.astype("float16").astype("float32") for w in whole]
    plain = process_with([])
    expected, _ = plain.next(
        plain.initialize()._replace(trainable=halves), COHORT
    )
    after, _ = rounded.next(state, COHORT)
    for a, w, e, h in zip(
        zoo.numpy(after.trainable),
        whole,
        zoo.numpy(expected.trainable),
        halves,
        strict=True,
    ):
        np.testing.assert_allclose(a - w, e - h, atol=2e-6)


def test_the_download_is_measured():
    def run(encoders):
        model = keras.Sequential([keras.Input((100,)), keras.layers.Dense(99)])
        model.compile("sgd", "mse")
        process = process_with(encoders, model)
        x = np.ones((2, 100), "float32")
        _, metrics = process.next(process.initialize(), [(x, x[:, :99])] * 3)
        return metrics["bytes_down"]

    whole, half, byte = (
        run(e) for e in ([], [Cast("float16")], [UniformQuantization(8)])
    )
    assert 1.95 < whole / half < 2.05
    assert 3.8 < whole / byte < 4.1


def test_a_resumed_run_equals_an_unbroken_one(tmp_path):
    def process():
        return process_with([UniformQuantization(8)])

    whole, part, again = process(), process(), process()
    whole.fit(COHORT, rounds=4, verbose=0)
    part.fit(COHORT, rounds=2, verbose=0, checkpoint_dir=tmp_path)
    again.fit(COHORT, rounds=4, verbose=0, checkpoint_dir=tmp_path)
    zoo.assert_equal(again.state.trainable, whole.state.trainable)
    other = process_with([UniformQuantization(4)])
    with pytest.raises(ValueError, match="broadcast_encoders"):
        other.fit(COHORT, rounds=4, verbose=0, checkpoint_dir=tmp_path)


@pytest.mark.parametrize(
    "encoders",
    [
        [Clip(1.0), GaussianNoise(1.0)],
        [ErrorFeedback([TopK(0.1)])],
        [EntropyCoding()],
    ],
)
def test_what_a_broadcast_has_no_place_for(encoders):
    with pytest.raises(ValueError, match="`broadcast_encoders` can't contain"):
        process_with(encoders)
