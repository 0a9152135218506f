"""Every operator against NumPy, and what each refuses."""

import keras
import ml_dtypes
import numpy as np
import pytest
from keras import ops

from fedlearn import core, threefry
from fedlearn.core import CLIENTS, SERVER, FederatedType, SequenceType

F = "float32"
FLOATS = FederatedType(F, CLIENTS)
INTS = FederatedType("int32", CLIENTS)
ROWS = FederatedType({"a": (F, (2,)), "b": "int32"}, CLIENTS)
RNG = np.random.default_rng(0)
VALUES = {
    "a": RNG.normal(size=(5, 2)).astype(F),
    "b": np.array([4, -2, 7, 0, 9], "int32"),
}


def computation(*types):
    return core.federated_computation(*types)


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        (core.federated_sum, lambda x: x.sum(0)),
        (core.federated_min, lambda x: x.min(0)),
        (core.federated_max, lambda x: x.max(0)),
        (core.federated_collect, lambda x: x),
    ],
)
def test_of_structures(operator, expected):
    found = computation(ROWS)(lambda rows: operator(rows))(VALUES)
    assert list(found) == ["a", "b"]
    for name, value in VALUES.items():
        np.testing.assert_allclose(found[name], expected(value), rtol=1e-6)
        assert found[name].dtype == value.dtype


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int32", "float16", "bfloat16"]
)
def test_a_sum_keeps_its_dtype(dtype):
    total = computation(FederatedType(dtype, CLIENTS))(core.federated_sum)
    found = total(np.arange(5).astype(getattr(ml_dtypes, dtype, dtype)))
    assert (found, found.dtype) == (10, dtype)


def test_mean():
    @computation(ROWS, FLOATS)
    def mean(rows, weight):
        return (
            core.federated_mean(rows.a),
            core.federated_mean(rows.a, weight),
            core.federated_mean(rows.a, rows.b),
        )

    weight = np.array([1, 0, 2, 0.5, 0], F)
    plain, by_float, by_int = mean(VALUES, weight)
    np.testing.assert_allclose(plain, VALUES["a"].mean(0), rtol=1e-6)
    for found, w in ((by_float, weight), (by_int, VALUES["b"])):
        average = np.average(VALUES["a"], axis=0, weights=w)
        np.testing.assert_allclose(found, average, rtol=1e-5)
    assert (mean(VALUES, np.zeros(5, F))[1] == 0).all()


