"""Standard errors, intervals and winners, on synthetic clients' metrics."""

import numpy as np
import pytest
from scipy import stats

from fedlearn.many_models.comparison import Comparison
from fedlearn.many_models.design import MODELS_PER_CLIENT, design

pytestmark = pytest.mark.backend_free


def drawn(seed, effects, num_clients=60, clients_per_model=20, noise=0.3):
    """A metric that is a model's effect, a client's, and noise."""
    rng = np.random.default_rng(seed)
    noise = np.broadcast_to(noise, len(effects))[:, None]
    values = np.array(effects, float)[:, None] + rng.normal(size=num_clients)
    values = values + noise * rng.normal(size=values.shape)
    asked = design(len(effects), num_clients, clients_per_model, seed)
    return Comparison(
        {
            f"m{i}": {f"c{j}": row[j] for j in np.flatnonzero(mine)}
            for i, (row, mine) in enumerate(zip(values, asked, strict=True))
        }
    )


@pytest.mark.parametrize(
    ("num_models", "num_clients", "each"),
    [
        (2, 5, 5),
        (4, 9, 3),
        (10, 400, 20),
        (100, 2000, 50),
        (7, 8, 8),
        (6, 9, 1),
    ],
)
def test_every_model_has_its_clients_and_pairs_meet_equally_often(
    num_models, num_clients, each
):
    asked = design(num_models, num_clients, each, seed=1)
    assert asked.sum(axis=1).tolist() == [each] * num_models
    per_client = asked.sum(axis=0)
    fewest = -(-num_models * each // num_clients)
    limit = max(min(num_models, MODELS_PER_CLIENT), fewest)
    assert per_client.max() <= limit
    met = (asked.astype(int) @ asked.T)[np.triu_indices(num_models, 1)]
    assert met.max() - met.min() <= 2
    again = design(num_models, num_clients, each, seed=1)
    assert np.array_equal(asked, again)
    if each < num_clients:
        other = design(num_models, num_clients, each, seed=2)
        assert not np.array_equal(asked, other)


def test_with_all_clients_it_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3, 30))
    columns = {"a": a, "b": b, "c": c}
    comparison = Comparison(
        {n: {str(i): v for i, v in enumerate(x)} for n, x in columns.items()}
    )
    for name, x in columns.items():
        assert comparison.mean[name] == pytest.approx(x.mean())
        error = stats.sem(x)
        assert comparison.standard_error[name] == pytest.approx(error)
    told, expected = comparison.paired("a", "b"), stats.ttest_rel(a, b)
    assert told.difference == pytest.approx((a - b).mean())
    assert told.standard_error == pytest.approx(stats.sem(a - b))
    assert told.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert told.interval == pytest.approx(tuple(interval))
    assert told.num_clients == 30


def test_incomplete_blocks_are_least_squares_with_dummies():
    comparison = drawn(3, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5], 40, 12)
    rows, target = [], []
    for i, asked in enumerate(comparison._asked):
        for j in np.flatnonzero(asked):
            row = np.zeros(6 + 40)
            row[i] = row[6 + j] = 1
            rows.append(row)
            target.append(comparison._values[i, j])
    effects, *_ = np.linalg.lstsq(np.array(rows), np.array(target), rcond=None)
    for i in range(1, 6):
        told = comparison.paired(f"m{i}", "m0").difference
        assert told == pytest.approx(effects[i] - effects[0])


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("effects", "clients", "each", "noise"),
    [
        ([0, 0.5], 40, 10, 0.3),
        ([0, 0.5, 1, 1, 1], 60, 15, (0.2, 0.4, 0.6, 0.2, 0.4)),
        ([0, 0.5, *[1] * 18], 400, 20, 0.3),
    ],
)
def test_intervals_hold_the_truth_as_often_as_they_say(
    effects, clients, each, noise
):
    """300 runs at 95 %: below 91 % or above 99 % with probability 0.003."""
    found = [
        drawn(seed, effects, clients, each, noise).paired("m1", "m0")
        for seed in range(300)
    ]
    share = np.mean([d.interval[0] <= 0.5 <= d.interval[1] for d in found])
    assert 0.91 <= share <= 0.99
    # And standard errors are what estimates spread by over seeds: 300 tell a
    # deviation to 4 %, and the rule of thumb allows for thrice that.
    spread = np.std([d.difference for d in found])
    usual = np.sqrt(np.mean([d.standard_error**2 for d in found]))
    assert usual == pytest.approx(spread, rel=0.13)


@pytest.mark.statistical
def test_the_same_clients_tell_differences_that_others_do_not():
    """Among 20 models at 50 of 1,000 clients the error is under half."""
    found = [drawn(seed, [0.0] * 20, 1000, 50) for seed in range(40)]
    paired = np.std([c.paired("m0", "m1").difference for c in found])
    apart = np.std([c.mean["m0"] - c.mean["m1"] for c in found])
    assert paired < 0.5 * apart


