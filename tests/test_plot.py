from types import SimpleNamespace

import numpy as np
import pytest

import fedlearn as fl
from fedlearn.many_models import Comparison

plt = pytest.importorskip("matplotlib.pyplot")
pytestmark = pytest.mark.backend_free

HISTORY = {
    "loss": [2.0, 1.0, 0.5, 0.25],
    "val_loss": [1.5, 0.7],
    "accuracy": [0.1, 0.5, 0.7, 0.9],
    "bytes_up": [10.0] * 4,
    "num_clients": [2.0] * 4,
}


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def evaluation(values, name="accuracy"):
    return {
        "per_client": {
            str(i): {name: v, "num_examples": 5.0} for i, v in enumerate(values)
        }
    }


def title(axes):
    return axes.get_title(loc="left")


def test_conditions_are_drawn_by_hour():
    values = {
        "sim_hours": [22.5, 22.9, 24.5, 25.0],
        "num_asked": [13.0, 13.0, 13.0, 26.0],
        "num_late": [2.0, 3.0, 2.0, 8.0],
        "num_dropped": [1.0, 0.0, 1.0, 3.0],
    }
    rounds, asked = fl.plot.conditions(SimpleNamespace(history=values))
    drawn = rounds.patches[0].get_data()
    assert drawn.edges.tolist() == [22, 23, 24, 25, 26]
    assert drawn.values.tolist() == [2, 0, 1, 1]
    tops = [patch.get_data().values.tolist() for patch in asked.patches]
    assert tops == [[26, 0, 13, 26], [25, 0, 12, 23], [20, 0, 10, 15]]
    labels = [text.get_text() for text in rounds.get_xticklabels()]
    assert labels == ["22", "23", "0", "1", "2"]
    (axes,) = plt.subplots(1, 1)[1:]
    assert fl.plot.conditions(values, axes) is axes
    with pytest.raises(ValueError, match="Train under conditions"):
        fl.plot.conditions(HISTORY)


def test_history_draws_a_panel_a_metric():
    axes = fl.plot.history(SimpleNamespace(history=HISTORY))
    assert [title(a) for a in axes] == ["Loss", "Accuracy"]


def test_history_places_validation_at_its_rounds():
    axes = fl.plot.history(HISTORY, "loss")
    training, validation = axes.get_lines()
    assert training.get_xdata().tolist() == [1, 2, 3, 4]
    assert validation.get_xdata().tolist() == [2, 4]
    labels = [t.get_text() for t in axes.get_legend().get_texts()]
    assert labels == ["training", "validation"]


def test_history_leaves_nan_out():
    axes = fl.plot.history({"loss": [1.0, float("nan"), None, 2.0]}, "loss")
    assert axes.get_lines()[0].get_xdata().tolist() == [1, 4]


def test_history_draws_on_given_axes():
    _, ax = plt.subplots()
    assert fl.plot.history(HISTORY, "accuracy", ax) is ax
    assert fl.plot.history(HISTORY, ax=ax) is ax


def test_history_errors():
    with pytest.raises(
        ValueError, match=r"no metric .acc.\. It has: loss, acc"
    ):
        fl.plot.history(HISTORY, "acc")
    with pytest.raises(ValueError, match="nothing to draw"):
        fl.plot.history({"num_clients": [1.0]})
    with pytest.raises(TypeError, match="Received: list"):
        fl.plot.history([1.0])


def test_per_client_counts_every_client():
    axes = fl.plot.per_client(evaluation([0.5, 0.5, 1.0, 0.75] * 6))
    assert sum(bar.get_height() for bar in axes.patches) == 24
    text = [t.get_text() for t in axes.get_legend().get_texts()]
    assert text[0] == "mean 68.8%, std 20.7%"
    assert text[1:] == ["median 62.5%, and deciles"]


@pytest.mark.parametrize(
    "values", [[1.0], [0.0, 0.0], [0.0, 1.0], [0.99] * 3, [1e9, 1e-9]]
)
@pytest.mark.parametrize("times", [1, 21])
def test_per_client_of_extreme_values(values, times):
    def drawn(axes):
        bars = [b.get_width() if times == 1 else 1 for b in axes.patches]
        if times == 1:
            assert bars == pytest.approx(sorted(values))
            return len(bars)
        return sum(bar.get_height() for bar in axes.patches)

    values = values * times
    axes = fl.plot.per_client(evaluation(values, "f1"), "f1")
    assert drawn(axes) == len(values)
    if max(values) <= 1:
        assert drawn(fl.plot.per_client(evaluation(values))) == len(values)


def names_in(axes):
    return [text.get_text() for text in axes.texts[::2]]


