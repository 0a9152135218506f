"""Robust rules as functions, against slow versions written from the papers."""

import functools
import itertools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from keras import ops

from fedlearn import backend
from fedlearn.aggregators import (
    Bulyan,
    CenteredClipping,
    GeometricMedian,
    Krum,
    Median,
    NormBounding,
    OutlierRemoval,
    TrimmedMean,
    bulyan,
    distances,
    krum,
    sorted_rows,
    sorting_network,
)
from fedlearn.encoders import norms
from tests.zoo import floats


def updates(num_clients, seed=0, num_outliers=0, size=1e3):
    """Two variables of `num_clients` updates; the last ones are far off."""
    rng = np.random.default_rng([seed, num_clients])
    shapes = ((3, 2), (4,))
    values = [rng.normal(size=(num_clients, *s)) for s in shapes]
    for v in values:
        v[num_clients - num_outliers :] += size
    return [v.astype("float32") for v in values]


def as_matrix(values):
    return np.concatenate([v.reshape(len(v), -1) for v in values], axis=1)


def as_vector(aggregate):
    arrays = [ops.convert_to_numpy(a) for a in aggregate]
    return np.concatenate([a.reshape(-1) for a in arrays])


def tensors(values):
    return [ops.convert_to_tensor(v) for v in values]


def slow_trimmed_mean(X, cut):
    return np.sort(X, axis=0)[cut : len(X) - cut].mean(axis=0)


def slow_krum_scores(X, f):
    scores = []
    for i, x in enumerate(X):
        far = sorted(np.sum((x - y) ** 2) for j, y in enumerate(X) if j != i)
        scores.append(sum(far[: max(len(X) - f - 2, 1)]))
    return np.array(scores)


def slow_choice(X, f):
    """Which has the smallest score; of equals, which is nearest to all."""
    if len(X) == 1:
        return 0
    scores = slow_krum_scores(X, f)
    everyone = [sum(np.sum((x - y) ** 2) for y in X) for x in X]
    return min(range(len(X)), key=lambda i: (scores[i], everyone[i]))


def slow_bulyan(X, f):
    left, chosen = list(X), []
    while len(chosen) < len(X) - 2 * f:
        chosen.append(left.pop(slow_choice(left, f)))
    chosen = np.array(chosen)
    result = []
    for column in chosen.T:
        nearest = np.argsort(np.abs(column - np.median(column)))
        result.append(column[nearest[: len(chosen) - 2 * f]].mean())
    return np.array(result)


def slow_geometric_median(X, weights):
    """Weiszfeld's iteration in float64, on the points themselves."""
    v = np.average(X, axis=0, weights=weights)
    for _ in range(1000):
        far = np.maximum(np.linalg.norm(X - v, axis=1), 1e-9)
        v = np.average(X, axis=0, weights=weights / far)
    return v


def slow_centered_clip(X, center, tau, num_iterations):
    adaptive = tau == "median"
    for _ in range(num_iterations):
        ways = []
        if adaptive:
            tau = np.median(np.linalg.norm(X - center, axis=1))
        for x in X:
            way = x - center
            ways.append(way * min(1, tau / max(np.linalg.norm(way), 1e-9)))
        center = center + np.mean(ways, axis=0)
    return center


def slow_norm_bounding(X):
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    return (X * np.minimum(1, np.median(norms) / norms)).mean(axis=0)


def pairs(values, weight=None):
    """Squared distances of all pairs, in the updates' own unit."""
    if weight is None:
        weight = ops.ones(len(values[0]))
    found = distances.gram(values, weight)
    return distances.squared_distances(found.products) * found.unit**2


def fast_krum(values, weight, num_byzantine=1):
    return Krum(num_byzantine).aggregate(values, weight)


def fast_geometric_median(values, weight):
    return GeometricMedian(num_iterations=300).aggregate(values, weight)


def fast_clip(tau, values, weight):
    center = [ops.full(v.shape[1:], 0.5, v.dtype) for v in values]
    return CenteredClipping(tau, 3).step(center, values, weight)[0]


def slow_outlier_removal(X):
    norms = np.linalg.norm(X, axis=1)
    return X[norms <= 1.2 * np.median(norms)].mean(axis=0)


