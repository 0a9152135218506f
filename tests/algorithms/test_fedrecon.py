"""FedRecon against NumPy: what is local is made anew, and never kept."""

import numpy as np
import pytest

import fedlearn as fl
from fedlearn import seeds
from tests import zoo
from tests.algorithms import quadratics as q
from tests.algorithms.test_personal_layers import is_bias

EXECUTORS = ["sequential", "vectorized"]
LOCAL = np.array([0, 0, 0, 1.0])
START = np.array([0.5, -1.0, 2.0, 3.0])


def process_of(momentum=0.0, **kwargs):
    options = {"batch_size": 3, "epochs": 2, "shuffle": False}
    model = q.model(0.02, momentum)
    model.set_weights([START[:3, None], START[3:]])
    kwargs = {
        "client": fl.LocalTraining(**options),
        "personal": is_bias,
        "reconstruct_steps": 5,
        **kwargs,
    }
    return fl.algorithms.FedRecon(model, **kwargs)


def trained(w, data, mask, momentum, steps=None):
    """Steps of SGD in batches of three, of what is in the mask."""
    x, y = data
    passes = 2 if steps is None else 99
    batches = [slice(at, at + 3) for at in range(0, len(y), 3)] * passes
    velocity = np.zeros(4)
    for rows in batches[:steps]:
        g = q.gradient(w, x[rows], y[rows])
        velocity = (momentum * velocity - 0.02 * g) * mask
        w = w + velocity
    return w


def reconstructed(w, data, momentum=0.0):
    return trained(np.r_[w, START[3]], data, LOCAL, momentum, 5)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rounds_of_some_clients_are_those_of_numpy(executor, momentum):
    process = process_of(momentum, executor=executor)
    state, w = process.initialize(seed=1), START[:3]
    for cohort in q.SOME:
        moves, sizes = [], []
        for i in cohort:
            x, y = q.CLIENTS[i]
            seed = process.client_seed(state, i)
            order = seeds.permutation(len(y), seed, "halves")
            first, second = np.split(order, [len(y) // 2])
            own = reconstructed(w, (x[first], y[first]), momentum)
            after = trained(own, (x[second], y[second]), 1 - LOCAL, momentum)
            moves.append(after[:3] - w)
            sizes.append(len(y))
        state, _ = q.run(process, [cohort], state)
        w = w + np.average(moves, axis=0, weights=sizes)
    np.testing.assert_allclose(
        np.ravel(state.trainable[0]), w, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(state.trainable[1], [3.0])
    assert len(state.client_states) == 0


def test_evaluation_reconstructs_on_other_examples():
    process = process_of()
    state, _ = q.run(process, q.SOME[:2])
    w = np.ravel(state.trainable[0])
    halved = process.evaluate(state, q.CLIENTS, per_client=True)
    given = process.evaluate(
        state, q.CLIENTS, per_client=True, fine_tune_data=q.CLIENTS
    )
    for i, (x, y) in q.CLIENTS.items():
        order = seeds.permutation(len(y), "fine_tune", i)
        first, second = np.split(order, [len(y) // 2])
        first, second = np.sort(first), np.sort(second)
        for found, train, test in (
            (halved, first, second),
            (given, slice(None), slice(None)),
        ):
            own = reconstructed(w, (x[train], y[train]))
            error = q.with_ones(x[test]) @ own - y[test].ravel()
            one = found["per_client"][i]
            assert one["loss"] == pytest.approx(np.mean(error**2), rel=1e-4)
            assert one["num_examples"] == len(error)
    # Beside it the server's model, with the bias as it was made.
    errors = [
        q.with_ones(x) @ np.r_[w, 3.0] - y.ravel()
        for x, y in q.CLIENTS.values()
    ]
    loss = np.mean(np.concatenate(errors) ** 2)
    assert given["global"]["loss"] == pytest.approx(loss, rel=1e-4)
    assert "without_personal" not in given


def test_clients_of_one_example_and_of_none_take_part():
    process = process_of()
    x, y = q.CLIENTS["0"]
    clients = {"one": (x[:1], y[:1]), "none": (x[:0], y[:0])}
    state, metrics = process.next(process.initialize(), clients)
    assert metrics["num_examples"] == 1
    assert np.isfinite(np.ravel(state.trainable[0])).all()


@pytest.mark.backend_free
def test_what_is_local_is_neither_sent_nor_broadcast():
    process = process_of(executor="sequential")
    plain = fl.FederatedAveraging(q.model(), executor="sequential")
    (_, few), (_, many) = (q.run(p, [q.EVERYONE]) for p in (process, plain))
    for name in ("bytes_up", "bytes_down"):
        assert few[name] <= many[name] - 4 * 4


@pytest.mark.backend_free
def test_a_run_that_goes_on_is_the_same_to_the_bit(tmp_path):
    q.assert_resumes(process_of(), tmp_path)


def test_statistics_of_local_layers_stay_as_they_are():
    process = fl.algorithms.FedRecon(
        zoo.classifier(),
        client=fl.LocalTraining(batch_size=4),
        personal="BatchNormalization",
    )
    clients = zoo.clients((8, 5, 4))
    state, _ = q.run(process, [clients] * 2, clients=clients)
    zoo.assert_equal(state.non_trainable, process.initialize().non_trainable)
    assert [s.shape for s in process.update_spec] == [
        (4, 5),
        (5,),
        (5, 3),
        (3,),
    ]


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"reconstruct_steps": 0}, "`reconstruct_steps` must be"),
        ({"personal": "head"}, "No variable of the model"),
        (
            {"client": fl.LocalTraining(dp=fl.clients.ExampleDP(1.0, 1.0))},
            "steps of its own",
        ),
    ],
)
def test_what_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        process_of(**arguments)


@pytest.mark.backend_free
def test_evaluation_takes_no_other_training():
    process = process_of()
    with pytest.raises(ValueError, match="Leave `fine_tune` out"):
        process.evaluate(
            process.initialize(), q.CLIENTS, fine_tune=fl.LocalTraining()
        )
