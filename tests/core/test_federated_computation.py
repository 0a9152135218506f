import keras
import numpy as np
import pytest
from keras import ops

import fedlearn as fl
from fedlearn import core
from fedlearn.core import (
    CLIENTS,
    SERVER,
    FederatedType,
    SequenceType,
    arguments,
    federated_broadcast,
    federated_map,
    federated_mean,
    federated_sum,
)

F = "float32"
FLOATS = FederatedType(F, CLIENTS)
NUMBER = FederatedType(F, SERVER)


@core.federated_computation(FLOATS, NUMBER)
def share_above(readings, threshold):
    return federated_mean(
        federated_map(
            lambda r, t: ops.cast(r > t, F),
            (readings, federated_broadcast(threshold)),
        )
    )


@core.federated_computation(FLOATS)
def variance(x):
    mean = federated_broadcast(federated_mean(x))
    return federated_mean(federated_map(lambda a, b: (a - b) ** 2, (x, mean)))


@core.federated_computation(
    FederatedType({"x": (F, ("n", 2)), "y": (F, ("n",))}, CLIENTS), FLOATS
)
def ragged(data, scale):
    def local(data, scale):
        length = ops.cast(ops.shape(data["y"])[0], F)
        return scale * ops.sum(data["x"]) * ops.sum(data["y"]), length

    value, length = federated_map(local, (data, scale))
    return federated_mean(value, length), core.federated_collect(length)


def test_called_like_python():
    readings = [20.0, 21.0, 25.0]
    assert share_above(readings, 20.5) == pytest.approx(2 / 3)
    assert share_above(threshold=20.5, readings=readings) > 0.6
    assert share_above(np.array(readings), np.float64(30)) == 0


@pytest.mark.backend_free
def test_texts_stand_for_types():
    @core.federated_computation("{<x=float32,n=int32>}@CLIENTS", "int32@SERVER")
    def mean(data, more):
        weight = federated_map(
            lambda n, m: n + m, (data.n, federated_broadcast(more))
        )
        return federated_mean(data.x, weight)

    found = mean({"x": [1.0, 4.0], "n": [1, 0]}, more=1)
    assert found == 2


def test_values_of_another_computation():
    def closes_over(x):
        inner = core.federated_computation(FLOATS)(lambda y: federated_sum(x))
        return inner(x)

    with pytest.raises(core.FederatedTypeError, match="another computation"):
        core.federated_computation(FLOATS)(closes_over)
    kept = []
    core.federated_computation(FLOATS)(lambda x: kept.append(x) or x)
    with pytest.raises(core.FederatedTypeError, match="another computation"):
        core.federated_computation(FLOATS)(lambda x: federated_sum(kept[0]))
    with pytest.raises(core.FederatedTypeError, match="another computation"):
        federated_sum((kept[0], kept[0]))


def test_the_line_of_an_error_is_the_users():
    with pytest.raises(core.FederatedTypeError) as caught:
        core.federated_computation(FLOATS)(lambda x: ops.mean(x))
    assert __file__ in str(caught.value)
    weight = keras.Variable(1.0)
    with pytest.raises(TypeError) as caught:
        core.local_computation(F)(lambda x: ops.multiply(x, weight))
    assert __file__ in str(caught.value)


