"""What malicious clients do to a round."""

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn import aggregators, attacks, encoders
from fedlearn.attacks.little_is_enough import largest_z
from tests import zoo

SIZES = (8, 8, 5, 9, 8)
MALICIOUS = ("client_1", "client_4")
HONEST = [0, 2, 3]


def process_with(attack=None, aggregator=None, executor="sequential"):
    if attack is not None:
        executor = attacks.AttackedExecutor(attack, MALICIOUS, executor)
    return fl.FederatedAveraging(
        zoo.regression(),
        client=fl.LocalTraining(batch_size=4, shuffle=False),
        aggregator=aggregator or aggregators.Mean(weighting="uniform"),
        executor=executor,
    )


def change(process, cohort):
    state = process.initialize()
    after, metrics = process.next(state, cohort)
    pairs = zip(
        zoo.numpy(after.trainable), zoo.numpy(state.trainable), strict=True
    )
    return np.concatenate([(a - b).ravel() for a, b in pairs]), metrics


COHORT = zoo.clients(SIZES, make=zoo.line)


@pytest.fixture(scope="module", name="X")
def _honest_changes():
    """Each client's honest change, of shape `(clients, parameters)`."""
    process = zoo.regression_process()
    return np.stack([change(process, [COHORT[i]])[0] for i in COHORT])


def sent(X, attack):
    """All updates, malicious ones replaced: the attacks once more."""
    X, honest = np.array(X), X[HONEST]
    for i in (1, 4):
        X[i] = {
            "sign_flip": lambda own: -2 * own,
            "scaling": lambda own: 5 * own,
            "little": lambda own: honest.mean(0) - 1.5 * honest.std(0),
            "inner_product": lambda own: -3 * honest.mean(0),
        }[attack](X[i])
    return X


ATTACKS = {
    "sign_flip": attacks.SignFlip(2.0),
    "scaling": attacks.Scaling(5.0),
    "little": attacks.LittleIsEnough(1.5),
    "inner_product": attacks.InnerProduct(3.0),
}


