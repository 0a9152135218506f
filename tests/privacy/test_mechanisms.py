import itertools
import math

import dp_accounting as dp
import numpy as np
import pytest
from dp_accounting import rdp

from fedlearn import privacy

pytestmark = pytest.mark.backend_free


def patterns(rounds, separation, most):
    """All sets of rounds in which a client may take part."""
    for times in range(1, most + 1):
        for chosen in itertools.combinations(range(rounds), times):
            gaps = np.diff(chosen)
            if (gaps >= separation).all():
                yield list(chosen)


def strategy(coefficients, rounds):
    C = np.zeros((rounds, rounds))
    for k, c in enumerate(coefficients[:rounds]):
        C += c * np.eye(rounds, k=-k)
    return C


def worst_norm(C, chosen):
    """Over all signs: vectors of norm 1 in one dimension."""
    columns = C[:, chosen]
    return max(
        np.linalg.norm(columns @ signs)
        for signs in itertools.product([1.0, -1.0], repeat=len(chosen))
    )


@pytest.mark.parametrize(
    "coefficients",
    [[1.0], [0.8, 0.6], [1.0, 1.0, 1.0], [3.0, 2.0, 2.0, 0.5, 0.1]],
)
@pytest.mark.parametrize("separation", [1, 2, 3, 5])
@pytest.mark.parametrize("most", [1, 2, None])
def test_toeplitz_sensitivity_by_its_definition(coefficients, separation, most):
    rounds = 7
    C = strategy(coefficients, rounds)
    most_possible = -(-rounds // separation)
    expected = max(
        worst_norm(C, chosen)
        for chosen in patterns(rounds, separation, most or most_possible)
    )
    found = privacy.toeplitz_sensitivity(coefficients, rounds, separation, most)
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("coefficients", [[1.0, -2.0], [1.0, 3.0], [-1.0, 0.1]])
def test_any_coefficients_if_columns_do_not_overlap(coefficients):
    C = strategy(coefficients, 6)
    expected = max(worst_norm(C, chosen) for chosen in patterns(6, 2, 3))
    found = privacy.toeplitz_sensitivity(coefficients, 6, 2)
    assert found == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="overlap"):
        privacy.toeplitz_sensitivity(coefficients, 6, 1)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (([], 5, 1), "one or more finite"),
        (([math.nan], 5, 1), "one or more finite"),
        (([[1.0]], 5, 1), "one or more finite"),
        (([1.0], 0, 1), "`rounds` must be"),
        (([1.0], 5, 0), "`min_separation` must be"),
        (([1.0], 5, 1, 0), "`max_participations` must"),
    ],
)
def test_toeplitz_errors(arguments, match):
    with pytest.raises(ValueError, match=match):
        privacy.toeplitz_sensitivity(*arguments)


def test_square_root_squared_is_the_prefix_sum():
    n = 12
    c = privacy.square_root_coefficients(n)
    C = strategy(c / c[0], n)
    np.testing.assert_allclose(C @ C, np.tril(np.ones((n, n))), atol=1e-12)
    assert np.linalg.norm(c) == pytest.approx(1)
    with pytest.raises(ValueError, match="`bands` must be"):
        privacy.square_root_coefficients(0)


@pytest.mark.parametrize("coefficients", [[1.0], [0.8, 0.6], [1, 0.5, -0.2]])
def test_mean_squared_error_by_its_definition(coefficients):
    n = 9
    A = np.tril(np.ones((n, n)))
    B = A @ np.linalg.inv(strategy(coefficients, n))
    expected = np.sum(np.square(coefficients)) * np.sum(B**2) / n
    found = privacy.mean_squared_error(coefficients, n)
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("bands", "rounds"), [(1, 10), (2, 10), (8, 64)])
def test_optimal_coefficients_are_a_minimum(bands, rounds):
    best = privacy.optimal_coefficients(bands, rounds)
    assert best.shape == (bands,)
    assert np.linalg.norm(best) == pytest.approx(1)
    least = privacy.mean_squared_error(best, rounds)
    if bands > 1:
        known = privacy.square_root_coefficients(bands)
        assert least < 0.999 * privacy.mean_squared_error(known, rounds)
    for k in range(1, bands):
        for step in (0.01, -0.01):
            moved = best + step * np.eye(bands)[k]
            assert privacy.mean_squared_error(moved, rounds) > least


