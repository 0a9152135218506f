"""Searches of hyper-parameters against slow and obvious ones."""

import itertools
import json

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn.many_models.search import rungs
from fedlearn.many_models.search_space import candidates
from tests.many_models.problems import classifier, clients_of

# Each candidate is a process like any other.
pytestmark = pytest.mark.backend_free

CLIENTS = fl.FederatedDataset.from_clients(clients_of([6, 9, 6, 9, 6, 9, 6, 9]))
TRAIN, HELD_OUT = CLIENTS.split(0.8, seed=0)
RATES = [1e-3, 0.03, 0.3, 1.0]


def build(learning_rate, server=1.0):
    return fl.FederatedAveraging(
        classifier(0),
        client=fl.LocalTraining(
            keras.optimizers.SGD(learning_rate), batch_size=3
        ),
        server_optimizer=keras.optimizers.SGD(server),
    )


def search(space=None, budget=96, **arguments):
    given = {"clients_per_round": 3, "eta": 2, "verbose": 0, **arguments}
    space = {"learning_rate": RATES} if space is None else space
    return fl.search(build, space, CLIENTS, budget, **given)


def trained(candidate, rounds):
    process = build(**candidate)
    process.fit(TRAIN, rounds=rounds, clients_per_round=3, seed=0, verbose=0)
    return process


def loss_of(process):
    evaluation = process.evaluate(HELD_OUT, per_client=True)
    return np.mean([c["loss"] for c in evaluation["per_client"].values()])


def weights(process):
    return [w.tobytes() for w in process.model.get_weights()]


