"""What all queries have in common: bounds, noise, seeds and budgets."""

import dp_accounting as dp
import numpy as np
import pytest

import fedlearn as fl
from fedlearn.analytics import IBLT, QueryPrivacy
from fedlearn.encoders import GaussianNoise

PRIVACY = {"epsilon": 2.0, "delta": 1e-6, "max_per_client": 3, "seed": 0}


def numbers(privacy, data, budget=None):
    a, both = fl.analytics, {"privacy": privacy, "budget": budget}
    return {
        "mean": lambda: a.mean(data, bounds=(0, 10), **both),
        "variance": lambda: a.variance(data, bounds=(0, 10), **both),
        "sum": lambda: a.sum(data, bounds=(0, 10), **both),
        "count": lambda: a.count(data, **both),
        "histogram": lambda: a.histogram(data, range=(0, 10), **both),
        "quantiles": lambda: a.quantiles(
            data, range=(0, 10), num_bins=16, **both
        ),
        "kmeans": lambda: a.kmeans(data, 3, rounds=2, bounds=(0, 10), **both),
    }


def words(privacy, data, budget=None):
    a, both = fl.analytics, {"privacy": privacy, "budget": budget}
    return {
        "dictionary": lambda: a.heavy_hitters(
            data, method="dictionary", known=list("abcdef"), **both
        ),
        "texts": lambda: a.histogram(data, bins=list("abcdef"), **both),
        "iblt": lambda: a.heavy_hitters(data, method=IBLT(50), **both),
        "out_of_vocabulary": lambda: a.out_of_vocabulary(
            data, known=["a"], **both
        ),
    }


def clients(wild=None, text=False):
    rng = np.random.default_rng(1)
    data = {
        str(i): (rng.uniform(0, 10, size=n), np.zeros(n))
        for i, n in enumerate([2, 5, 0, 9, 4])
    }
    if text:
        data = {
            k: {"t": rng.choice(list("abcdef"), size=len(x)).astype(object)}
            for k, (x, _) in data.items()
        }
    if wild is not None:
        data["1"] = wild
    return data


WILD = {
    "huge": (np.full(1000, 1e30), np.zeros(1000)),
    "one sided": (np.full(1000, 10.0), np.zeros(1000)),
    "nothing": (np.zeros(0), np.zeros(0)),
}
WILD_TEXT = {
    "one word": {"t": np.full(1000, "a", object)},
    "all words": {"t": np.array(list("abcdefghij") * 50, object)},
}


@pytest.fixture
def sums(monkeypatch):
    """What noise is added to, and the bound that it is scaled to."""
    seen = []
    add = GaussianNoise.add

    def recorded(self, total, bound, noise):
        seen.append((np.array(total[0]), float(bound)))
        return add(self, total, bound, noise)

    monkeypatch.setattr(GaussianNoise, "add", recorded)
    return seen


@pytest.mark.parametrize(
    ("wild", "secure"),
    [("huge", False), ("one sided", True), ("nothing", False)],
)
@pytest.mark.parametrize("name", numbers(None, None))
@pytest.mark.backend_free
def test_one_client_moves_sums_by_no_more_than_noise_is_scaled_to(
    name, wild, secure, sums
):
    privacy = QueryPrivacy(**PRIVACY, secure_sum=secure)
    if name == "kmeans":  # later rounds have other centres
        first = fl.analytics.kmeans
        for data in (clients(), clients(WILD[wild])):
            first(data, 3, rounds=1, bounds=(0, 10), privacy=privacy)
    else:
        numbers(privacy, clients())[name]()
        numbers(privacy, clients(WILD[wild]))[name]()
    (one, bound), (other, _) = sums
    # The client is replaced: what it added goes, and something else comes.
    assert np.linalg.norm(one - other) <= 2 * bound * (1 + 1e-6)
    assert np.linalg.norm(one) > 0


@pytest.mark.parametrize("wild", WILD_TEXT)
@pytest.mark.parametrize("name", ["dictionary", "texts"])
@pytest.mark.backend_free
def test_so_with_words(name, wild, sums):
    privacy = QueryPrivacy(**PRIVACY)
    data = clients(text=True)
    words(privacy, data)[name]()
    words(privacy, {**data, "1": WILD_TEXT[wild]})[name]()
    (one, bound), (other, _) = sums
    assert np.linalg.norm(one - other) <= 2 * bound * (1 + 1e-6)


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.backend_free
def test_noise_is_scaled_to_what_the_accountant_is_told(secure, sums):
    privacy = QueryPrivacy(**PRIVACY, secure_sum=secure)
    budget = fl.privacy.Ledger(2.0, 1e-6)
    found = fl.analytics.histogram(
        clients(), range=(0, 10), privacy=privacy, budget=budget
    )
    ((_, bound),) = sums
    assert found.error / bound == pytest.approx(
        budget.entries[0].composition.event.noise_multiplier, rel=1e-3
    )
    event = budget.entries[0].composition.event
    told = dp.get_epsilon_gaussian(event.noise_multiplier, 1e-6)
    assert budget.spent == pytest.approx(told) == pytest.approx(2.0, rel=1e-3)


QUERIES = [*numbers(None, None), *words(None, None)]