RULES = {
    "median": (Median().aggregate, lambda X: np.median(X, axis=0)),
    "trimmed_mean": (
        TrimmedMean(0.25).aggregate,
        lambda X: slow_trimmed_mean(X, len(X) // 4),
    ),
    "krum": (fast_krum, lambda X: X[slow_choice(X, 1)]),
    "bulyan": (Bulyan(1).aggregate, lambda X: slow_bulyan(X, 1)),
    "geometric_median": (
        fast_geometric_median,
        lambda X: slow_geometric_median(X, np.ones(len(X))),
    ),
    "centered_clip": (
        functools.partial(fast_clip, 1.5),
        lambda X: slow_centered_clip(X, np.full(X.shape[1], 0.5), 1.5, 3),
    ),
    "adaptive_clip": (
        functools.partial(fast_clip, "median"),
        lambda X: slow_centered_clip(X, np.full(X.shape[1], 0.5), "median", 3),
    ),
    "norm_bounding": (
        NormBounding().aggregate,
        slow_norm_bounding,
    ),
    "outlier_removal": (OutlierRemoval(1.2).aggregate, slow_outlier_removal),
}


@functools.cache
def compiled(rule):
    return backend.jit(RULES[rule][0])


def run(rule, values, weight=None):
    """A rule's aggregate as one vector."""
    if weight is None:
        weight = np.ones(len(values[0]), "float32")
    weight = weight.astype(norms.wide_dtype(values))
    found = compiled(rule)(tensors(values), ops.convert_to_tensor(weight))
    return as_vector(found)


rules = pytest.mark.parametrize("rule", RULES)


@rules
@pytest.mark.parametrize("num_clients", [7, 8, 11])
def test_a_rule_equals_its_slow_version(rule, num_clients):
    _, slow = RULES[rule]
    for seed in range(3):
        values = updates(num_clients, seed)
        np.testing.assert_allclose(
            run(rule, values), slow(as_matrix(values)), rtol=1e-3, atol=1e-4
        )


@rules
def test_rows_that_do_not_count_are_not_seen(rule):
    values = updates(8)
    known = run(rule, values)
    places = [0, 2, 3, 5, 6, 7, 9, 10]  # of 11
    wide = [np.zeros((11, *v.shape[1:]), "float32") for v in values]
    weight = np.zeros(11, "float32")
    weight[places] = 1
    for w, v in zip(wide, values, strict=True):
        w[places] = v
    found = run(rule, wide, weight)
    np.testing.assert_allclose(found, known, rtol=1e-4, atol=1e-5)


@rules
@hypothesis.given(
    order=st.permutations(range(9)), seed=st.integers(0, 3), far=st.booleans()
)
@hypothesis.settings(max_examples=15)
def test_the_order_of_clients_does_not_matter(rule, order, seed, far):
    values = updates(9, seed, num_outliers=far)
    known = run(rule, values)
    found = run(rule, [v[list(order)] for v in values])
    np.testing.assert_allclose(found, known, rtol=1e-3, atol=1e-3)


@rules
@pytest.mark.parametrize("size", [1e2, 1e10, 1e25])
def test_one_client_cannot_move_the_aggregate_far(rule, size):
    values = updates(9, num_outliers=1, size=size)
    honest = as_matrix(values)[:8]
    found = run(rule, values)
    reach = np.linalg.norm(honest - honest.mean(axis=0), axis=1).max()
    assert np.linalg.norm(found - honest.mean(axis=0)) <= reach


@rules
def test_updates_that_are_all_alike(rule):
    values = [np.repeat(v[:1], 9, axis=0) for v in updates(9)]
    found = run(rule, values)
    expected = as_matrix(values)[0]
    if rule == "centered_clip":
        expected = slow_centered_clip(
            as_matrix(values), np.full(len(expected), 0.5), 1.5, 3
        )
    # With "median" the center goes to where all are at once.
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@rules
def test_updates_in_another_unit_give_the_aggregate_in_that_unit(rule):
    if rule == "centered_clip":
        pytest.skip("a fixed tau is a length in the updates' unit")
    # The center of `adaptive_clip` stays at 0.5: of updates far larger it is
    # as if it were zero.
    values = [1e6 * v for v in updates(9)]
    known = run(rule, values)
    found = run(rule, [8 * v for v in values])
    np.testing.assert_allclose(found, 8 * known, rtol=1e-4, atol=100)


@pytest.mark.parametrize(
    ("outlier", "apart"),
    [(0.0, 1e-5), (30.0, 1e-3), (30.0, 1e-5), (1e6, 1e-5)],
)
def test_clients_that_agree_are_told_apart(apart, outlier):
    """Updates that differ by a 1000th or a 100,000th of their norm.

    In float32 the squares of their norms have lost what tells them apart.
    """
    median = backend.jit(fast_geometric_median)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        common = rng.normal(size=400)
        X = common + apart * rng.normal(size=(12, 400))
        X[-2:] += apart * outlier * rng.normal(size=400)
        values = [X[:, :100].astype("float32"), X[:, 100:].astype("float32")]
        X = as_matrix(values).astype("float64")
        scores = slow_krum_scores(X, 2)
        found = ops.convert_to_numpy(
            krum.krum_scores(pairs(tensors(values)), ops.ones(12), 2)
        )
        np.testing.assert_allclose(found[:10], scores[:10], rtol=1e-3)
        order = np.argsort(scores)
        if scores[order[1]] > 1.002 * scores[order[0]]:
            chosen = fast_krum(tensors(values), ops.ones(12), 2)
            np.testing.assert_array_equal(as_vector(chosen), X[order[0]])
        spread = np.linalg.norm(X[:10] - X[:10].mean(axis=0), axis=1).mean()
        found = median(tensors(values), ops.ones(12))
        off = as_vector(found) - slow_geometric_median(X, np.ones(12))
        # What float32 rounds off the median itself is 0.3 % at 1e-5 apart,
        # and off the sum that it is another 1 %.
        assert np.linalg.norm(off) < 2e-2 * spread


@rules
@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        ("float32", 1e20),
        ("float32", 1e36),
        ("float64", 1e25),
        ("float64", 1e59),
        ("float64", 1e154),
        ("float64", 1e300),
    ],
)
def test_a_finite_update_has_no_more_say_for_being_huge(rule, dtype, size):
    """Squares overflow at 1.8e19 in float32, and 1e59 isn't finite there."""
    found = []
    with floats(dtype):
        for length in (1e8, size):
            values = [v.astype(dtype) for v in updates(9)]
            for v in values:
                v[-1] = length
            found.append(run(rule, values))
    honest = as_matrix(updates(9))[:8].astype("float64")
    middle = honest.mean(axis=0)
    reach = np.linalg.norm(honest - middle, axis=1).max()
    assert np.linalg.norm(found[1] - middle) <= reach
    if rule not in ("bulyan", "geometric_median"):
        # One settles ties by distances to all, the other leaves out what is
        # too far for its square.
        np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-4)


