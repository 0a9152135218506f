import keras
import numpy as np
import pytest
from keras import ops

from fedlearn import backend, core

F = "float32"


def test_structures_keep_their_order_and_names_of_dimensions():
    @core.local_computation({"z": (F, ("n", 3)), "a": (F, ("n",))}, F)
    def fn(data, scale):
        assert list(data) == ["z", "a"]
        return {"y": scale * ops.sum(data["z"], axis=1) + data["a"], "b": scale}

    assert str(fn.type.parameter) == (
        "<data=<z=float32[n,3],a=float32[n]>,scale=float32>"
    )
    assert list(fn.type.result.names) == ["y", "b"]
    assert str(fn.type.result.elements[0]) == "float32[n]"
    for n in (1, 4):
        data = {"a": np.arange(n), "z": np.ones((n, 3))}
        found = fn(data, scale=2.0) if n == 1 else fn(data, 2.0)
        assert found["y"].tolist() == (6.0 + np.arange(n)).tolist()


def test_dimensions_of_what_is_given_are_known_unknown_or_named():
    @core.local_computation((F, ("n", 2)), (F, ("m",)), (F, (0, "m")))
    def fn(x, y, z):
        parts = ops.reshape(x, (-1, 1)), ops.concatenate([x, x])
        return *parts, x @ ops.transpose(x), ops.outer(y, x[:, 0]), z

    shapes = ("?,1", "?,2", "n,n", "m,n")
    found = [str(t) for t in fn.type.result.elements]
    assert found[:4] == [f"float32[{shape}]" for shape in shapes]
    assert found[4] == "float32[0,m]"

    @core.local_computation((F, ("n", "n")))
    def square(x):
        return x

    with pytest.raises(core.FederatedTypeError, match="doesn't take"):

        @core.federated_computation(
            core.FederatedType((F, ("n", "m")), core.CLIENTS)
        )
        def mismatched(x):
            return core.federated_map(square, core.federated_map(ops.abs, x))


def test_a_keras_model_by_its_weights():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "relu")])
    weights = core.to_type(model.trainable_variables)

    @core.local_computation(weights, (F, (None, 3)))
    def predict(weights, x):
        return model.stateless_call(weights, [], x)[0]

    x = np.random.default_rng(0).normal(size=(5, 3)).astype(F)
    expected = ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(
        predict(model.get_weights(), x), expected, rtol=1e-5
    )


def test_what_would_be_frozen_is_refused():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    ones = ops.ones((3,))
    constant = np.ones(3, F)
    trace = core.local_computation((F, (3,)))
    with pytest.raises(Exception, match=r"uses the variable .*kernel"):
        trace(lambda x: model(x[None]))
    with pytest.raises(core.FederatedTypeError, match="1 tensors from outside"):
        trace(lambda x: x + ones)
    assert trace(lambda x: x + constant)([1, 2, 3]).tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1, 2], [1, 2]),
        (np.array([1, 2], "int64"), [1, 2]),
        ([1.0, 2.0], None),
        ([2**40, 1], None),
        ([1, 2, 3], None),
        ([[1], [2, 3]], None),
        (["1", "2"], None),
        (np.array(["1", "2"]), None),
        ([True, False], None),
        (None, None),
    ],
)
def test_arguments_are_checked(value, expected):
    same = core.local_computation(("int32", (2,)))(lambda x: x)
    if expected is None:
        with pytest.raises(TypeError, match=r"<lambda> must be int32\[2\]"):
            same(value)
    else:
        assert same(value).tolist() == expected


def test_a_function_is_given_what_it_needs():
    with pytest.raises(core.FederatedTypeError, match="2 types are given"):
        core.local_computation(F, F)(lambda x: x)
    with pytest.raises(core.FederatedTypeError, match="returns None"):
        core.local_computation(F)(lambda x: None)
    with pytest.raises(core.FederatedTypeError, match="returns 'abc'"):
        core.local_computation(F)(lambda x: (x, "abc"))


@pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="TensorFlow has 64 bits"
)
def test_64_bits_are_refused_where_there_are_32():
    with pytest.raises(core.FederatedTypeError, match="of 64 bits"):
        core.local_computation("int64")(lambda x: x)


def test_what_has_no_lanes_is_run_in_turn():
    # JAX has no lanes for convolutions by weights of each client's own, and
    # TensorFlow none for the gradients of loops.
    on_jax = backend.name == "jax"
    layer = keras.layers.Conv1D(2, 2) if on_jax else keras.layers.LSTM(1)
    model = keras.Sequential([keras.Input((4, 3)), layer])
    weights = core.to_type(model.trainable_variables)
    others = [ops.convert_to_numpy(v) for v in model.non_trainable_variables]

    def loss(weights, x):
        return ops.sum(model.stateless_call(weights, others, x)[0] ** 2), ()

    @core.local_computation(weights, (F, (2, 4, 3)))
    def train(weights, x):
        for _ in range(2 if on_jax else 1):
            _, grads = backend.value_and_grad(loss)(list(weights), x)
            weights = [w - 0.1 * g for w, g in zip(weights, grads, strict=True)]
        return weights

    @core.federated_computation(
        core.FederatedType(weights, core.SERVER),
        core.FederatedType((F, (2, 4, 3)), core.CLIENTS),
    )
    def mean(model, x):
        sent = core.federated_broadcast(model)
        return core.federated_mean(core.federated_map(train, (sent, x)))

    start = model.get_weights()
    x = np.random.default_rng(0).normal(size=(3, 2, 4, 3)).astype(F)
    expected = [train(start, client) for client in x]
    for i, found in enumerate(mean(start, x)):
        average = np.mean([e[i] for e in expected], axis=0)
        np.testing.assert_allclose(found, average, rtol=1e-4, atol=1e-6)


def test_local_computations_call_each_other():
    @core.local_computation({"up": F, "down": F}, (F, ("n",)))
    def moved(by, x):
        return {"sum": x + by["up"] - by["down"], "size": ops.shape(x)[0]}

    @core.local_computation((F, ("n",)))
    def twice(x):
        once = moved({"down": 1.0, "up": 3.0}, x)
        return moved({"up": 1.0, "down": 0.0}, once["sum"])["sum"]

    np.testing.assert_array_equal(twice([1.0, 2.0]), [4.0, 5.0])

    @core.federated_computation("{float32[n]}@CLIENTS")
    def total(x):
        return core.federated_sum(
            core.federated_map(lambda x: ops.sum(twice(x)), x)
        )

    assert total([[1.0, 2.0], [3.0]]) == 4 + 5 + 6
    with pytest.raises(core.FederatedTypeError, match=r"moved\.x must be floa"):
        core.local_computation(F)(lambda x: moved({"up": x, "down": x}, x))


def test_what_it_computes_is_what_its_names_stood_for():
    made = []
    for factor in (2.0, 3.0):

        @core.local_computation(F)
        def times(x):
            return factor * x  # noqa: B023

        made.append(times)
    assert [float(fn(1.0)) for fn in made] == [2.0, 3.0]

    start = np.zeros(2, F)

    @core.federated_computation()
    def value():
        return core.federated_value(start, core.SERVER)

    start += 7
    np.testing.assert_array_equal(value(), [0.0, 0.0])
