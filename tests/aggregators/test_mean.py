import copy

import keras
import numpy as np
import pytest
from keras import ops

import fedlearn as fl
from fedlearn import backend
from fedlearn.messages import wire
from tests import zoo

COHORT = zoo.clients((4, 8, 8), make=zoo.line)


def changes(cohort=COHORT):
    """The weights, and each client's change by itself."""
    process = zoo.regression_process()
    state = process.initialize()
    before = zoo.numpy(state.trainable)
    found = []
    for i in cohort.client_ids:
        after, _ = process.next(state, [cohort[i]])
        after = zoo.numpy(after.trainable)
        found.append([a - b for a, b in zip(after, before, strict=True)])
    return before, found


def process_with(aggregator, executor="sequential"):
    return fl.FederatedAveraging(
        zoo.regression(),
        client=fl.LocalTraining(batch_size=4, shuffle=False),
        aggregator=aggregator,
        executor=executor,
    )


@pytest.mark.parametrize(
    ("weighting", "weights"),
    [("num_examples", [4, 8, 8]), ("uniform", [1, 1, 1])],
)
def test_the_mean_is_weighted(weighting, weights):
    process = process_with(fl.aggregators.Mean(weighting=weighting))
    data = {i: COHORT[i] for i in COHORT.client_ids}
    data["empty"] = zoo.line(0)  # counts for nothing, either way
    state, _ = process.next(process.initialize(), data)
    before, found = changes()
    expected = [
        b + np.average([change[i] for change in found], axis=0, weights=weights)
        for i, b in enumerate(before)
    ]
    zoo.assert_close(zoo.numpy(state.trainable), expected)


def test_an_unknown_weighting():
    with pytest.raises(ValueError, match="'num_examples' or 'uniform'"):
        fl.aggregators.Mean(weighting="equal")


def test_config_round_trip():
    mean = fl.aggregators.Mean(weighting="uniform")
    copy = fl.aggregators.Mean.from_config(mean.get_config())
    assert copy.get_config() == mean.get_config()


class Median(fl.aggregators.RobustRule):
    """The median of each coordinate: what a researcher writes."""

    def aggregate(self, value, weight):
        return [ops.median(v, axis=0) for v in value]


@pytest.mark.parametrize("executor", ["sequential", "vectorized"])
def test_a_rule_that_needs_every_update_plugs_in(executor):
    process = process_with(Median(), executor)
    cohort = zoo.clients((8, 8, 8), make=zoo.line)
    state, metrics = process.next(process.initialize(), cohort)
    before, found = changes(cohort)
    expected = [
        b + np.median([change[i] for change in found], axis=0)
        for i, b in enumerate(before)
    ]
    zoo.assert_close(zoo.numpy(state.trainable), expected)
    assert metrics["num_clients"] == 3


class Probe(fl.aggregators.Aggregator):
    """Proves that the one inside really ran: counts, and tells nothing."""

    def __init__(self, inner):
        self.inner = inner

    def build(self, spec):
        built = copy.copy(self)
        built.spec, built.inner = list(spec), self.inner.build(spec)
        return built

    def init(self):
        zero = ops.zeros((), "int32")
        return {"inner": self.inner.init(), "rounds": zero}

    def params(self, state, seed):
        return self.inner.params(state["inner"], seed)

    def encode(self, update, params, seed, memory):
        return self.inner.encode(update, params, seed, memory)

    def summand(self, message, num_examples, params):
        inner = self.inner.summand(message, num_examples, params)
        return {"inner": inner, "encoded": ops.ones((), "int32")}

    def draw(self, state, rng):
        return self.inner.draw(state["inner"], rng)

    def finish(self, state, total, params, noise):
        aggregate, inner, metrics = self.inner.finish(
            state["inner"], total["inner"], params, noise
        )
        state = {"inner": inner, "rounds": state["rounds"] + 1}
        return (
            aggregate,
            state,
            {
                **metrics,
                "num_encoded": total["encoded"],
                "rounds_probed": state["rounds"],
            },
        )


def test_an_aggregator_inside_another_really_runs():
    process = process_with(Probe(fl.aggregators.Mean()))
    known = zoo.regression_process()
    state, expected = process.initialize(), known.initialize()
    for round_num in (1, 2):
        state, metrics = process.next(state, COHORT)
        expected, _ = known.next(expected, COHORT)
        assert metrics["num_encoded"] == 3
        assert metrics["rounds_probed"] == round_num
    zoo.assert_close(zoo.numpy(state.trainable), zoo.numpy(expected.trainable))
    keras.tree.assert_same_structure(
        state.aggregator, process.initialize().aggregator
    )


@pytest.mark.parametrize("executor", ["sequential", "vectorized"])
def test_a_message_that_became_infinite_is_left_out(executor):
    """A finite update may be too large for float16."""
    process = process_with(
        fl.aggregators.Mean([fl.encoders.Cast("float16")]), executor
    )
    x, y = COHORT["client_0"]
    state, metrics = process.next(
        process.initialize(),
        {"a": (x, y), "b": (x, y + 1e7)},
    )
    assert metrics["num_rejected"] == 1
    assert metrics["num_clients"] == 1
    assert all(np.isfinite(w).all() for w in zoo.numpy(state.trainable))


SPEC = [keras.KerasTensor((2,), "float32")]


def built(aggregator, value, num_examples=3.0):
    """The aggregator, a client's message, and its summand."""
    rule = aggregator.build(SPEC)
    params = rule.params(rule.init(), np.zeros(2, np.int32))
    message, _ = rule.encode(
        [ops.convert_to_tensor(value)],
        params,
        np.zeros(2, np.int32),
        rule.init_memory(),
    )
    num_examples = ops.convert_to_tensor(np.float32(num_examples))
    return rule, message, rule.summand(message, num_examples, params)


@pytest.mark.parametrize("encoders", [[], ["eden:2"], ["uniform:4+huffman"]])
def test_what_is_sent_is_read_as_the_message_or_refused(encoders):
    aggregator = fl.aggregators.Mean("+".join(encoders) or ())
    rule, message, _ = built(aggregator, np.ones(2, "float32"))
    message = backend.to_numpy(message)
    sent = wire.unpack(wire.pack(rule.to_wire(message)))
    zoo.assert_equal(rule.from_wire(sent, message), message)
    for other in (sent[0], (sent[1], sent[1]), (sent[0], (np.zeros(3),))):
        with pytest.raises(ValueError, match="message"):
            rule.from_wire(other, message)