@rules
@pytest.mark.parametrize(
    ("dtype", "unit"),
    [
        ("float32", 1e-30),
        ("float32", 1e30),
        ("float64", 1e-200),
        ("float64", 1e250),
    ],
)
def test_updates_of_any_magnitude_have_their_aggregate(rule, dtype, unit):
    """Squares would all be zero, or all infinite."""
    if rule == "centered_clip" or (rule == "adaptive_clip" and unit < 1):
        pytest.skip("a length, or a center, in the updates' unit")
    _, slow = RULES[rule]
    values = updates(9)
    with floats(dtype):
        wide = [(unit * v.astype("float64")).astype(dtype) for v in values]
        found = run(rule, wide).astype("longdouble")
    expected = slow(as_matrix(values).astype("float64"))
    if rule == "geometric_median" and unit < 1e-6:
        # All distances are below the smoothing.
        expected = as_matrix(values).mean(axis=0)
    if rule == "adaptive_clip":
        expected = slow_centered_clip(
            as_matrix(values).astype("float64"), 0.0, "median", 3
        )
    np.testing.assert_allclose(
        (found / np.longdouble(unit)).astype("float64"),
        expected,
        rtol=1e-3,
        atol=1e-4,
    )


def test_an_adaptive_radius_in_one_dimension():
    """Closed forms. Around 0 the median distance is 2: the mean of 1, 2, 2."""
    stack = [np.array([[1.0], [2.0], [100.0]], "float32")]
    center = [ops.zeros(1)]

    def clipped(num_iterations):
        rule = CenteredClipping("median", num_iterations)
        (found,), _ = rule.step(center, tensors(stack), ops.ones(3))
        return float(found[0])

    assert clipped(1) == pytest.approx(5 / 3)
    # Around 5/3 distances are 2/3, 1/3 and far: ways of -2/3, 1/3 and 2/3.
    assert clipped(2) == pytest.approx(5 / 3 + 1 / 9)
    assert as_vector(
        NormBounding().aggregate(tensors(stack), ops.ones(3))
    ) == pytest.approx(5 / 3)


