"""Robust rules inside a process: cohorts, encoders, state, refusals."""

import keras
import numpy as np
import pytest
from keras import ops

import fedlearn as fl
from fedlearn import aggregators, encoders
from tests import zoo

RULES = {
    "bulyan": aggregators.Bulyan(1),
    "adaptive_clipping": aggregators.CenteredClipping(),
    "adaptive_bounding": aggregators.NormBounding(),
    "centered_clipping": aggregators.CenteredClipping(0.5, num_iterations=2),
    "geometric_median": aggregators.GeometricMedian(),
    "krum": aggregators.Krum(1, num_selected=2),
    "median": aggregators.Median(),
    "norm_bounding": aggregators.NormBounding(0.5),
    "outlier_removal": aggregators.OutlierRemoval(1.2),
    "trimmed_mean": aggregators.TrimmedMean(0.25),
}
SIZES = (8, 8, 5, 9, 8, 4, 8)

rules = pytest.mark.parametrize("rule", RULES)


def process_with(aggregator, executor="sequential"):
    return fl.FederatedAveraging(
        zoo.regression(),
        client=fl.LocalTraining(batch_size=4, shuffle=False),
        aggregator=aggregator,
        executor=executor,
    )


def change(process, cohort):
    """How one round moves the weights, as a vector; and its metrics."""
    state = process.initialize()
    after, metrics = process.next(state, cohort)
    pairs = zip(
        zoo.numpy(after.trainable), zoo.numpy(state.trainable), strict=True
    )
    return np.concatenate([(a - b).ravel() for a, b in pairs]), metrics


def changes(cohort):
    """Each client's change by itself, of shape `(clients, parameters)`."""
    process = zoo.regression_process()
    return np.stack([change(process, [cohort[i]])[0] for i in cohort])


def with_bad_clients(cohort):
    """With a client that has no examples, and one whose update is NaN."""
    x, y = zoo.line(8)
    data = {i: cohort[i] for i in cohort}
    first = next(iter(data))
    return {
        "empty": zoo.line(0),
        first: data.pop(first),
        "broken": (x * np.nan, y),
        **data,
    }


def expected(rule, X):
    if rule == "norm_bounding":
        norms = np.linalg.norm(X, axis=1, keepdims=True)
        return (X * np.minimum(1, 0.5 / norms)).mean(axis=0)
    if rule == "median":
        return np.median(X, axis=0)
    if rule == "trimmed_mean":
        cut = len(X) // 4
        return np.sort(X, axis=0)[cut : len(X) - cut].mean(axis=0)
    if rule == "outlier_removal":
        norms = np.linalg.norm(X, axis=1)
        return X[norms <= 1.2 * np.median(norms)].mean(axis=0)
    if rule == "centered_clipping":
        v = np.zeros(X.shape[1])
        for _ in range(2):
            norms = np.linalg.norm(X - v, axis=1, keepdims=True)
            v = v + ((X - v) * np.minimum(1, 0.5 / norms)).mean(axis=0)
        return v
    return None  # of the others, test_robust_maths has slow versions


@rules
def test_clients_that_do_not_count_are_as_if_they_were_not_there(rule):
    process = process_with(RULES[rule])
    cohort = zoo.clients(SIZES, make=zoo.line)
    known, metrics = change(process, cohort)
    assert metrics["num_aggregated"] == len(SIZES)
    slow = expected(rule, changes(cohort))
    if slow is not None:
        np.testing.assert_allclose(known, slow, rtol=1e-4, atol=1e-5)
    found, metrics = change(process, with_bad_clients(cohort))
    np.testing.assert_allclose(found, known, rtol=1e-4, atol=1e-5)
    assert metrics["num_aggregated"] == len(SIZES)
    assert metrics["num_rejected"] == 1
    assert metrics["num_clients"] == len(SIZES) + 1  # the empty one, too


@pytest.mark.parametrize("rule", ["bulyan", "norm_bounding"])
def test_executors_agree(rule):
    cohort = with_bad_clients(zoo.clients(SIZES, make=zoo.line))
    one, _ = change(process_with(RULES[rule]), cohort)
    other, _ = change(process_with(RULES[rule], "vectorized"), cohort)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.backend_free
