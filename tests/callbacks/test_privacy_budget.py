import keras
import pytest

from fedlearn import privacy
from fedlearn.callbacks import PrivacyBudget
from tests import zoo

DELTA = 1e-3


def guarantee(noise_multiplier=2.0):
    return privacy.Guarantee(
        privacy.Gaussian(noise_multiplier),
        privacy.Participation("poisson", 100, clients_per_round=10),
        DELTA,
    )


def budget_of(rounds, **kwargs):
    """One that lasts for so many rounds and not for one more."""
    given = guarantee()
    middle = (given.epsilon(rounds) + given.epsilon(rounds + 1)) / 2
    budget = PrivacyBudget(middle, **kwargs)
    budget.set_guarantee(given)
    return budget


class Model:
    stop_training = False


def run(budget, first=0, rounds=20):
    """As `fit` drives callbacks; returns the logs of each round."""
    model = Model()
    callbacks = keras.callbacks.CallbackList(
        [budget], model=model, epochs=rounds, initial_epoch=first
    )
    callbacks.on_train_begin()
    logs = []
    for epoch in range(first, rounds):
        if model.stop_training:
            break
        callbacks.on_epoch_begin(epoch)
        logs.append({"loss": 1.0})
        callbacks.on_epoch_end(epoch, logs[-1])
    callbacks.on_train_end()
    return logs


@pytest.mark.backend_free
@pytest.mark.parametrize("rounds", [1, 2, 7])
def test_stops_before_the_budget_is_passed(rounds, capsys):
    budget = budget_of(rounds)
    assert budget.rounds_within() == rounds
    logs = run(budget)
    assert len(logs) == rounds
    given = guarantee()
    assert budget.statement == given.statement(rounds)
    # PLD's is lower than what the stop went by.
    assert budget.statement.epsilon < given.epsilon(rounds) <= budget.epsilon
    printed = capsys.readouterr().out
    assert printed == f"Privacy: {budget.statement}.\n"
    for part in ("add-or-remove-one", "Poisson", "delta 0.001", "PLD"):
        assert part in printed


@pytest.mark.backend_free
def test_a_resumed_run_stops_where_an_unbroken_one_does(capsys):
    assert len(run(budget_of(7, verbose=0), first=4)) == 3
    assert run(budget_of(7, verbose=0), first=7) == []
    assert capsys.readouterr().out == ""


@pytest.mark.backend_free
def test_does_not_stop_within_the_budget():
    budget = budget_of(7)
    assert len(run(budget, rounds=5)) == 5
    assert budget.statement.rounds == 5


@pytest.mark.backend_free
def test_a_delta_of_its_own():
    given = guarantee()
    budget = PrivacyBudget(given.epsilon(5, delta=1e-6) * 1.0001, delta=1e-6)
    budget.set_guarantee(given)
    assert len(run(budget)) == 5
    assert budget.statement.delta == 1e-6


@pytest.mark.backend_free
def test_errors():
    for epsilon in (0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="`epsilon` must be a finite"):
            PrivacyBudget(epsilon)
    with pytest.raises(ValueError, match=r"`delta` .* 1"):
        PrivacyBudget(1.0, delta=1)
    with pytest.raises(ValueError, match="nothing guarantees privacy"):
        run(PrivacyBudget(1.0))
    budget = PrivacyBudget(0.01)
    budget.set_guarantee(guarantee())
    with pytest.raises(ValueError, match=r"One round costs.*calibrate"):
        run(budget)


def test_in_fit():
    process = zoo.regression_process()
    data = zoo.clients((4, 4, 4), make=zoo.line)
    budget = budget_of(3, verbose=0)
    # `fit` knows no guarantee of an aggregator without noise.
    history = process.fit(data, 10, callbacks=[budget], verbose=0).history
    given = guarantee()
    assert history["epsilon"] == [given.epsilon(t) for t in (1, 2, 3)]
    assert budget.statement.rounds == 3