def test_most_updates_being_where_the_center_is_keep_it_there():
    stack = tensors([np.array([[3.0], [3.0], [3.0], [9.0]], "float32")])
    rule = CenteredClipping("median", 2)
    (found,), _ = rule.step([ops.full((1,), 3.0)], stack, ops.ones(4))
    assert float(found[0]) == 3.0
    still = tensors([np.array([[0.0], [0.0], [0.0], [9.0]], "float32")])
    (found,) = NormBounding().aggregate(still, ops.ones(4))
    assert float(found[0]) == 0.0


@pytest.mark.parametrize("num_rows", [2, 7, 100])
def test_a_network_sorts_any_zeros_and_ones(num_rows):
    """By the 0-1 principle it then sorts anything (Knuth, 5.3.4Z)."""
    partners, keeps_smaller = sorting_network.stages(num_rows)
    cases = np.tri(num_rows, dtype="float32")  # each number of ones
    cases = np.random.default_rng(0).permuted(np.tile(cases, (1, 9)), axis=0)
    if num_rows <= 7:
        cases = np.array(list(itertools.product([0.0, 1.0], repeat=num_rows))).T
    rows = cases
    for partner, smaller in zip(partners, keeps_smaller, strict=True):
        assert (partner[partner] == np.arange(num_rows)).all()
        rows = np.where(
            smaller[:, None],
            np.minimum(rows, rows[partner]),
            np.maximum(rows, rows[partner]),
        )
    np.testing.assert_array_equal(rows, np.sort(cases, axis=0))


def test_columns_sorted_by_comparisons_are_those_of_a_sort(monkeypatch):
    monkeypatch.setattr(sorting_network, "FEWEST_COLUMNS", 1)
    stack = np.random.default_rng(0).normal(size=(9, 700)).astype("float32")
    stack[:, ::3] = np.round(stack[:, ::3])  # with ties, 0.0 and -0.0
    stack[2, :50] = np.inf
    stack[5, 30:90] = -np.inf
    calls = []
    pieces = sorting_network._sort_pieces
    monkeypatch.setattr(
        sorting_network, "_sort_pieces", lambda s: calls.append(s) or pieces(s)
    )
    found = backend.jit(lambda s: sorting_network.sort_columns(s))(
        ops.convert_to_tensor(stack)
    )
    np.testing.assert_array_equal(
        ops.convert_to_numpy(found), np.sort(stack, axis=0)
    )
    assert len(calls) == (sorting_network._compiler() is not None)


def test_a_median_of_numbers_near_the_largest_float():
    stack = ops.convert_to_tensor(np.full((2, 1), 3e38, "float32"))
    (found,) = Median().aggregate([stack], ops.ones(2))
    np.testing.assert_allclose(ops.convert_to_numpy(found), [3e38], rtol=1e-6)


@pytest.mark.parametrize(
    ("fraction", "num_clients", "cut"),
    [(0.0, 5, 0), (0.2, 10, 2), (0.29, 100, 29), (0.49, 2, 0), (0.4999, 5, 2)],
)
def test_how_many_are_trimmed(fraction, num_clients, cut):
    values = np.random.default_rng(0).normal(size=(num_clients, 6))
    values = [values.astype("float32")]
    rule = TrimmedMean(fraction)
    found = rule.aggregate(tensors(values), ops.ones(num_clients))
    expected = slow_trimmed_mean(values[0], cut)
    np.testing.assert_allclose(as_vector(found), expected, atol=1e-5)


