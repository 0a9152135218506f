import functools
import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from keras import ops

from fedlearn import core
from fedlearn.core import CLIENTS, SERVER, FederatedType

F = "float32"
PAIRS = FederatedType({"a": F, "b": "int32"}, CLIENTS)
NUMBER = FederatedType(F, SERVER)


@core.federated_computation(
    PAIRS, NUMBER, FederatedType(("uint32", (2,)), SERVER)
)
def everything(data, rate, seed):
    scaled = core.federated_map(
        lambda d, r: d["a"] * r, (data, core.federated_broadcast(rate))
    )
    own = core.federated_aggregate(
        data.b,
        0,
        lambda total, b: total + b * b,
        lambda a, b: a + b,
        lambda total: total,
    )
    return {
        "ints": core.federated_sum(data.b),
        "squares": own,
        "secure": core.federated_secure_sum(data.b, 50, 6),
        "least": core.federated_min(data.b),
        "most": core.federated_max(scaled),
        "mean": core.federated_mean(scaled, data.b),
        "seeds": core.federated_max(core.federated_seeds(seed)),
        "all": core.federated_collect(data.b),
        "rate": core.federated_apply(lambda r: 2 * r, rate),
    }


N = 24
DATA = {
    "a": np.random.default_rng(0).normal(size=N).astype(F),
    "b": np.random.default_rng(1).integers(1, 50, N).astype("int32"),
}
ARGUMENTS = DATA, 0.5, np.array([3, 4], "uint32")
FORM = core.compile(everything)
KNOWN, _ = everything.arguments(*ARGUMENTS)
SENT = FORM.prepare(KNOWN)


def totals_of(index):
    """The total of some clients, in lanes of a few shapes."""
    lanes = -(-len(index) // 4) * 4
    index = np.pad(
        np.array(index, "int32"), (0, lanes - len(index)), mode="edge"
    )
    clients = tuple(x[index] for x in DATA.values())
    return FORM.client(SENT, clients, index)


@hypothesis.settings(max_examples=15)
@hypothesis.given(st.data())
def test_any_partition_into_tiers_gives_the_same(data):
    order = data.draw(st.permutations(range(N)))
    cuts = sorted(data.draw(st.sets(st.integers(1, N // 4 - 1), max_size=4)))
    edges = [0, *(4 * c for c in cuts), N]
    parts = [totals_of(order[a:b]) for a, b in itertools.pairwise(edges)]
    while len(parts) > 1:  # a tree: neighbours are merged in any order
        i = data.draw(st.integers(0, len(parts) - 2))
        parts[i : i + 2] = [FORM.merge(*parts[i : i + 2])]
    results = FORM.finish(KNOWN, parts[0])
    found = dict(zip(expected(), map(np.asarray, results), strict=True))
    for name, value in expected().items():
        if name in ("mean", "most"):
            np.testing.assert_allclose(found[name], value, rtol=1e-5)
        else:
            np.testing.assert_array_equal(found[name], value, name)


@functools.cache
def expected():
    return everything(*ARGUMENTS)


def test_against_numpy():
    a, b = DATA.values()
    found = expected()
    assert found["ints"] == b.sum()
    assert found["squares"] == (b * b).sum()
    assert found["secure"] == b.sum() % 64
    assert found["least"] == b.min()
    assert found["most"] == np.float32(a.max() * 0.5)
    assert found["mean"] == pytest.approx(np.average(a * 0.5, weights=b), 1e-4)
    assert (found["all"] == b).all()
    assert found["rate"] == 1


@pytest.mark.backend_free
def test_more_than_one_round_says_where():
    @core.federated_computation(PAIRS)
    def variance(data):
        mean = core.federated_mean(data.a)
        sent = core.federated_broadcast(mean)
        return core.federated_mean(
            core.federated_map(lambda d, m: (d["a"] - m) ** 2, (data, sent))
        )

    line = variance.__name__ and _line_of(
        "sent = core.federated_broadcast(mean)"
    )
    with pytest.raises(
        core.NotOneRound,
        match=f"federated_broadcast at test_map_sum.py:{line} sends",
    ):
        core.compile(variance)
    assert variance(DATA) == pytest.approx(DATA["a"].var(), rel=1e-5)


@pytest.mark.backend_free
def test_what_isnt_used_is_no_round():
    @core.federated_computation(PAIRS)
    def mean(data):
        mean = core.federated_mean(data.a)
        core.federated_broadcast(mean)
        return mean

    core.compile(mean)
    assert mean(DATA) == pytest.approx(DATA["a"].mean(), rel=1e-5)


def test_threads_write_down_their_own():
    import threading

    found = []

    def other():
        found.append(everything(*ARGUMENTS)["ints"])

    @core.federated_computation(PAIRS)
    def total(data):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(60)
        return core.federated_sum(data.b)

    assert found == [total(DATA)]


def _line_of(text):
    with open(__file__, encoding="utf-8") as file:
        lines = [line.strip() for line in file]
    return lines.index(text) + 1


STEPS = {
    "double": (lambda v: 2.0 * v, lambda v: 2 * v),
    "square": (lambda v: v * v, lambda v: v * v),
    "tanh": (lambda v: ops.tanh(v), np.tanh),
}
ENDS = {
    "federated_sum": np.sum,
    "federated_mean": np.mean,
    "federated_min": np.min,
    "federated_max": np.max,
}


@hypothesis.settings(max_examples=12)
@hypothesis.given(st.data())
def test_random_programs_are_as_numpy_has_them(data):
    steps = st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=2)
    rounds = data.draw(
        st.lists(
            st.tuples(steps, st.sampled_from(sorted(ENDS))),
            min_size=1,
            max_size=2,
        )
    )

    @core.federated_computation(FederatedType(F, CLIENTS))
    def program(x):
        for names, end in rounds:
            for name in names:
                x = core.federated_map(STEPS[name][0], x)
            result = getattr(core, end)(x)
            sent = core.federated_broadcast(result)
            x = core.federated_map(lambda a, b: 0.5 * a + b, (x, sent))
        return result, core.federated_sum(x)

    x = np.random.default_rng(0).normal(size=5).astype(F)
    found = program(x)
    for names, end in rounds:
        for name in names:
            x = STEPS[name][1](x)
        result = ENDS[end](x)
        x = 0.5 * x + result
    np.testing.assert_allclose(found, (result, x.sum()), rtol=2e-4, atol=1e-6)