@pytest.mark.statistical
@pytest.mark.parametrize(
    "effects", [[0, 0], [0, 0, 0], [0] * 8, [0, 0, 3, 3, 3]]
)
def test_equally_good_models_have_no_winner(effects):
    """At 5 % or less; 300 runs are above 9 % with probability 0.002."""
    best = [drawn(seed, effects).best for seed in range(300)]
    assert np.mean([name is not None for name in best]) <= 0.09


@pytest.mark.statistical
def test_a_better_model_wins_and_near_ones_are_contenders():
    """An advantage of 10 standard errors; and of a twentieth of one.

    The near one is lost in 2.5 % of runs: in over 10 of 100 with probability
    1e-4.
    """
    lost = 0
    for seed in range(100):
        assert drawn(seed, [1, 1, 0, 1]).best == "m2"
        near = drawn(seed, [1, 0.005, 0, 1])
        assert near.ranking[: len(near.contenders)] == near.contenders
        lost += set(near.contenders) != {"m1", "m2"}
    assert lost <= 10


def test_the_same_numbers_are_no_difference():
    rng = np.random.default_rng(0)
    values = {str(i): v for i, v in enumerate(rng.normal(size=9))}
    nearly = {c: v + 1e-8 for c, v in values.items()}
    comparison = Comparison({"a": values, "b": nearly})
    assert comparison.best is None
    assert comparison.contenders == comparison.ranking
    # A difference that is the same at three clients may be chance.
    same = Comparison(
        {
            "a": {"x": 1.0, "y": 2.0, "z": 3.0},
            "b": {"x": 2.0, "y": 3.0, "z": 4.0},
        }
    )
    assert same.best is None
    assert same.paired("b", "a").p_value == 0.25


def test_the_highest_is_best_where_that_is_so():
    rng = np.random.default_rng(0)
    low = {str(i): v for i, v in enumerate(rng.uniform(0, 0.1, 30))}
    high = {c: v + 0.5 + 0.01 * rng.normal() for c, v in low.items()}
    for mode, best in (("max", "high"), ("min", "low")):
        comparison = Comparison({"low": low, "high": high}, "accuracy", mode)
        assert comparison.best == best
        assert comparison.ranking[0] == best


def test_models_that_failed_are_last_and_never_contend():
    values = {str(i): float(i) for i in range(6)}
    broken = {**values, "3": float("nan")}
    infinite = dict.fromkeys(values, float("inf"))
    comparison = Comparison({"broken": broken, "a": values, "inf": infinite})
    assert comparison.failed == ("broken", "inf")
    assert comparison.ranking[0] == comparison.best == "a"
    assert "not a finite number" in repr(comparison)
    only = Comparison({"inf": infinite})
    assert only.best is None
    assert only.contenders == ()


def test_a_client_that_no_model_can_be_measured_on_is_left_out():
    """Such as an R2 score of a single example."""
    nan = float("nan")
    a = {"x": 0.1, "y": 0.2, "z": 0.3, "one": nan}
    b = {"x": 1.1, "y": 1.0, "z": 1.4, "one": nan}
    comparison = Comparison({"a": a, "b": b})
    assert comparison.failed == ()
    assert comparison.num_clients == {"a": 3, "b": 3}
    assert comparison.mean["a"] == pytest.approx(0.2)


def test_models_without_common_clients_cannot_be_told_apart():
    comparison = Comparison(
        {"a": {"x": 0.0, "y": 0.1}, "b": {"v": 10.0, "w": 10.1}}
    )
    told = comparison.paired("b", "a")
    assert told.difference == pytest.approx(10)
    assert np.isnan(told.standard_error)
    assert told.p_value == 1
    assert comparison.best is None
    assert comparison.contenders == ("a", "b")


def test_the_table_says_who_is_best_or_who_may_be():
    text = repr(drawn(0, [1, 1, 0, 1]))
    assert text.splitlines()[2].startswith("m2")
    assert text.endswith("The best is m2.")
    assert repr(drawn(0, [0, 0])).endswith(
        f"Can't be told apart: {', '.join(drawn(0, [0, 0]).contenders)}."
    )


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="nothing to compare"):
        Comparison({})
    comparison = Comparison({"first": {"x": 1.0}, "second": {"x": 2.0}})
    with pytest.raises(ValueError, match="Did you mean second"):
        comparison.paired("first", "secnd")
    with pytest.raises(ValueError, match="'min' or 'max'"):
        Comparison({"a": {"x": 1.0}}, "loss", "low")