def test_few_clients_are_bars_with_their_names():
    axes = fl.plot.per_client(evaluation([0.5, 1.0, 0.75]))
    assert names_in(axes) == ["0 (n = 5)", "2 (n = 5)", "1 (n = 5)"]
    assert [bar.get_width() for bar in axes.patches] == [0.5, 0.75, 1.0]
    numbers = [text.get_text() for text in axes.texts[1::2]]
    assert numbers == ["50.0%", "75.0%", "100.0%"]
    (mean,) = axes.get_lines()
    assert mean.get_xdata()[0] == 0.75
    assert len(fl.plot.per_client(evaluation([0.5] * 20)).patches) == 20


def fitted(values, by_client):
    """Like what `fit` returns: by client, each metric's list."""
    sizes = {"num_examples": [3.0] * 2}
    return SimpleNamespace(
        history=values,
        per_client={i: {**c, **sizes} for i, c in by_client.items()},
    )


def test_what_fit_kept_by_client_is_drawn():
    history = fitted(
        {"loss": [3.0, 2.0], "val_loss": [2.0, 1.5]},
        {"a": {"loss": [1.0, 0.5]}, "b": {"loss": [3.0, 2.5]}},
    )
    axes = fl.plot.per_client(history, "loss")
    assert names_in(axes) == ["a (n = 3)", "b (n = 3)"]
    assert [bar.get_width() for bar in axes.patches] == [0.5, 2.5]
    axes = fl.plot.history(history, "loss")
    drawn = [line.get_ydata().tolist() for line in axes.get_lines()]
    assert drawn == [[3.0, 2.0], [2.0, 1.5], [1.0, 0.5], [3.0, 2.5]]
    labels = [t.get_text() for t in axes.get_legend().get_texts()]
    assert labels == ["training", "validation", "each client"]
    with pytest.raises(ValueError, match="2 to 20 validation clients"):
        fl.plot.per_client(fitted({"loss": [1.0]}, {}), "loss")


def test_compare_draws_a_curve_a_run():
    runs = {
        "a": SimpleNamespace(history=HISTORY),
        "b": {"loss": [3.0, 2.0], "val_loss": [2.5, 1.0], "f1": [0.1, 0.2]},
    }
    (axes,) = fl.plot.compare(runs)
    assert title(axes) == "Validation loss"
    first, second = axes.get_lines()
    assert (first.get_xdata().tolist(), second.get_xdata().tolist()) == (
        [2, 4],
        [1, 2],
    )
    assert first.get_ydata().tolist() == [1.5, 0.7]
    assert second.get_ydata().tolist() == [2.5, 1.0]
    labels = [t.get_text() for t in axes.get_legend().get_texts()]
    assert labels == ["a", "b"]
    assert first.get_color() != second.get_color()


def test_compare_says_what_is_of_training():
    axes = fl.plot.compare({"a": HISTORY, "b": {"loss": [3.0]}}, "loss")
    labels = [t.get_text() for t in axes.get_legend().get_texts()]
    assert labels == ["a", "b (training)"]
    axes = fl.plot.compare({"b": {"loss": [3.0]}}, "loss")
    assert title(axes) == "Training loss"


def test_runs_of_no_rounds_are_drawn_without_a_warning():
    fl.plot.compare({"a": {"loss": []}})
    fl.plot.history({"loss": []})


def test_compare_tells_many_runs_apart():
    axes = fl.plot.compare({str(i): HISTORY for i in range(20)}, "loss")
    kinds = {(x.get_color(), x.get_linestyle()) for x in axes.get_lines()}
    assert len(kinds) == 20


def test_compare_errors():
    with pytest.raises(TypeError, match="Received: list"):
        fl.plot.compare([HISTORY])
    with pytest.raises(TypeError, match="history of 'b' must be what"):
        fl.plot.compare({"a": HISTORY, "b": None})
    with pytest.raises(ValueError, match="no runs"):
        fl.plot.compare({})
    with pytest.raises(ValueError, match=r"'b' has no 'accuracy'\. It has: f1"):
        fl.plot.compare({"a": HISTORY, "b": {"f1": [1.0]}}, "accuracy")
    with pytest.raises(ValueError, match="no metric that all have"):
        fl.plot.compare({"a": HISTORY, "b": {"f1": [1.0]}})


def test_per_client_leaves_out_what_is_not_finite():
    axes = fl.plot.per_client(evaluation([0.5, float("nan"), None]))
    assert "(2 not finite)" in title(axes)


def test_per_client_errors():
    with pytest.raises(ValueError, match="per_client=True"):
        fl.plot.per_client({"accuracy": 1.0})
    with pytest.raises(ValueError, match="It has: accuracy"):
        fl.plot.per_client(evaluation([1.0]), "loss")
    with pytest.raises(ValueError, match="finite"):
        fl.plot.per_client(evaluation([float("nan")]))