def test_halving_is_the_slow_and_obvious_one():
    """Every candidate is trained from the start for each rung."""
    found = search()
    left, rounds = [{"learning_rate": rate} for rate in RATES], 0
    # 32 rounds in all, half for each rung: 4 candidates, 4 rounds; 2, 8 more.
    for count, more in ((4, 4), (2, 8)):
        rounds += more
        losses = [loss_of(trained(c, rounds)) for c in left]
        rung = found.rungs[[4, 12].index(rounds)]
        assert rung.rounds == rounds
        assert list(rung.comparison.mean.values()) == pytest.approx(
            [
                losses[left.index(found.candidates[n])]
                for n in rung.comparison.mean
            ]
        )
        left = [left[i] for i in np.argsort(losses)[: count // 2]]
    assert found.best == left[0]
    assert found.spent == 96
    assert weights(found.process) == weights(trained(found.best, 12))


@pytest.mark.backend_free
@pytest.mark.parametrize("eta", [2, 3, 4])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 27, 100])
def test_the_plan_spends_all_but_less_than_a_round_of_the_last_rung(count, eta):
    for total in (1000, 1001, 1023):
        plan = rungs(count, total, eta)
        spent = sum(n * rounds for n, rounds in plan)
        assert 0 <= total - spent < plan[-1][0]
        # J&T: r_k = floor(B / (|S_k| ceil(log_eta n))).
        num_rungs = 1
        while eta**num_rungs < count:
            num_rungs += 1
        assert len(plan) == num_rungs
        for n, rounds in plan[:-1]:
            assert rounds == total // (n * num_rungs)
        for (n, _), (after, _) in itertools.pairwise(plan):
            assert after == -(-n // eta)


@pytest.mark.parametrize("method", ["grid", "random"])
def test_without_halving_all_train_equally(method):
    space = {"learning_rate": [0.03, 0.3], "server": [0.5, 1.0]}
    draws = {"num_candidates": 3} if method == "random" else {}
    found = search(space, budget=30, method=method, **draws)
    count = draws.get("num_candidates", 4)
    assert len(found.rows) == len(found.candidates) == count
    rounds = 30 // 3 // count
    assert found.spent == count * rounds * 3
    assert {row["rounds"] for row in found.rows} == {rounds}
    losses = [row["loss"] for row in found.rows]
    assert losses == sorted(losses)
    assert found.best["learning_rate"] == found.rows[0]["learning_rate"]
    assert weights(found.process) == weights(trained(found.best, rounds))


class StopError(Exception):
    """Instead of a kill."""


@pytest.mark.parametrize("reads", [10, 80])
def test_a_search_that_was_killed_goes_on_to_the_same_bits(
    tmp_path, monkeypatch, reads
):
    unbroken = search()
    left = [reads]
    read = fl.FederatedDataset.__getitem__

    def failing(self, client_id):
        left[0] -= 1
        if left[0] < 0:
            raise StopError
        return read(self, client_id)

    monkeypatch.setattr(fl.FederatedDataset, "__getitem__", failing)
    with pytest.raises(StopError):
        search(directory=tmp_path)
    monkeypatch.undo()
    resumed = search(directory=tmp_path)
    assert resumed.spent == unbroken.spent
    assert resumed.rows == unbroken.rows
    for one, other in zip(resumed.rungs, unbroken.rungs, strict=True):
        assert one.comparison.values == other.comparison.values
    assert weights(resumed.process) == weights(unbroken.process)
    # Once it is done, it is only read.
    monkeypatch.setattr(fl.FederatedDataset, "__getitem__", failing)
    left[0] = 3  # who are fingerprinted
    assert search(directory=tmp_path).rows == unbroken.rows


def test_another_search_in_the_directory_is_refused(tmp_path):
    search(budget=48, directory=tmp_path)
    with pytest.raises(ValueError, match="another search: seed was 0"):
        search(budget=48, directory=tmp_path, seed=1)
    written = json.loads((tmp_path / "search.json").read_text())
    assert len(written["rungs"]) == 2


def test_candidates_that_diverge_are_last_and_it_is_said():
    found = search({"learning_rate": [1e30, 0.3, 0.03, 1e25]})
    assert found.best in ({"learning_rate": 0.3}, {"learning_rate": 0.03})
    rows = found.rows
    assert [row["failed"] for row in rows] == [False, False, True, True]
    assert {row["rounds"] for row in rows if row["failed"]} == {4}
    assert repr(found).count("failed: not finite") == 2
    with pytest.raises(ValueError, match="no candidate has finite"):
        search({"learning_rate": [1e30, 1e25]})


def test_candidates_begin_alike_and_what_build_returns_is_free():
    def fresh(kind):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        model.compile(
            keras.optimizers.SGD(1e-30),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        client = fl.LocalTraining(batch_size=3)
        if kind == "process":
            return fl.FederatedAveraging(model, client=client)
        return (model, client) if kind == "pair" else model

    space = {"kind": ["model", "pair", "process"]}
    found = fl.search(fresh, space, CLIENTS, 18, "grid", verbose=0)
    assert len({row["loss"] for row in found.rows}) == 1
    assert found.comparison.best is None
    assert "Not told apart from the first: " in repr(found)
    with pytest.raises(TypeError, match="`build` must return a process"):
        fl.search(lambda kind: None, space, CLIENTS, 18, verbose=0)


def test_clients_may_be_a_dict_and_validation_others(capsys):
    found = fl.search(
        build,
        [{"learning_rate": 0.03}, {"learning_rate": 0.3}],
        clients_of([6, 9, 6]),
        budget=6,
        validation_data=HELD_OUT,
        metric="accuracy",
    )
    assert found.spent == 6
    assert found.comparison.client_ids == HELD_OUT.client_ids
    assert found.comparison.mode == "max"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Rung 1 of 1: 2 candidates up to round 1; best")
    axes = fl.plot.search(found)
    assert [t.get_text() for t in axes.get_legend().get_texts()] == [
        row["candidate"] for row in found.rows
    ]


@pytest.mark.backend_free
def test_ranges_are_drawn_within_their_bounds():
    space = {
        "rate": (1e-3, 1.0, "log"),
        "epochs": (1, 5, "linear"),
        "momentum": [0.0, 0.9],
    }
    drawn = candidates(space, 400, seed=0)
    assert drawn == candidates(space, 400, seed=0)
    assert drawn != candidates(space, 400, seed=1)
    rates = np.array([c["rate"] for c in drawn])
    assert 1e-3 <= rates.min() < 1.1e-3
    assert 0.9 < rates.max() <= 1
    # The median of a log-uniform rate is the geometric mean: at 400 draws
    # within a factor of 1.6 with probability above 0.99.
    assert 10**-1.5 / 1.6 < np.median(rates) < 1.6 * 10**-1.5
    assert {c["epochs"] for c in drawn} == {1, 2, 3, 4, 5}
    assert {c["momentum"] for c in drawn} == {0.0, 0.9}
    few = candidates({"a": [1, 2, 3], "b": [1, 2, 3]}, 4, seed=0)
    assert len({tuple(c.items()) for c in few}) == 4


@pytest.mark.parametrize(
    ("space", "arguments", "message"),
    [
        ({}, {}, "not empty"),
        ({"learning_rate": []}, {}, "no values of 'learning_rate'"),
        ({"learning_rate": 0.1}, {}, r"such as \[0.1\]"),
        ({"learning_rate": (0, 1, "log")}, {}, "above 0 for 'log'"),
        ({"learning_rate": (0.1, 1, "log")}, {}, "num_candidates=20"),
        ({"lerning_rate": [0.1]}, {}, "Did you mean learning_rate"),
        ({"server": [0.1]}, {}, "missing a required argument"),
        (None, {"metric": "accuracie"}, "Did you mean accuracy"),
        (None, {"budget": 20}, "Give at least 24"),
        (None, {"method": "halfing"}, "Did you mean halving"),
        (None, {"method": "random"}, "num_candidates"),
        (None, {"eta": 1}, "at least 2"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(
    space, arguments, message, monkeypatch
):
    monkeypatch.delattr(fl.LearningProcess, "fit")
    with pytest.raises(ValueError, match=message):
        search(space, **arguments)