def test_optimal_coefficients_errors():
    with pytest.raises(ValueError, match="bands is 5"):
        privacy.optimal_coefficients(5, 4)


def node_norm(steps, chosen):
    """The L2 norm of the nodes of one tree, one client's part of them."""
    total = 0
    for h in range(steps.bit_length()):
        size = 2**h
        for start in range(0, steps - size + 1, size):
            inside = sum(start <= t < start + size for t in chosen)
            total += inside**2
    return math.sqrt(total)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("separation", [1, 2, 3, 4, 8])
def test_tree_sensitivity_bounds_its_definition(steps, separation):
    most = -(-steps // separation)
    exact = max(
        node_norm(steps, chosen) for chosen in patterns(steps, separation, most)
    )
    bound = privacy.tree_sensitivity(steps, separation, most)
    assert bound >= exact - 1e-12
    if steps in (1, 2, 8) and separation in (1, 2, 4, 8):
        assert bound == pytest.approx(exact)


def test_tree_with_restarts_equals_dp_accounting():
    # 3 trees of 10 rounds, a client once in each.
    guarantee = privacy.Guarantee(
        privacy.Tree(4.0, restart_every=10),
        privacy.Participation("min_separation", 100, 10, 10),
        delta=1e-4,
    )
    accountant = rdp.RdpAccountant(
        neighboring_relation=dp.NeighboringRelation.REPLACE_SPECIAL
    )
    event = dp.SingleEpochTreeAggregationDpEvent(4.0, 10)
    expected = accountant.compose(event, 3).get_epsilon(1e-4)
    assert guarantee.epsilon(30) == pytest.approx(expected, rel=1e-12)
    # A Gaussian to PLD, which knows no trees.
    assert guarantee.epsilon(30, "pld") < expected
    # Without restarts the tree is deeper, and two clients' rounds can meet.
    one_tree = privacy.Guarantee(
        privacy.Tree(4.0), guarantee.participation, delta=1e-4
    )
    assert one_tree.epsilon(30) > expected


def test_banded_matrix_is_one_gaussian():
    guarantee = privacy.Guarantee(
        privacy.BandedMatrix(4.0, [0.8, 0.6]),
        privacy.Participation("min_separation", 100, 10, 10),
        delta=1e-4,
    )
    accountant = rdp.RdpAccountant(
        neighboring_relation=dp.NeighboringRelation.REPLACE_SPECIAL
    )
    event = dp.GaussianDpEvent(4.0 / math.sqrt(3))
    expected = accountant.compose(event).get_epsilon(1e-4)
    assert guarantee.epsilon(30) == pytest.approx(expected, rel=1e-12)


def test_one_band_is_independent_noise():
    participation = privacy.Participation("round_robin", 20, 4)
    banded = privacy.BandedMatrix(2.0, [1.0])
    gaussian = privacy.Gaussian(2.0)
    for rounds in (1, 5, 6, 11):
        found, expected = (
            privacy.Guarantee(m, participation).epsilon(rounds)
            for m in (banded, gaussian)
        )
        assert found == pytest.approx(expected, rel=1e-12)


def test_mechanism_errors():
    for make in (
        privacy.Gaussian,
        privacy.Tree,
        lambda z: privacy.BandedMatrix(z, [1.0]),
    ):
        with pytest.raises(ValueError, match=r"`noise_multiplier` must.*-1"):
            make(-1)
    with pytest.raises(ValueError, match="`restart_every` must be"):
        privacy.Tree(1.0, restart_every=0)


def test_combined_noise_is_that_of_dp_accounting():
    events = [dp.GaussianDpEvent(1.0), dp.GaussianDpEvent(20.0)]
    together = dp.PoissonSampledDpEvent(0.1, dp.ComposedDpEvent(events))
    expected = rdp.RdpAccountant().compose(together, 9).get_epsilon(1e-4)
    sampling = privacy.Participation("poisson", 100, 10)
    for released in (
        privacy.composed(events),
        privacy.Gaussian(1.0, 20.0),
        dp.ComposedDpEvent([events[1], dp.SelfComposedDpEvent(events[0], 1)]),
    ):
        guarantee = privacy.Guarantee(released, sampling, delta=1e-4)
        assert guarantee.epsilon(9) == pytest.approx(expected, rel=1e-9)
        # PLD takes no composition inside a sample; it gets one Gaussian.
        assert 0 < guarantee.epsilon(9, "pld") < expected


def test_composed():
    tree = privacy.Tree(1.0)
    gaussian = dp.GaussianDpEvent(1.0)
    assert privacy.composed([tree]) is tree
    assert privacy.composed([gaussian]) is gaussian
    with pytest.raises(ValueError, match=r"tree noise.*another link"):
        privacy.composed([gaussian, tree])
    with pytest.raises(ValueError, match="nothing to compose"):
        privacy.composed([])
    open_link = privacy.composed([gaussian, dp.NonPrivateDpEvent()])
    sampling = privacy.Participation("poisson", 100, 10)
    assert privacy.Guarantee(open_link, sampling).epsilon(1) == math.inf


def test_noise_that_is_not_gaussian():
    laplace = dp.LaplaceDpEvent(2.0)
    sampling = privacy.Participation("poisson", 100, 10)
    guarantee = privacy.Guarantee(laplace, sampling, delta=1e-4)
    assert guarantee.epsilon(3, "pld") > 0
    with pytest.raises(ValueError, match=r"RdpAccountant .* can't account"):
        guarantee.epsilon(3)
    uniform = privacy.Guarantee(
        laplace, privacy.Participation("uniform", 100, 10)
    )
    with pytest.raises(ValueError, match="Gaussian noise only"):
        uniform.epsilon(3)


def test_shared_noise_is_accounted_for_at_integer_orders():
    mechanism = privacy.SharedNoise(0.02, 0.01, 10, "some")
    guarantee = privacy.Guarantee(
        mechanism, privacy.Participation("full", 10), 1e-4
    )
    orders = list(range(2, 400))
    rdp = [7 * (0.02 * a + 0.01) for a in orders]
    exact, best = dp.rdp.compute_epsilon(orders, rdp, 1e-4)
    assert 2 < best < 128
    assert guarantee.epsilon(7) == pytest.approx(exact, rel=1e-12)
    # Fractional orders would find less, and nothing is proven of them.
    accountant = rdp_of(dp.SelfComposedDpEvent(dp.ZCDpEvent(2.0, 0.01), 7))
    coarse = privacy.SharedNoise(2.0, 0.01, 10, "some")
    same = privacy.Guarantee(coarse, privacy.Participation("full", 10), 1e-4)
    assert same.epsilon(7) > accountant.get_epsilon(1e-4) * 1.01
    with pytest.raises(ValueError, match="Rényi divergence only"):
        guarantee.epsilon(7, "pld")


def rdp_of(event):
    relation = dp.NeighboringRelation.REPLACE_SPECIAL
    return rdp.RdpAccountant(neighboring_relation=relation).compose(event)


def test_a_size_that_a_round_must_have():
    size = privacy.CohortSize(0, 20, "Why.")
    mechanism = privacy.composed([dp.GaussianDpEvent(2.0), size])
    assert repr(mechanism) == "Gaussian noise, multiplier 2"
    for participation in (
        privacy.Participation("poisson", 20, 10),
        privacy.Participation("uniform", 100, 20),
        privacy.Participation("full", 20),
    ):
        found, expected = (
            privacy.Guarantee(m, participation, 1e-3).epsilon(3)
            for m in (mechanism, privacy.Gaussian(2.0))
        )
        assert found == expected
    for participation in (
        privacy.Participation("poisson", 21, 10),
        privacy.Participation("uniform", 100, 21),
        privacy.Participation("full", 21),
    ):
        with pytest.raises(ValueError, match=r"21 clients.* 0 to 20\. Why\."):
            privacy.Guarantee(mechanism, participation).epsilon(1)