def test_a_client_of_weight_0_does_not_count_in_a_mean():
    mean = computation(FLOATS, FLOATS)(lambda x, w: core.federated_mean(x, w))
    x = np.array([np.nan, 1, 4, np.inf], F)
    assert mean(x, np.array([0, 1, 2, 0], F)) == 3
    assert mean(x[:1], np.zeros(1, F)) == 0
    assert np.isnan(mean(x, np.array([1, 1, 2, 0], F)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_a_mean_adds_up_with_32_bits_or_more(dtype):
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has 32 bits")
    kind = FederatedType(dtype, CLIENTS)
    weighted = computation(kind, kind)(core.federated_mean)
    x = np.array([100, 200, 200]).astype(getattr(ml_dtypes, dtype, dtype))
    w = np.array([1000.1, 1000, 2000]).astype(x.dtype)
    found = weighted(x, w)
    expected = np.average(x.astype("float64"), weights=w.astype("float64"))
    assert found.dtype == x.dtype
    assert float(found) == pytest.approx(float(expected.astype(x.dtype)), 1e-14)
    plain = computation(kind)(lambda x: core.federated_mean(x))
    assert plain(x[:1].repeat(3000)) == 100


@pytest.mark.parametrize(("most", "bits"), [(10, 31), (10, 5), (1, 1)])
def test_secure_sum_is_modular(most, bits):
    @computation(INTS)
    def total(x):
        return core.federated_secure_sum(x, most, bits)

    values = np.array([1, 2, 30, -4, 9, 10, 8], "int32")
    assert total(values) == np.clip(values, 0, most).sum() % 2**bits


def test_aggregate():
    @computation(FLOATS)
    def spread(x):
        return core.federated_aggregate(
            x,
            {"low": np.float32(np.inf), "high": np.float32(-np.inf), "n": 0},
            lambda total, v: {
                "low": ops.minimum(total["low"], v),
                "high": ops.maximum(total["high"], v),
                "n": total["n"] + 1,
            },
            lambda a, b: {
                "low": ops.minimum(a["low"], b["low"]),
                "high": ops.maximum(a["high"], b["high"]),
                "n": a["n"] + b["n"],
            },
            lambda total: (total["high"] - total["low"], total["n"]),
        )

    assert spread([3.0, -1.0, 5.0]) == (6.0, 3)


def test_select():
    @computation(
        FederatedType(("int32", (2,)), CLIENTS),
        FederatedType((F, (5, 3)), SERVER),
    )
    def rows_of(keys, table):
        most = core.federated_value(4, SERVER)
        parts = core.federated_select(
            keys, most, table, lambda t, key: ops.take(t, key, axis=0)
        )
        assert str(parts.type) == "{float32[3]*}@CLIENTS"
        return core.federated_sum(
            core.federated_map(lambda rows: ops.sum(rows, axis=0), parts)
        )

    table = RNG.normal(size=(5, 3)).astype(F)
    keys = np.array([[0, 1], [4, 4], [2, 99]])  # 99 becomes 4
    expected = table[[0, 1, 4, 4, 2, 4]].sum(0)
    np.testing.assert_allclose(rows_of(keys, table), expected, atol=1e-6)


def test_seeds_are_threefry_of_the_clients_number():
    @computation(FederatedType(("uint32", (2,)), SERVER), FLOATS)
    def seeds(seed, x):
        return core.federated_collect(core.federated_seeds(seed))

    found = seeds(np.array([1, 2], "uint32"), [0.0] * 5)
    counter = np.arange(5, dtype="uint32"), np.zeros(5, "uint32")
    words = threefry.threefry_2x32((np.uint32(1), np.uint32(2)), counter)
    assert (found == np.stack([np.asarray(w) for w in words], 1)).all()
    assert len({tuple(row) for row in found}) == 5


def test_constants_maps_and_what_runs_without_a_parameter():
    @computation(FLOATS, FederatedType(F, SERVER))
    def both(x, y):
        one = core.federated_value(1.0, CLIENTS)
        two = core.federated_eval(lambda: ops.ones(()) * 2, CLIENTS)
        at_server = core.federated_eval(lambda: ops.ones((3,)), SERVER)
        z = core.federated_map(lambda a, b, c: a + b * c, (x, one, two))
        doubled = core.federated_apply(lambda v: 2 * v, y)
        zipped = core.federated_zip({"p": doubled, "q": core.federated_sum(z)})
        return zipped, core.federated_max(one), at_server

    zipped, one, ones = both([1.0, 2.0], 5.0)
    assert zipped == {"p": 10.0, "q": 7.0}
    assert one == 1
    assert ones.tolist() == [1, 1, 1]


def raises(match, *types):
    """Decorator: writing the computation down is refused."""

    def check(fn):
        with pytest.raises(core.FederatedTypeError, match=match) as caught:
            computation(*types)(fn)
        assert __file__ in str(caught.value)
        line = int(str(caught.value).rpartition(":")[2])
        assert fn.__code__.co_firstlineno < line
        assert line < fn.__code__.co_firstlineno + 12

    return check


AT_SERVER = FederatedType(F, SERVER)


@pytest.mark.backend_free
def test_errors_name_the_operator_the_element_both_types_and_the_line():
    @raises(
        r"`value` of federated_map must be at one place. Received: \n"
        r"  \[0\]: \{float32\}@CLIENTS\n  \[1\]: float32@SERVER\n"
        r"Send the server's to the clients: federated_broadcast",
        FLOATS,
        AT_SERVER,
    )
    def forgot_the_broadcast(x, y):
        return core.federated_map(lambda a, b: a + b, (x, y))

    @core.local_computation({"lr": F, "w": (F, (2,))})
    def train(state):
        return state["w"]

    @raises(
        r"`train` doesn't take what federated_map gives it in `w`:\n"
        r"  expected  float32\[2\]\n  received  float32\[3\]",
        FederatedType({"lr": F, "w": (F, (3,))}, CLIENTS),
    )
    def another_shape(x):
        return core.federated_map(train, x)

    @raises("can't be looked at", FLOATS)
    def looks_at_it(x):
        return core.federated_mean(x) if x > 3 else x

    @raises("must be at CLIENTS. Received: float32@SERVER", AT_SERVER)
    def sums_the_servers(x):
        return core.federated_sum(x)

    @raises("must be at SERVER.*\nAggregate it first", FLOATS)
    def applies_to_clients(x):
        return core.federated_apply(lambda v: v, x)

    @raises("floating-point.*with int32 in it", ROWS)
    def means_integers(x):
        return core.federated_mean(x)

    @raises("one shape at all clients.*n", FederatedType((F, ("n",)), CLIENTS))
    def sums_lengths(x):
        return core.federated_sum(x)

    @raises("one number of each client", ROWS)
    def weighs_by_vectors(x):
        return core.federated_mean(x.a, x.a)

    @raises("has no element 'c'", ROWS)
    def takes_what_isnt_there(x):
        return core.federated_sum(x.c)

    @raises("has 3 parameters; federated_map gives it", ROWS)
    def too_many_parameters(x):
        return core.federated_map(lambda a, b, c: a, x)

    @raises(r"must be a value of the computation.*federated_value", FLOATS)
    def adds_a_number(x):
        return core.federated_map(lambda a, b: a + b, (x, 1.0))

    @raises("must give what `zero` is", FLOATS)
    def another_total(x):
        return core.federated_aggregate(
            x, 0, lambda t, v: v, lambda a, b: a, lambda t: t
        )

    @raises(r"must be uint32\[2\]@SERVER", AT_SERVER)
    def another_seed(x):
        return core.federated_seeds(x)

    @raises(r"int32\[k\]", FLOATS, AT_SERVER)
    def another_key(x, y):
        return core.federated_select(x, y, y, lambda t, k: t)


def test_a_name_is_one_length():
    @core.local_computation((F, ("n",)), (F, ("n",)))
    def add(a, b):
        return a + b

    inner = computation(FederatedType((F, ("n",)), SERVER))(lambda x: x)

    def vectors(*sizes):
        return [FederatedType((F, (size,)), SERVER) for size in sizes]

    @raises(
        r"expected  float32\[m\]\n  received  float32\[n\]", *vectors("m", "n")
    )
    def another_name_of_an_inner_computation(x, y):
        return core.federated_apply(add, (inner(x), y))

    both = computation(*vectors("n", "n"))(
        lambda x, y: core.federated_apply(add, (x, y))
    )

    @raises(r"`y`.*:\n  expected  float32\[3\]\n  received", *vectors(3, 1))
    def unlike_parameters(x, y):
        return both(x, y)

    assert str(inner.type) == "(float32[n]@SERVER -> float32[n]@SERVER)"
    outer = computation(*vectors(3))(lambda x: inner(x))
    assert str(outer.type) == "(float32[3]@SERVER -> float32[3]@SERVER)"


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="has 64 bits")
def test_a_constant_that_jax_would_shorten():
    @raises("int64 is of 64 bits", FLOATS)
    def large(x):
        return core.federated_value(np.int64(2**40), SERVER)


def test_outside_of_a_computation():
    with pytest.raises(core.FederatedTypeError, match="only be used inside"):
        core.federated_value(1.0, SERVER)


def test_sequences_are_stacked():
    @computation(FederatedType(SequenceType({"x": (F, (2,))}), CLIENTS))
    def sums(data):
        return core.federated_sum(
            core.federated_map(lambda d: ops.sum(d["x"], axis=0), data)
        )

    clients = [{"x": np.full((n, 2), n)} for n in (1, 2, 4)]
    assert sums(clients).tolist() == [21, 21]
