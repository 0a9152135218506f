import dp_accounting as dp
import pytest
from dp_accounting import pld, rdp

import fedlearn as fl
from fedlearn import privacy
from fedlearn.clients import ExampleDP

pytestmark = pytest.mark.backend_free

SPECIAL = dp.NeighboringRelation.REPLACE_SPECIAL
SIZES = {"a": 300, "b": 40, "c": 0, "d": 1200, "e": 39}


def guarantee_of(sizes=SIZES, sampler=None, delta=1e-4, dp=None, **kwargs):
    dp = dp or ExampleDP(1.0, 1.2)
    kwargs = {"batch_size": 20, "epochs": 2, **kwargs}
    client = fl.LocalTraining("sgd", dp=dp, **kwargs)
    return privacy.ExampleGuarantee(client, sizes, sampler, delta)


def direct(make, event, times, delta=1e-4):
    accountant = make(neighboring_relation=SPECIAL)
    return accountant.compose(event, times).get_epsilon(delta)


@pytest.mark.parametrize(
    ("accountant", "make"),
    [("rdp", rdp.RdpAccountant), ("pld", pld.PLDAccountant)],
)
def test_epsilon_is_that_of_dp_accounting(accountant, make):
    sizes = {"a": 300, "b": 10}
    noise = dp.GaussianDpEvent(1.2)
    # 2 epochs of 15 steps in each of 7 rounds; of 10 examples all are in
    # the one batch of an epoch.
    expected = {
        "a": direct(make, dp.PoissonSampledDpEvent(20 / 300, noise), 7 * 30),
        "b": direct(make, noise, 7 * 2),
    }
    guarantee = guarantee_of(sizes)
    ours = guarantee.by_client(7, accountant)
    assert ours == pytest.approx(expected, rel=1e-9)
    assert guarantee.epsilon(7, accountant) == max(ours.values())


def test_shuffled_batches_count_passes():
    shuffled = ExampleDP(1.0, 8.0, batches="shuffled")
    noise = dp.GaussianDpEvent(8.0)
    spent = guarantee_of(dp=shuffled).by_client(3)
    six = direct(rdp.RdpAccountant, noise, 3 * 2)
    assert spent == pytest.approx(dict.fromkeys("abde", six))
    # At most 3 steps: "a" and "d" begin one pass of theirs, "b" and "e", of
    # two steps each, two.
    spent = guarantee_of(dp=shuffled, max_steps=3).by_client(3)
    three = direct(rdp.RdpAccountant, noise, 3)
    assert spent == pytest.approx({"a": three, "b": six, "d": three, "e": six})


def test_rounds_are_counted_as_the_sampler_draws_them():
    sampler = fl.samplers.Uniform(SIZES, 2, seed=3)
    guarantee = guarantee_of(sampler=sampler)
    everyone = guarantee_of()
    for rounds in (5, 9, 2, 0, 6):  # back and forth
        drawn = [i for t in range(rounds) for i in sampler.sample(t)]
        spent = guarantee.by_client(rounds)
        for client in "abde":
            times = drawn.count(client)
            assert spent[client] == everyone.by_client(times)[client]
        assert guarantee.epsilon(rounds) == max(spent.values())


@pytest.mark.parametrize("max_steps", [None, 4])
@pytest.mark.parametrize("batches", ["poisson", "shuffled"])
def test_the_largest_epsilon_is_found_without_asking_all(batches, max_steps):
    sizes = {str(n): n for n in (1, 5, 19, 20, 21, 39, 40, 41, 77, 100, 333)}
    sampler = fl.samplers.Poisson(sizes, 4, seed=0)
    guarantee = guarantee_of(
        sizes, sampler, dp=ExampleDP(1.0, 3.0, batches), max_steps=max_steps
    )
    for rounds in (1, 6):
        spent = guarantee.by_client(rounds)
        assert guarantee.epsilon(rounds) == max(spent.values())


def test_the_statement_says_all_that_it_takes():
    statement = guarantee_of().statement(10)
    assert statement.client == "e"  # few examples, and as many steps as "b"
    assert (statement.num_examples, statement.steps) == (39, 40)
    assert statement.num_clients == 4
    assert statement.epsilon <= guarantee_of().epsilon(10)
    assert statement.epsilon == pytest.approx(
        direct(
            pld.PLDAccountant,
            dp.PoissonSampledDpEvent(20 / 39, dp.GaussianDpEvent(1.2)),
            40,
        )
    )
    text = str(statement)
    for part in (
        "delta 0.0001 after 10 rounds, for one example of a client (zero-out",
        "of 4 clients it is largest for 'e' with 39 examples and 40 steps",
        "Poisson batches of 20 in 39 on average",
        "multiplier 1.2",
        "numbers of examples aren't hidden",
        "accountant PLD",
    ):
        assert part in text
    shuffled = guarantee_of(dp=ExampleDP(1.0, 9.0, "shuffled"))
    assert "without amplification" in str(shuffled.statement(1, "rdp"))


def test_delta():
    assert guarantee_of(delta=None).delta == 1 / 12_000
    guarantee = guarantee_of()
    assert guarantee.epsilon(2, delta=1e-3) < guarantee.epsilon(2)


def test_errors():
    with pytest.raises(ValueError, match="The clients add no noise"):
        guarantee_of(dp=ExampleDP(1.0, 0.0))
    with pytest.raises(ValueError, match="The clients add no noise"):
        privacy.ExampleGuarantee(fl.LocalTraining(), SIZES)
    with pytest.raises(ValueError, match="No client has an example"):
        guarantee_of({"a": 0})
    with pytest.raises(ValueError, match=r"`delta` .* 2"):
        guarantee_of(delta=2)
    with pytest.raises(ValueError, match="`rounds` must be a whole"):
        guarantee_of().epsilon(-1)