@pytest.mark.backend_free
@pytest.mark.parametrize("name", ["mean", "kmeans"])
def test_a_question_that_fails_is_not_charged(name):
    budget = fl.privacy.Ledger(2.0, 1e-6)
    broken = {**clients(), "z": (np.array([1.0, np.nan]), np.zeros(2))}
    with pytest.raises(ValueError, match=r"NaN|nan|finite"):
        numbers(QueryPrivacy(**PRIVACY), broken, budget)[name]()
    assert budget.entries == []


def test_a_secure_sum_is_asked_for_by_a_bool():
    with pytest.raises(ValueError, match="`secure_sum` must be True or False"):
        QueryPrivacy(secure_sum="no")


@pytest.mark.backend_free
@pytest.mark.parametrize("name", QUERIES)
def test_every_query_is_charged_once_and_refused_past_the_budget(name):
    budget = fl.privacy.Ledger(2.0, 1e-6)
    privacy = QueryPrivacy(**PRIVACY)
    text = name not in numbers(None, None)
    make = words if text else numbers
    query = make(privacy, clients(text=text), budget)[name]
    found = query()
    assert (found.epsilon, found.delta) == (2.0, 1e-6)
    assert found.num_clients == 5
    assert found.bytes_up > 0
    assert budget.spent == pytest.approx(2.0, rel=1e-3)
    read = []
    again = fl.FederatedDataset.from_clients(clients(text=text)).map(
        lambda client: read.append(0) or client
    )
    with pytest.raises(ValueError, match=f"{query_name(name)} would bring"):
        make(privacy, again, budget)[name]()
    assert len(budget.entries) == 1
    assert len(read) < 5  # by `map`, and for the shape of a value


def query_name(name):
    names = {"dictionary": "heavy_hitters", "iblt": "heavy_hitters"}
    return {**names, "texts": "histogram"}.get(name, name)


@pytest.mark.backend_free
def test_a_seed_draws_the_same_and_without_one_no_query_has_anothers_noise():
    def noisy(seed):
        privacy = QueryPrivacy(**{**PRIVACY, "seed": seed})
        return fl.analytics.count(clients(), privacy=privacy).value

    assert noisy(3) == noisy(3)
    assert noisy(3) != noisy(4)
    assert noisy(None) != noisy(None)


@pytest.mark.backend_free
def test_what_a_ledger_adds_up_has_independent_noise():
    def noisy(budget):
        privacy = QueryPrivacy(**PRIVACY)
        query = fl.analytics.count
        return query(clients(), privacy=privacy, budget=budget).value

    budget = fl.privacy.Ledger(9.0, 1e-6)
    one, two = noisy(budget), noisy(budget)
    assert one != two
    assert noisy(fl.privacy.Ledger(9.0, 1e-6)) == one


def test_votes_may_spend_a_budget_whole():
    budget = fl.privacy.Ledger(4.0, 1e-6)
    fl.analytics.heavy_hitters(
        clients(text=True),
        method="triehh",
        privacy=QueryPrivacy(4.0, 1e-6, seed=0),
        budget=budget,
    )
    assert budget.spent == 4.0


@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.backend_free
def test_a_secure_sum_finds_the_same_counts(name):
    text = name not in numbers(None, None)
    make = words if text else numbers
    secure = QueryPrivacy(max_per_client=9, secure_sum=True)
    data = clients(text=text)
    plain, modular = (vars(make(p, data)[name]()) for p in (None, secure))
    exact = name not in ("mean", "variance", "sum", "kmeans")
    for key in plain.keys() - {"bytes_up", "error", "mean_error"}:
        if exact:
            np.testing.assert_array_equal(plain[key], modular[key])
        elif plain[key] is not None:
            np.testing.assert_allclose(plain[key], modular[key], rtol=1e-3)
    assert modular["bytes_up"] != plain["bytes_up"]


@pytest.mark.backend_free
def test_counts_that_a_secure_sum_cant_hold():
    data = {str(i): (np.zeros(3), np.zeros(3)) for i in range(2)}
    data["0"] = (np.zeros(2**19), np.zeros(2**19))
    with pytest.raises(ValueError, match="Give `max_per_client`"):
        fl.analytics.count(data, privacy=QueryPrivacy(secure_sum=True))


@pytest.mark.backend_free
def test_with_noise_no_client_s_data_are_too_many_for_a_secure_sum(sums):
    data = {str(i): (np.zeros(1), np.zeros(1)) for i in range(300)}
    big = {**data, "0": (np.zeros(2**20), np.zeros(2**20))}
    privacy = QueryPrivacy(1.0, 1e-6, 2**20, secure_sum=True, seed=0)
    few, many = (fl.analytics.count(d, privacy=privacy) for d in (data, big))
    assert abs(many.value - few.value - 2**20) < 6 * few.error
    (one, bound), (other, _) = sums
    assert 2**19 < np.linalg.norm(one - other) <= bound


@pytest.mark.backend_free
def test_bytes_are_those_of_messages_as_they_are_encoded():
    one = {"0": (np.zeros(3), np.zeros(3))}
    few = {str(i): one["0"] for i in range(10)}
    queries = [numbers(None, d)["histogram"]() for d in (one, few)]
    assert queries[1].bytes_up == 10 * queries[0].bytes_up
    # Ten bins of float64, and a header.
    assert 80 < queries[0].bytes_up < 160
    secure = fl.analytics.histogram(
        few, range=(0, 10), privacy=QueryPrivacy(secure_sum=True)
    )
    assert secure.bytes_up < 10 * 160