def test_any_number_of_clients():
    for n in (1, 2, 3, 5, 8, 100):
        found = share_above(np.arange(n, dtype=F), n / 2 - 0.75)
        assert found == pytest.approx((n + 1) // 2 / n)


def test_clients_that_wait_for_an_aggregate():
    x = np.random.default_rng(0).normal(3, 2, 50).astype(F)
    assert variance(x) == pytest.approx(x.var(), rel=1e-5)


def test_computations_call_computations():
    @core.federated_computation(FLOATS, NUMBER)
    def both(x, t):
        doubled = federated_map(lambda v: 2 * v, x)
        return {"v": variance(doubled), "s": share_above(x, threshold=t)}

    x = np.random.default_rng(0).normal(3, 2, 50).astype(F)
    found = both(x, 3.0)
    assert found["v"] == pytest.approx((2 * x).var(), rel=1e-5)
    assert found["s"] == pytest.approx((x > 3).mean())

    def wrong(x):
        return share_above(x, x)

    with pytest.raises(
        core.FederatedTypeError,
        match="`threshold` of share_above doesn't fit:\n  expected  "
        r"float32@SERVER\n  received  \{float32\}@CLIENTS",
    ):
        core.federated_computation(FLOATS)(wrong)


def ragged_clients(lengths):
    rng = np.random.default_rng(0)
    return [
        {
            "x": rng.normal(size=(n, 2)).astype(F),
            "y": rng.normal(size=n).astype(F),
        }
        for n in lengths
    ]


def test_clients_of_unlike_lengths_are_exact(monkeypatch):
    data = ragged_clients([3, 1, 4, 1, 3, 3])
    scale = np.arange(1, 7, dtype=F)
    values = [
        s * d["x"].sum() * d["y"].sum()
        for d, s in zip(data, scale, strict=True)
    ]
    lengths = [3, 1, 4, 1, 3, 3]
    expected = np.average(values, weights=lengths)
    for most in (2**16, 2):
        monkeypatch.setattr(arguments, "_MOST_LANES", most)
        mean, in_order = ragged(data, scale)
        assert mean == pytest.approx(expected, rel=1e-5)
        assert in_order.tolist() == lengths


def test_blocks_of_clients_give_what_one_gives(monkeypatch):
    x = np.random.default_rng(0).normal(3, 2, 50).astype(F)
    one = variance(x), share_above(x, 3.0)
    monkeypatch.setattr(arguments, "_MOST_LANES", 16)
    np.testing.assert_allclose(
        (variance(x), share_above(x, 3.0)), one, rtol=1e-5
    )


def test_stacked_data_and_data_sets():
    ds = fl.FederatedDataset.from_clients(
        {
            str(n): (np.full((n, 2), n, F), np.arange(n).astype(F))
            for n in (2, 3, 2)
        }
    )

    @core.federated_computation(ds)
    def total(data):
        local = federated_map(lambda x, y: ops.sum(x) * ops.sum(y), data)
        return federated_sum(local)

    assert str(total.type.parameter) == "{<float32[2],float32>*}@CLIENTS"
    expected = sum(x.sum() * y.sum() for x, y in ds.values())
    assert total(ds) == expected
    assert total(list(ds.values())) == expected
    x, y = ds["2"]
    stacked = np.stack([x, x, x]), np.stack([y, y, y])
    assert total(stacked) == 3 * x.sum() * y.sum()


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: share_above([1.0]),
            "missing a required argument: 'threshold'",
        ),
        (lambda: share_above([1.0], 1.0, 1.0), "too many positional"),
        (lambda: share_above([1.0], 1.0, t=1.0), "unexpected keyword"),
        (lambda: share_above([], 1.0), "`readings` is of 0 clients"),
        (lambda: share_above(1.0, 1.0), r"`readings` must be float32\[\?\]"),
        (lambda: share_above(["a"], 1.0), r"`readings` must be float32\[\?\]"),
        (lambda: share_above([1.0], [1.0]), "`threshold` must be float32"),
        (
            lambda: ragged([{"x": 1}], [1.0]),
            r"`data`\[0\] must be <x=float32\[n",
        ),
        (
            lambda: ragged([{"x": np.ones((3, 2)), "y": np.ones(2)}], [1.0]),
            r"`data`\[0\] has a dimension 'n' of 3 and one of 2",
        ),
        (
            lambda: ragged([{"x": np.ones((3, 4)), "y": np.ones(3)}], [1.0]),
            r"`data`\[0\].x must be float32\[n,2\].*array, float64\[3,4\]",
        ),
        (
            lambda: ragged(ragged_clients([1, 0]), [1.0, 1.0]),
            r"`data`\[1\] is empty",
        ),
        (
            lambda: ragged(ragged_clients([1, 2]), [1.0]),
            "`data` is of 2 clients, `scale` is of 1",
        ),
        (
            lambda: ragged(
                {"x": np.ones((3, 1, 2)), "y": np.ones((2, 1))}, [1.0]
            ),
            "arrays for unlike numbers of clients",
        ),
    ],
)
def test_wrong_arguments_are_caught_first(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_what_single_clients_have_cant_be_looked_at():
    @core.federated_computation(FLOATS)
    def doubled(x):
        return federated_map(lambda v: 2 * v, x)

    with pytest.raises(TypeError, match=r"gives \{float32\}@CLIENTS, and what"):
        doubled([1.0])
    with pytest.raises(TypeError, match=r"gives \{float32\}@CLIENTS, and what"):
        core.compile(doubled)
    total = core.federated_computation(FLOATS)(
        lambda x: federated_sum(doubled(x))
    )
    assert total([1.0, 2.0]) == 6


def test_servers_alone_and_what_all_clients_have():
    @core.federated_computation()
    def initialize():
        return core.federated_eval(lambda: {"w": ops.ones((2,))}, SERVER)

    assert initialize()["w"].tolist() == [1, 1]

    @core.federated_computation(NUMBER)
    def doubled(x):
        return core.federated_apply(lambda v: 2 * v, x)

    assert doubled(3.0) == 6

    @core.federated_computation(FLOATS, FederatedType(F, CLIENTS, True))
    def moved(x, by):
        return federated_sum(federated_map(lambda a, b: a + b, (x, by)))

    assert moved([1.0, 2.0], 10.0) == 23


@pytest.mark.backend_free
def test_what_is_no_computation():
    with pytest.raises(core.FederatedTypeError, match="nothing in what"):
        core.federated_computation(NUMBER)(
            lambda x: core.federated_apply(lambda v: (), x)
        )
    with pytest.raises(
        core.FederatedTypeError, match=r"FederatedType\(float32"
    ):
        core.federated_computation(F)
    with pytest.raises(TypeError, match="returns None"):
        core.federated_computation(FLOATS)(lambda x: None)
    with pytest.raises(TypeError, match="how many clients federated_sum is of"):
        core.federated_computation(NUMBER)(
            lambda x: federated_sum(federated_broadcast(x))
        )


@pytest.mark.backend_free
def test_printed_it_can_be_read():
    def exceeds(reading, threshold):
        return ops.cast(reading > threshold, F)

    @core.federated_computation(FLOATS, NUMBER)
    def share(readings, threshold):
        sent = federated_broadcast(threshold)
        return federated_mean(federated_map(exceeds, (readings, sent)))

    assert [
        line.split("#")[0].rstrip() for line in str(share).splitlines()
    ] == [
        "share(readings: {float32}@CLIENTS, threshold: float32@SERVER)"
        " -> float32@SERVER",
        "  %1 = federated_broadcast(threshold)",
        "  %2 = federated_map(exceeds, <readings, %1>)",
        "  %3 = federated_mean(%2)",
        "  return %3",
    ]


def test_one_round_of_federated_averaging_equals_a_plain_loop():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    weights = core.to_type(model.trainable_variables)
    data = {"x": (F, (4,)), "y": "int32"}
    loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def loss(weights, x, y):
        return loss_fn(y, model.stateless_call(weights, [], x)[0]), ()

    step = fl.backend.value_and_grad(loss)

    @core.local_computation(weights, F, SequenceType(data))
    def local_train(weights, rate, data):
        def one(_, weights):
            _, grads = step(weights, data["x"], data["y"])
            return [w - rate * g for w, g in zip(weights, grads, strict=True)]

        return (
            fl.backend.loop(3, one, list(weights)),
            ops.cast(ops.shape(data["y"])[0], F),
        )

    @core.federated_computation(
        FederatedType(weights, SERVER),
        NUMBER,
        FederatedType(SequenceType(data), CLIENTS),
    )
    def federated_averaging(model, rate, data):
        sent = federated_broadcast(model), federated_broadcast(rate)
        return federated_mean(*federated_map(local_train, (*sent, data)))

    rng = np.random.default_rng(0)
    clients = [
        {
            "x": rng.normal(size=(n, 4)).astype(F),
            "y": rng.integers(0, 3, n).astype("int32"),
        }
        for n in (7, 4, 7)
    ]
    current = model.get_weights()
    for _ in range(2):
        current = federated_averaging(current, 0.1, clients)

    expected = model.get_weights()
    for _ in range(2):
        total = 0
        for client in clients:
            model.set_weights(expected)
            model.compile(keras.optimizers.SGD(0.1), loss_fn)
            for _ in range(3):
                model.train_on_batch(client["x"], client["y"])
            n = len(client["y"])
            total = (
                [n * w for w in model.get_weights()]
                if (isinstance(total, int))
                else [
                    t + n * w
                    for t, w in zip(total, model.get_weights(), strict=True)
                ]
            )
        expected = [t / 18 for t in total]
    for found, value in zip(current, expected, strict=True):
        np.testing.assert_allclose(found, value, atol=1e-6)