@pytest.mark.parametrize(
    ("attack", "rule", "executor"),
    [
        ("scaling", "mean", "sequential"),
        ("sign_flip", "mean", "vectorized"),
        ("inner_product", "median", "sequential"),
        ("little", "median", "vectorized"),
    ],
)
def test_malicious_updates_reach_the_aggregate(X, attack, rule, executor):
    aggregator = {
        "mean": aggregators.Mean(weighting="uniform"),
        "median": aggregators.Median(),
    }[rule]
    process = process_with(ATTACKS[attack], aggregator, executor)
    found, metrics = change(process, COHORT)
    expected = getattr(np, rule)(sent(X, attack), axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    assert metrics["num_clients"] == 5
    assert metrics["num_examples"] == sum(SIZES)


def test_malicious_clients_that_are_not_there_do_nothing(X):
    process = process_with(attacks.SignFlip())
    honest = COHORT.select([COHORT.client_ids[i] for i in HONEST])
    found, _ = change(process, honest)
    np.testing.assert_allclose(found, X[HONEST].mean(axis=0), atol=1e-5)
    found, _ = change(process, COHORT.select(MALICIOUS))
    np.testing.assert_allclose(found, -X[[1, 4]].mean(axis=0), atol=1e-5)


def test_a_conspiracy_of_nobody_and_against_nobody(X):
    process = process_with(attacks.InnerProduct(1.0))
    honest = COHORT.select([COHORT.client_ids[i] for i in HONEST])
    found, _ = change(process, honest)
    np.testing.assert_allclose(found, X[HONEST].mean(axis=0), atol=1e-5)
    with pytest.raises(ValueError, match="all clients of this round are mal"):
        change(process, COHORT.select(MALICIOUS))


def test_an_honest_client_that_is_left_out_is_not_known_to_others(X):
    process = process_with(attacks.InnerProduct(3.0))
    x, y = zoo.line(8)
    cohort = {i: COHORT[i] for i in COHORT} | {"broken": (x * np.nan, y)}
    found, metrics = change(process, cohort)
    expected = sent(X, "inner_product").mean(axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    assert metrics["num_rejected"] == 1


@pytest.mark.parametrize("executor", ["sequential", "vectorized"])
def test_noise_is_each_clients_own_and_of_its_seed(executor):
    class Variance(aggregators.RobustRule):
        """The variance over malicious clients, of each coordinate."""

        def aggregate(self, value, weight):
            return [(v[0] - v[1]) ** 2 / 2 for v in value]

    process = process_with(attacks.GaussianNoise(0.1), Variance(), executor)
    cohort = COHORT.select(MALICIOUS)
    found, _ = change(process, cohort)
    # Four chi-squared numbers of deviation 0.1: never equal, never large.
    assert (found > 1e-12).all()
    assert (found < 0.01 * 60).all()
    again, _ = change(process, cohort)
    np.testing.assert_array_equal(found, again)
    _, other = process.next(process.initialize(seed=1), cohort)
    assert other["num_clients"] == 2


def test_attackers_use_the_encoders():
    class Double(encoders.Encoder):
        def encode(self, value, params, seed):
            return [2 * v for v in value], ()

        def decode(self, value, params):
            return [v / 2 for v in value]

    coded = aggregators.Mean([Double()], weighting="uniform")
    found, _ = change(process_with(attacks.SignFlip(2.0), coded), COHORT)
    known, _ = change(process_with(attacks.SignFlip(2.0)), COHORT)
    np.testing.assert_allclose(found, known, rtol=1e-4, atol=1e-5)


CHAINS = {
    "stateful": lambda: aggregators.Mean(
        [encoders.ErrorFeedback([encoders.TopK(1.0)])], weighting="uniform"
    ),
    "variable_length": lambda: aggregators.Mean(
        [encoders.UniformQuantization(8), encoders.EntropyCoding()],
        weighting="uniform",
    ),
    "noisy": lambda: aggregators.PrivateMean(
        100.0, noise_multiplier=1e-6, clients_per_round=5
    ),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_attackers_in_a_chain_that(X, chain):
    process = process_with(ATTACKS["inner_product"], CHAINS[chain]())
    expected = sent(X, "inner_product").mean(axis=0)
    found, metrics = change(process, COHORT)
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-3)
    assert metrics["num_clients"] == 5
    assert metrics["num_rejected"] == 0


@pytest.mark.backend_free
def test_attackers_keep_what_their_messages_left_out():
    halves = encoders.ErrorFeedback([encoders.TopK(0.5)])
    rule = aggregators.Mean([halves], weighting="uniform")
    process = process_with(attacks.Scaling(3.0), rule)
    state, _ = process.next(process.initialize(), COHORT)
    honest = process_with(None, rule)
    plain, _ = honest.next(honest.initialize(), COHORT)
    for k, client_id in enumerate(COHORT.client_ids):
        # TopK is linear in a scale: so is what it leaves.
        scale = 1 if k in HONEST else 3
        for kept, known in zip(
            keras.tree.flatten(state.client_states[client_id]),
            keras.tree.flatten(plain.client_states[client_id]),
            strict=True,
        ):
            np.testing.assert_allclose(kept, scale * known, atol=1e-5)


def test_statistics_of_layers_are_attacked_too():
    model = zoo.classifier()
    cohort = zoo.clients((8, 8))
    plain = fl.FederatedAveraging(model, executor="sequential")
    bad = fl.FederatedAveraging(
        model,
        executor=attacks.AttackedExecutor(
            attacks.SignFlip(), cohort.client_ids, "sequential"
        ),
    )
    state = plain.initialize()
    honest, _ = plain.next(state, cohort)
    malicious, _ = bad.next(state, cohort)
    before, up, down = (
        zoo.weights_in(plain, s) for s in (state, honest, malicious)
    )
    zoo.assert_close(
        [b - (a - b) for a, b in zip(up, before, strict=True)],
        down,
        rtol=1e-4,
    )


def test_an_attack_that_overflows_is_left_out(X):
    process = process_with(attacks.Scaling(float("inf")))
    found, metrics = change(process, COHORT)
    np.testing.assert_allclose(found, X[HONEST].mean(axis=0), atol=1e-5)
    assert metrics["num_rejected"] == 2


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("num_honest", "num_malicious", "z"),
    # Phi(z) = (n - m - s) / (n - m): 20/26, 4/8 and, with m > n / 2, 0.9999.
    [(26.0, 24.0, 1.4261), (8.0, 2.0, 0.0), (3.0, 7.0, 3.7190)],
)
def test_the_largest_z(num_honest, num_malicious, z):
    found = largest_z(np.float32(num_honest), np.float32(num_malicious))
    assert float(found) == pytest.approx(z, abs=2e-3)


@pytest.mark.backend_free
def test_an_attack_must_be_an_attack():
    with pytest.raises(
        TypeError, match=r"must be a fedlearn\.attacks\.Attack, or a str"
    ):
        attacks.AttackedExecutor(fl, ["a"])
