import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlearn import FederatedDataset, partition
from fedlearn.data import summary

pytestmark = pytest.mark.backend_free


def of(*clients):
    return FederatedDataset.from_clients(
        {k: (np.zeros((len(y), 1)), y) for k, y in enumerate(clients)}
    )


def test_numbers_by_hand():
    # All: 5 of label 0, 2 of 3, 1 of 9.
    got = summary.heterogeneity(of([0, 0, 0, 0], [0, 3, 3, 9]))
    assert got["label_distance_mean"] == pytest.approx(0.375)
    assert got["label_distance_max"] == pytest.approx(0.375)
    assert got["single_label_clients"] == 0.5
    assert got["label_entropy_mean"] == 0.75
    assert got["label_entropy_pooled"] == pytest.approx(1.2988, abs=1e-4)


def test_quartiles_count_each_client_once():
    # Distances: 1/2 of the large client is nothing like 8 small ones.
    got = summary.heterogeneity(of([0] * 8, *([[1]] * 8)))
    for name in ("mean", "q25", "median", "q75", "max"):
        assert got[f"label_distance_{name}"] == 0.5
    assert got["single_label_clients"] == 1
    got = summary.heterogeneity(of([0, 1] * 3, [0, 0], [1, 1], [0, 1]))
    assert got["label_distance_q25"] == 0
    assert got["label_distance_median"] == 0.25
    assert got["label_distance_q75"] == got["label_distance_max"] == 0.5


@given(
    st.lists(
        st.lists(st.integers(-3, 3), min_size=1, max_size=12),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=60, deadline=None)
def test_distances_are_total_variations(clients):
    pairs = [np.unique(y, return_counts=True) for y in clients]
    distances, by_chance = summary.label_distances(
        [v for v, _ in pairs], [c for _, c in pairs]
    )
    everything = [label for y in clients for label in y]
    names = set(everything)
    for y, distance, chance in zip(clients, distances, by_chance, strict=True):
        differences = [
            abs(y.count(n) / len(y) - everything.count(n) / len(everything))
            for n in names
        ]
        assert distance == pytest.approx(sum(differences) / 2, abs=1e-12)
        assert 0 <= chance < 1
        assert (chance == 0) == (len(names) == 1 or y == everything)


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("num_clients", "labels"), [(4, 2), (50, 10), (300, 40)]
)
def test_distance_by_chance_is_that_of_examples_dealt(num_clients, labels):
    # Labels from frequent to rare. The mean over the clients of 20 deals has
    # a spread of some percent at most; the formula is off by less than 1.
    y = np.concatenate([np.full(60 // (k + 1) + 1, k) for k in range(labels)])
    y = np.tile(y, -(-3000 // len(y)))
    got = [
        summary.heterogeneity(partition.iid(y, y, num_clients, seed))
        for seed in range(20)
    ]
    means = [numbers["label_distance_mean"] for numbers in got]
    error = 5 * np.std(means) / np.sqrt(20)
    assert abs(np.mean(means) - got[0]["label_distance_by_chance"]) < max(
        error, 0.01 * np.mean(means)
    )


def test_one_client_is_all_there_is():
    got = summary.heterogeneity(of([1, 2, 2, 5]))
    assert got["label_distance_max"] == 0
    assert got["label_distance_by_chance"] == 0
    same = summary.heterogeneity(of([4, 4], [4]))
    assert same["label_distance_max"] == same["label_entropy_pooled"] == 0
    assert same["label_distance_by_chance"] == 0
    assert same["single_label_clients"] == 1


def test_more_alike_with_a_larger_alpha():
    y = np.arange(2000) % 10
    means = [
        summary.heterogeneity(partition.dirichlet(y, y, 20, alpha, 0))[
            "label_distance_mean"
        ]
        for alpha in (0.01, 0.1, 1, 10, 1000)
    ]
    assert means == sorted(means, reverse=True)
    assert means[0] > 0.8
    assert means[-1] < 0.1


def test_clients_without_examples_do_not_count():
    ds = FederatedDataset.from_clients(
        {
            "a": {"label": [0, 1], "pixels": np.zeros((2, 3))},
            "none": {"label": [], "pixels": np.zeros((0, 3))},
        }
    )
    got = summary.heterogeneity(ds)
    assert got["label_distance_max"] == 0
    assert got["single_label_clients"] == 0


def test_the_lines_of_a_summary():
    text = summary.summary_lines(of([0, 0, 0, 0], [0, 3, 3, 9]))
    assert text[-3:] == [
        "  label entropy        1.30 bits pooled, 0.75 mean per client",
        "  label distance       0.38 mean, 0.38 max; dealt at random 0.19",
        "  one label only       50% of clients",
    ]


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (np.zeros(3), "client '0' are not one integer"),
        (np.zeros((3, 2), int), "not one integer"),
        (np.arange(1001), "more than 1,000 different"),
        (np.zeros(0, int), "There are no examples"),
    ],
)
def test_errors(y, match):
    with pytest.raises(ValueError, match=match):
        summary.heterogeneity(of(y))
    text = "\n".join(summary.summary_lines(of(y)))
    assert "distance" not in text


def test_names_of_classes_are_shown():
    ds = FederatedDataset.from_clients(
        {"a": ([1.0, 2.0], ["dog", "cat"])}, class_names=["cat", "dog", "emu"]
    )
    lines = []
    ds.summary(lines.append)
    assert (
        "  y                    int64 (n,), 2 labels of 'cat', 'dog', 'emu'"
        in lines
    )