def test_labels_sorts_clients_and_shows_shares():
    ds = fl.FederatedDataset.from_clients(
        {
            "late": (np.zeros((4, 1)), [7, 7, 7, 3]),
            "early": (np.zeros((2, 1)), [3, 3]),
        }
    )
    axes = fl.plot.labels(ds)
    shares = axes.get_images()[0].get_array()
    np.testing.assert_allclose(shares, [[1, 0], [0.25, 0.75]])
    assert [t.get_text() for t in axes.get_xticklabels()] == ["3", "7"]


def test_labels_thins_many_clients_out():
    ds = fl.FederatedDataset.from_clients(
        {i: (np.zeros((1, 1)), [i % 5]) for i in range(300)}
    )
    axes = fl.plot.labels(ds, max_clients=40)
    assert axes.get_images()[0].get_array().shape == (40, 5)


def note(axes):
    return axes.texts[0].get_text()


def test_labels_keep_clients_that_are_alike_pale():
    y = np.arange(1000)
    alike = fl.partition.iid(y, y % 10, 4)
    image = fl.plot.labels(alike).get_images()[0]
    assert image.get_clim() == (0, 0.5)
    # With two labels an even share is no sign of a difference either.
    axes = fl.plot.labels(fl.partition.iid(y, y % 2, 4))
    assert axes.get_images()[0].get_clim() == (0, 1)
    assert note(axes) == "4 clients; white 0%, darkest 100% of the client"


def test_labels_of_one_odd_client_leave_the_others_visible():
    clients = {i: (np.zeros((50, 1)), np.arange(50)) for i in range(30)}
    clients["odd"] = (np.zeros((1, 1)), [7])
    axes = fl.plot.labels(fl.FederatedDataset.from_clients(clients))
    assert axes.get_images()[0].get_clim() == (0, 0.1)
    assert note(axes).endswith("darkest 10% or more of the client")


def test_labels_of_stored_features():
    ds = fl.FederatedDataset.from_clients(
        {
            "a": {"label": [0, 1], "pixels": np.zeros((2, 3))},
            "b": {"label": [1], "pixels": np.zeros((1, 3))},
            "none": {"label": [], "pixels": np.zeros((0, 3))},
        }
    )
    axes = fl.plot.labels(ds)
    shares = axes.get_images()[0].get_array()
    assert sorted(shares.tolist()) == [[0, 0], [0, 1], [0.5, 0.5]]


def test_labels_need_examples():
    empty = fl.FederatedDataset.from_clients(
        {"a": (np.zeros((0, 1)), np.zeros(0, int))}
    )
    with pytest.raises(ValueError, match="no examples in the 1 clients"):
        fl.plot.labels(empty)
    with pytest.raises(ValueError, match="no examples in the 0 clients"):
        fl.plot.labels(empty.select([]))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(3), "not one integer"),
        (np.zeros((3, 2), int), "not one integer"),
        (np.arange(101), "101 different labels"),
    ],
)
def test_labels_errors(y, message):
    ds = fl.FederatedDataset.from_clients({"a": (np.zeros((len(y), 1)), y)})
    with pytest.raises(ValueError, match=message):
        fl.plot.labels(ds)


def test_comparison_draws_each_model_by_its_difference_from_the_best():
    rng = np.random.default_rng(0)
    ease = rng.normal(size=30) / 20
    accuracy = {
        name: dict(enumerate(level + ease + rng.normal(size=30) / 100))
        for name, level in {"a": 0.5, "b": 0.501, "c": 0.7}.items()
    }
    accuracy["diverged"] = {0: float("nan")}
    comparison = Comparison(accuracy, "accuracy", "max")
    axes = fl.plot.comparison(comparison)
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert tuple(names) == comparison.ranking[:3]
    drawn = [line.get_xdata() for line in axes.get_lines()]
    told = [comparison.paired(name, "c") for name in names[1:]]
    for difference in told:
        assert any(np.array_equal(x, difference.interval) for x in drawn)
    texts = [text.get_text() for text in axes.texts]
    assert f"{100 * comparison.mean['c']:.1f}%" in texts
    assert any("1 failed" in text for text in texts)
    with pytest.raises(TypeError, match="what `fl"):
        fl.plot.comparison({})


@pytest.mark.parametrize("count", [3, 30])
def test_personal_models_are_drawn_beside_the_servers(count):
    values = np.linspace(0.5, 1.0, count)
    both = evaluation(values)
    plain = fl.plot.per_client(both)
    both["global"] = evaluation(values - 0.25)
    axes = fl.plot.per_client(both)
    labels = [t.get_text() for t in axes.get_legend().get_texts()]
    assert "the server's, mean 50.0%" in labels
    if count == 3:
        (diamonds,) = [a for a in axes.get_lines() if a.get_marker() == "D"]
        assert diamonds.get_xdata().tolist() == [0.25, 0.5, 0.75]
        assert diamonds.get_ydata().tolist() == [0, 1, 2]
    else:
        assert len(axes.patches) > len(plain.patches)