@pytest.mark.parametrize("num_byzantine", [0, 1, 2])
def test_krum_scores(num_byzantine):
    values = updates(8, num_outliers=num_byzantine)
    found = krum.krum_scores(
        pairs(tensors(values)),
        ops.ones(8),
        num_byzantine,
    )
    expected = slow_krum_scores(as_matrix(values).astype(float), num_byzantine)
    honest = slice(0, 8 - num_byzantine)
    np.testing.assert_allclose(
        ops.convert_to_numpy(found)[honest], expected[honest], rtol=1e-3
    )


def test_of_equal_scores_the_one_closest_to_all_wins():
    points = np.array([[9.0], [0.0], [1.0], [6.0], [90.0]], "float32")
    for order in itertools.islice(itertools.permutations(range(5)), 0, 120, 7):
        found = krum.krum_ranks(
            pairs(tensors([points[list(order)]])),
            ops.ones(5),
            2,
        )
        ranks = ops.convert_to_numpy(found)
        # 0 and 1 are each other's neighbours; 1 is closer to all others.
        assert points[order[int(np.argmin(ranks))], 0] == 1.0
        assert sorted(ranks.tolist()) == [0, 1, 2, 3, 4]


def test_distances_equal_those_of_the_points():
    values = updates(6)
    X = as_matrix(values).astype(float)
    points = distances.gram(tensors(values), ops.ones(6))
    expected = [[np.sum((x - y) ** 2) for y in X] for x in X]
    np.testing.assert_allclose(
        ops.convert_to_numpy(pairs(tensors(values))),
        expected,
        rtol=1e-4,
        atol=1e-5,
    )
    weights = np.arange(6, dtype="float32") / 15
    to_sum = distances.squared_distances_to(
        points.products, ops.convert_to_tensor(weights)
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(to_sum * points.unit**2),
        np.sum((X - weights @ X) ** 2, axis=1),
        rtol=1e-4,
        atol=1e-5,
    )


def test_the_geometric_median_of_a_triangle_is_its_fermat_point():
    """Closed form: of an equilateral triangle it is the centre; where an
    angle is 120 degrees or more, it is that corner."""
    equal = np.array([[0, 0], [1, 0], [0.5, np.sqrt(3) / 2]], "float32")
    flat = np.array([[0, 0.1], [-1, 0], [1, 0]], "float32")
    for points, expected in (
        (equal, equal.mean(axis=0)),
        (flat, flat[0]),
    ):
        found = run("geometric_median", [points])
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_the_geometric_median_takes_weights():
    values = updates(6)
    weights = np.array([1, 5, 2, 1, 1, 3], "float32")
    found = run("geometric_median", values, weights)
    expected = slow_geometric_median(as_matrix(values), weights)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    # More than half of all weight in one place: the median is there.
    weights[1] = 100
    found = run("geometric_median", values, weights)
    np.testing.assert_allclose(found, as_matrix(values)[1], atol=1e-2)


def test_means_between_rows_of_each_columns_own():
    rows = np.sort(np.random.default_rng(0).normal(size=(6, 3)), axis=0)
    rows = rows.astype("float32")
    start = np.array([0, 2, 3], "int32")
    found = sorted_rows.mean_between(
        ops.convert_to_tensor(rows), start, start + 2
    )
    expected = [rows[s : s + 2, k].mean() for k, s in enumerate(start)]
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=1e-5)


def test_the_window_around_the_median_holds_its_nearest_values():
    values = [np.random.default_rng(3).gamma(0.3, size=(12, 50))]
    values = [v.astype("float32") for v in values]
    for left_out in range(0, 11, 2):
        found = bulyan.mean_around_median(
            tensors(values), ops.ones(12), left_out
        )
        expected = []
        for column in values[0].T:
            near = np.argsort(np.abs(column - np.median(column)))
            expected.append(column[near[: 12 - left_out]].mean())
        np.testing.assert_allclose(as_vector(found), expected, rtol=1e-4)


def test_an_update_within_the_norm_stays_and_one_beyond_is_scaled():
    value = [np.full((2, 2), 2.0, "float32"), np.full(9, 1.0, "float32")]
    for norm, scale in ((6.0, 1.0), (5.0, 1.0), (2.5, 0.5)):
        rule = NormBounding(norm)
        message = tensors(value), ()
        found = rule.summand(message, ops.ones(()), ())["value"]
        for a, b in itertools.zip_longest(found, value):
            np.testing.assert_allclose(
                ops.convert_to_numpy(a), scale * b, rtol=1e-6
            )
