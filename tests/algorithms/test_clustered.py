"""IFCA: clusters whose models are known, and rounds by NumPy."""

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn import aggregators as ag
from tests import zoo
from tests.algorithms import quadratics as q

EXECUTORS = ["sequential", "vectorized"]
TRUE = np.array([[4.0, 0, 0, 1], [0, -4, 0, -1], [0, 0, 4, 3]])
START = np.array([0.3, -0.2, 0.1, 0.0])


def _client(i):
    rng = np.random.default_rng(i)
    x = rng.normal(size=(8 + i, 3)).astype("float32")
    y = q.with_ones(x) @ TRUE[i % 3]
    return x, y[:, None].astype("float32")


CLIENTS = {str(i): _client(i) for i in range(6)}


def process_of(**kwargs):
    model = q.model(0.1)
    model.set_weights([START[:3, None], START[3:]])
    options = {"batch_size": 4, "epochs": 2, "shuffle": False}
    kwargs.setdefault("client", fl.LocalTraining(**options))
    return fl.algorithms.Clustered(model, **kwargs)


def models_in(state):
    return np.array([q.flat(m) for m in (state.trainable, *state.algorithm)])


def run(process, cohorts, state=None):
    return q.run(process, cohorts, state, CLIENTS)


@pytest.mark.backend_free
def test_separated_clusters_are_recovered_exactly():
    client = fl.LocalTraining(**q.FULL_BATCH)
    process = process_of(client=client, spread=2.0, executor="sequential")
    state, metrics = run(process, [CLIENTS] * 80)
    found = models_in(state)
    order = [int(np.argmin(np.abs(found - t).sum(1))) for t in TRUE]
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(found[order], TRUE, atol=1e-4)
    for i in CLIENTS:
        own = process.get_model(state, client=i)
        np.testing.assert_allclose(
            q.flat(own.get_weights()), TRUE[int(i) % 3], atol=1e-4
        )
    sizes = np.array([len(y) for _, y in CLIENTS.values()])
    for j, k in enumerate(order):
        share = sizes[j::3].sum() / sizes.sum()
        assert metrics[f"cluster_{k}"] == pytest.approx(share)
    assert process.evaluate(state, CLIENTS)["loss"] < 1e-6


def trained(w, x, y):
    for _ in range(2):
        for at in range(0, len(y), 4):
            w = w - 0.1 * q.gradient(w, x[at : at + 4], y[at : at + 4])
    return w


@pytest.mark.parametrize("executor", EXECUTORS)
def test_rounds_of_some_clients_are_those_of_numpy(executor):
    process = process_of(spread=2.0, executor=executor)
    state = process.initialize()
    models = models_in(state).astype("float64")
    kept = {}
    for cohort in ["012", "34", "510", "2"]:
        updates = {j: [] for j in range(3)}
        for i in cohort:
            x, y = CLIENTS[i]
            losses = [
                np.mean((q.with_ones(x) @ w - y.ravel()) ** 2) for w in models
            ]
            kept[i] = j = int(np.argmin(losses))
            updates[j].append((len(y), trained(models[j], x, y)))
        for j, ends in updates.items():
            if ends:
                sizes, ends = zip(*ends, strict=True)
                models[j] = np.average(ends, axis=0, weights=sizes)
        state, _ = run(process, [cohort], state)
        np.testing.assert_allclose(
            models_in(state), models, rtol=1e-4, atol=1e-4
        )
    for i, j in kept.items():
        assert state.client_states[i].algorithm == j


@pytest.mark.backend_free
def test_an_optimizer_that_averages_weights_begins_with_the_chosen_ones():
    optimizer = keras.optimizers.ScheduleFreeAdamW(0.1)
    client = fl.LocalTraining(optimizer, batch_size=4, shuffle=False)
    process = process_of(client=client, spread=10.0)
    plain = fl.FederatedAveraging(q.model(), client=client)
    before = process.initialize()
    after, _ = run(process, ["012"], before)
    chosen = {int(after.client_states[i].algorithm): i for i in "012"}
    others = {j: i for j, i in chosen.items() if j > 0}
    assert others
    for j, i in others.items():
        alone, _ = run(process, [i], before)
        start = plain.initialize()._replace(
            trainable=list(before.algorithm[j - 1])
        )
        expected, _ = run(plain, [i], start)
        zoo.assert_close(alone.algorithm[j - 1], expected.trainable)


@pytest.mark.backend_free
def test_with_one_cluster_it_is_fedavg():
    one = process_of(clusters=1)
    plain = fl.FederatedAveraging(one.model, one.client)
    (a, _), (b, _) = (run(p, [CLIENTS] * 3) for p in (one, plain))
    zoo.assert_close(a.trainable, b.trainable)


@pytest.mark.backend_free
def test_what_it_sends_and_gets_is_counted():
    one, three = (
        run(process_of(clusters=k, executor="sequential"), ["01"])[1]
        for k in (1, 3)
    )
    for name in ("bytes_up", "bytes_down"):
        assert three[name] - one[name] >= 2 * 2 * 4 * 4


def test_sums_are_enough():
    secure = ag.SecureSum(clients_per_round=6, value_range=20.0, bits=24)
    plain = ag.Mean(weighting="uniform")
    one, two = (
        models_in(run(process_of(spread=2.0, aggregator=a), [CLIENTS] * 3)[0])
        for a in (plain, secure)
    )
    np.testing.assert_allclose(one, two, atol=1e-3)


def test_a_client_without_examples_changes_nothing():
    x, y = CLIENTS["0"]
    process = process_of(spread=2.0)
    state, _ = run(process, [CLIENTS])
    one, two = (
        process.next(state, {"1": CLIENTS["1"], **more})[0]
        for more in ({}, {"0": (x[:0], y[:0])})
    )
    zoo.assert_close(models_in(one), models_in(two))
    before, after = (s.client_states["0"].algorithm for s in (state, two))
    assert before == after


@pytest.mark.backend_free
def test_a_run_that_goes_on_is_the_same_to_the_bit(tmp_path):
    q.assert_resumes(process_of(), tmp_path)


def constant():
    model = q.model()
    model.set_weights([np.ones((3, 1)), np.zeros(1)])
    return model


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"clusters": 0}, "`clusters` must be"),
        ({"aggregator": "median"}, "needs the mean"),
        (
            {
                "aggregator": ag.PrivateMean(
                    1.0, noise_multiplier=1.0, clients_per_round=4
                )
            },
            "how many those are would need noise of its own",
        ),
        (
            {"aggregator": ag.Mean(["uniform:8"])},
            "UniformQuantization changes what is sent",
        ),
        ({"client": "fedprox:0.1"}, "without `proximal`"),
        ({"server_optimizer": "fedadam"}, "server's step is a part"),
        ({"spread": 0.0}, "would begin alike"),
        (
            {"client": fl.LocalTraining(dp=fl.clients.ExampleDP(1.0, 1.0))},
            "looks at the examples before",
        ),
    ],
)
def test_what_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        process_of(**arguments)


@pytest.mark.backend_free
def test_models_that_would_begin_alike_and_statistics_are_refused():
    with pytest.raises(ValueError, match="would begin alike"):
        fl.algorithms.Clustered(constant())
    with pytest.raises(ValueError, match="averaged over all clusters"):
        fl.algorithms.Clustered(zoo.classifier(keras.optimizers.SGD(0.1)))