@rules
def test_config_round_trip(rule):
    config = RULES[rule].get_config()
    copy = type(RULES[rule]).from_config(config)
    assert copy.get_config() == config


class Halve(encoders.Encoder):
    """Sends halves, and counts its clients."""

    decodes = "either"

    def encode(self, value, params, seed):
        return [v / 2 for v in value], ops.ones((), "int32")

    def decode(self, value, params):
        return [2 * v for v in value]

    def update(self, state, stats, noise):
        return state, {"num_halved": stats}


class OwnScale(encoders.Encoder):
    """Sends a direction and each client's own length."""

    decodes = "summand"

    def encode(self, value, params, seed):
        length = ops.sqrt(sum(ops.sum(ops.square(v)) for v in value)) + 1e-9
        return {"way": [v / length for v in value], "length": length}, ()

    def decode(self, value, params):
        return [v * value["length"] for v in value["way"]]


class SumNoise(encoders.Encoder):
    decodes = "sum"


@rules
def test_updates_are_decoded_before_the_rule_sees_them(rule):
    links = (Halve(), OwnScale())
    config = {**RULES[rule].get_config(), "encoders": links}
    coded = type(RULES[rule])(**config)
    cohort = zoo.clients(SIZES, make=zoo.line)
    found, metrics = change(process_with(coded), cohort)
    known, _ = change(process_with(RULES[rule]), cohort)
    np.testing.assert_allclose(found, known, rtol=1e-4, atol=1e-5)
    assert metrics["num_halved"] == len(SIZES)


@pytest.mark.backend_free
@rules
def test_encoders_that_need_the_sum_are_refused(rule):
    config = {**RULES[rule].get_config(), "encoders": (SumNoise(),)}
    with pytest.raises(ValueError, match=r"SumNoise can only be decoded on"):
        type(RULES[rule])(**config)


@pytest.mark.parametrize(
    ("rule", "needed"),
    [
        (aggregators.Krum(2), 7),
        (aggregators.Krum(1, num_selected=4), 7),
        (aggregators.Bulyan(1), 7),
    ],
)
def test_too_few_clients(rule, needed):
    cohort = zoo.clients((4,) * needed, make=zoo.line)
    process = process_with(rule)
    with pytest.raises(
        ValueError, match=f"needs at least {needed} clients.*{needed - 1} took"
    ):
        change(process, cohort.select(cohort.client_ids[1:]))
    # Enough came, but one of them is broken: a round is lost, not the run.
    broken = {i: cohort[i] for i in cohort.client_ids[1:]}
    x, y = zoo.line(4)
    moved, metrics = change(process, {**broken, "broken": (x * np.nan, y)})
    assert not moved.any()
    assert metrics["num_aggregated"] == 0
    moved, metrics = change(process, cohort)
    assert moved.any()
    assert metrics["num_aggregated"] == needed
    # Graphs take any number by now; what is too few is too few still.
    change(process, zoo.clients((4,) * (needed + 1), make=zoo.line))
    with pytest.raises(ValueError, match=f"needs at least {needed} clients"):
        change(process, cohort.select(cohort.client_ids[1:]))


@pytest.mark.backend_free
def test_fit_shows_a_round_that_too_few_updates_cost(capsys):
    data = {i: zoo.line(4) for i in "abcdef"}
    x, y = zoo.line(4)
    data["broken"] = (x * np.nan, y)
    process = process_with(aggregators.Krum(2))
    with pytest.warns(UserWarning, match="left out .* 'broken'"):
        history = process.fit(data, rounds=1, verbose=2)
    assert history.history["num_aggregated"] == [0]
    assert history.history["num_rejected"] == [1]
    assert "num_aggregated: 0" in capsys.readouterr().out
    few = process_with(aggregators.Krum(2))
    with pytest.raises(ValueError, match="Draw more clients a round"):
        few.fit(data, rounds=1, clients_per_round=6, verbose=0)


