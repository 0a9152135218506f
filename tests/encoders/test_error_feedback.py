import keras
import numpy as np
import pytest
from keras import ops

import fedlearn as fl
from fedlearn.encoders import Encoder, Noise, Wire
from fedlearn.encoders.error_feedback import ErrorFeedback
from tests import zoo


class Truncate(Encoder):
    """Sends multiples of a half, rounded towards zero: biased."""

    decodes = "summand"

    def encode(self, value, params, seed):
        return [ops.cast(2 * v, "int32") for v in value], ()

    def decode(self, value, params):
        return [ops.cast(v, "float32") / 2 for v in value]


class Whole(Encoder, Wire):
    """Messages whose lengths differ: zeros at the end aren't sent."""

    decodes = "summand"
    varies = True

    def encode(self, value, params, seed):
        return [ops.cast(8 * v, "int32") for v in value], ()

    def decode(self, value, params):
        return [ops.cast(v, "float32") / 8 for v in value]

    def to_wire(self, encoded):
        return [np.trim_zeros(a.reshape(-1), "b") for a in encoded]


def process_with(encoders, executor="sequential"):
    return fl.FederatedAveraging(
        zoo.regression(),
        client=fl.LocalTraining(batch_size=4, shuffle=False),
        aggregator=fl.aggregators.Mean(encoders),
        executor=executor,
    )


COHORT = zoo.clients((8, 8, 4), make=zoo.line)


def updates(state, cohort):
    """Each client's own change of the weights."""
    process = zoo.regression_process()
    found = {}
    for i in cohort.client_ids:
        after, _ = process.next(state._replace(aggregator=()), [cohort[i]])
        found[i] = [
            a - b
            for a, b in zip(
                zoo.numpy(after.trainable),
                zoo.numpy(state.trainable),
                strict=True,
            )
        ]
    return found


@pytest.mark.parametrize("executor", ["sequential", "vectorized"])
def test_what_was_left_out_is_sent_later(executor):
    process = process_with([ErrorFeedback([Truncate()])], executor)
    state = process.initialize()
    kept = {i: None for i in COHORT.client_ids}
    sizes = {i: COHORT.num_examples(i) for i in COHORT.client_ids}
    for _ in range(4):
        expected = [np.zeros_like(w) for w in zoo.numpy(state.trainable)]
        for i, update in updates(state, COHORT).items():
            old = kept[i] or [np.zeros_like(u) for u in update]
            value = [u + e for u, e in zip(update, old, strict=True)]
            sent = [np.trunc(2 * v) / 2 for v in value]
            kept[i] = [v - s for v, s in zip(value, sent, strict=True)]
            for total, s in zip(expected, sent, strict=True):
                total += s * sizes[i] / sum(sizes.values())
        before = zoo.numpy(state.trainable)
        state, _ = process.next(state, COHORT)
        moved = [
            a - b
            for a, b in zip(zoo.numpy(state.trainable), before, strict=True)
        ]
        for a, b in zip(moved, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    for i, expected in kept.items():
        (found,) = state.client_states[i].encoders
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_only_who_took_part_keeps_something():
    process = process_with([ErrorFeedback([Truncate()])])
    state, _ = process.next(process.initialize(), COHORT.select(["client_0"]))
    assert set(state.client_states) == {"client_0"}
    after, _ = process.next(state, COHORT.select(["client_1"]))
    assert set(after.client_states) == {"client_0", "client_1"}
    assert set(state.client_states) == {"client_0"}  # a state is never changed
    assert after.client_states["client_0"] is state.client_states["client_0"]


def test_what_clients_keep_is_saved(tmp_path):
    process = process_with([ErrorFeedback([Truncate()])])
    state, _ = process.next(process.initialize(), COHORT)
    process.save_state(state, tmp_path / "state")
    loaded = process.load_state(tmp_path / "state")
    for one in (state, loaded):
        assert set(one.client_states) == set(COHORT.client_ids)
    a, _ = process.next(state, COHORT)
    b, _ = process.next(loaded, COHORT)
    zoo.assert_equal(a.trainable, b.trainable)


def test_the_halves_pass_it_in_and_out():
    process = process_with([ErrorFeedback([Truncate()])])
    state = process.initialize()
    broadcast = process.broadcast(state)
    first, kept = process.client_update(broadcast, COHORT["client_0"], 1, ())
    again, more = process.client_update(broadcast, COHORT["client_0"], 1, kept)
    assert any((k != 0).any() for k in kept.encoders[0])
    assert any(
        (a != b).any()
        for a, b in zip(kept.encoders[0], more.encoders[0], strict=True)
    )
    del first, again


def test_an_update_that_is_not_finite_is_not_kept():
    process = process_with([ErrorFeedback([Truncate()])])
    x, y = COHORT["client_0"]
    state, metrics = process.next(process.initialize(), {"a": (x * np.nan, y)})
    assert metrics["num_rejected"] == 1
    assert not any(np.any(k) for k in state.client_states["a"].encoders[0])


@pytest.mark.parametrize("executor", ["sequential", "vectorized"])
def test_messages_of_differing_lengths_are_measured_one_by_one(executor):
    process = process_with([Whole()], executor)
    state = process.initialize()
    alone = []
    for i in COHORT.client_ids:
        _, metrics = process.next(state, {i: COHORT[i]})
        alone.append(metrics["bytes_up"])
    _, together = process.next(state, COHORT)
    assert together["bytes_up"] == sum(alone)
    fixed = process_with([Truncate()])
    _, same = fixed.next(fixed.initialize(), COHORT)
    assert together["bytes_up"] != same["bytes_up"]


def test_what_cannot_be_inside():
    class Sum(Truncate):
        decodes = "sum"

    with pytest.raises(ValueError, match="Put it before ErrorFeedback"):
        ErrorFeedback([Sum()])

    class Hides(Truncate, Noise):
        noise, bound, decodes = "clients", "sets", "either"

    with pytest.raises(ValueError, match="can't contain Hides, which adds"):
        ErrorFeedback([Hides()])
    with pytest.raises(ValueError, match="can't contain Whole"):
        ErrorFeedback([Whole()])
    with pytest.raises(ValueError, match="keeps a state at the server"):
        ErrorFeedback([fl.encoders.AdaptiveClip()])
    with pytest.raises(ValueError, match="Put it last"):
        fl.encoders.Chain([Whole(), Truncate()])
    assert keras.tree.flatten(ErrorFeedback([Truncate()]).get_config())