def test_a_round_of_nobody_changes_nothing():
    for rule in RULES.values():
        if rule.num_required == 1:
            moved, metrics = change(process_with(rule), {"a": zoo.line(0)})
            assert not moved.any()
            assert metrics["num_aggregated"] == 0


def test_the_geometric_median_weighs_by_examples_if_asked():
    cohort = zoo.clients((4, 4, 40), make=zoo.line)
    rule = aggregators.GeometricMedian(weighting="num_examples")
    found, _ = change(process_with(rule), cohort)
    # More than half of all examples are the last client's.
    np.testing.assert_allclose(found, changes(cohort)[2], atol=5e-3)


def test_centered_clipping_starts_from_the_last_aggregate():
    process = process_with(aggregators.CenteredClipping(0.1, num_iterations=1))
    cohort = zoo.clients((8, 8, 8), make=zoo.line)
    state = process.initialize()
    center = np.zeros(4)
    for _ in range(3):
        X = []
        for i in cohort:
            known = zoo.regression_process()
            start = known.initialize()._replace(trainable=state.trainable)
            after, _ = known.next(start, [cohort[i]])
            X.append(flat(after.trainable) - flat(state.trainable))
        X = np.stack(X)
        norms = np.linalg.norm(X - center, axis=1, keepdims=True)
        ways = (X - center) * np.minimum(1, 0.1 / norms)
        center = center + ways.mean(axis=0)
        new, metrics = process.next(state, cohort)
        np.testing.assert_allclose(
            flat(new.trainable) - flat(state.trainable),
            center,
            rtol=1e-3,
            atol=1e-5,
        )
        np.testing.assert_allclose(
            flat(new.aggregator["rule"]), center, rtol=1e-3, atol=1e-5
        )
        state = new
    plain = process_with(aggregators.Median())
    _, other = plain.next(plain.initialize(), cohort)
    # What is kept at the server isn't sent to clients.
    assert metrics["bytes_down"] == pytest.approx(other["bytes_down"], abs=60)


def flat(values):
    return np.concatenate([v.ravel() for v in zoo.numpy(values)])


def test_centered_clipping_goes_on_from_a_saved_state(tmp_path):
    process = process_with(aggregators.CenteredClipping(0.1, num_iterations=1))
    cohort = zoo.clients((8, 8, 8), make=zoo.line)
    state, _ = process.next(process.initialize(), cohort)
    process.save_state(state, tmp_path / "state")
    loaded = process.load_state(tmp_path / "state")
    zoo.assert_equal(
        process.next(loaded, cohort)[0], process.next(state, cohort)[0]
    )


def test_updates_of_half_precision_keep_their_dtype():
    stack = {
        "value": [ops.cast(ops.ones((3, 2)), "bfloat16")],
        "weight": ops.ones(3),
        "stats": (),
    }
    rule = aggregators.Median().build([keras.KerasTensor((2,), "bfloat16")])
    (found,), _, _ = rule.finish(rule.init(), stack, (), ())
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"


@pytest.mark.backend_free
@pytest.mark.parametrize(
    "make",
    [
        lambda: aggregators.TrimmedMean(0.5),
        lambda: aggregators.TrimmedMean(-0.1),
        lambda: aggregators.Krum(-1),
        lambda: aggregators.Krum(1.5),
        lambda: aggregators.Krum(1, num_selected=0),
        lambda: aggregators.Bulyan(-1),
        lambda: aggregators.GeometricMedian(weighting="equal"),
        lambda: aggregators.GeometricMedian(smoothing=0.0),
        lambda: aggregators.GeometricMedian(num_iterations=0),
        lambda: aggregators.CenteredClipping(0.0),
        lambda: aggregators.CenteredClipping("mean"),
        lambda: aggregators.NormBounding(float("inf")),
        lambda: aggregators.NormBounding("middle"),
        lambda: aggregators.OutlierRemoval(1.0),
    ],
)
def test_arguments_out_of_range(make):
    with pytest.raises(ValueError, match="Received"):
        make()
