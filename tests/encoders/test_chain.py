import keras
import numpy as np
import pytest
from keras import ops

import fedlearn as fl
from fedlearn.encoders import Chain, Encoder
from tests import zoo


class Halve(Encoder):
    """Linear: may be decoded before the sum or after it."""

    decodes = "either"

    def encode(self, value, params, seed):
        return [v / 2 for v in value], ()

    def decode(self, value, params):
        return [2 * v for v in value]


class OwnScale(Encoder):
    """Each client sends numbers in [-1, 1], and its own scale."""

    decodes = "summand"

    def encode(self, value, params, seed):
        scales = [ops.max(ops.abs(v)) + 1e-6 for v in value]
        scaled = [v / s for v, s in zip(value, scales, strict=True)]
        return {"scaled": scaled, "scales": scales}, ()

    def decode(self, value, params):
        return [
            v * s for v, s in zip(value["scaled"], value["scales"], strict=True)
        ]


class AddAtServer(Encoder):
    """Stands for noise: added once, to the sum."""

    decodes = "sum"

    def __init__(self, amount=1.0):
        self.amount = amount

    def encode(self, value, params, seed):
        return value, ()

    def decode(self, value, params):
        return [v + self.amount for v in value]

    def get_config(self):
        return {"amount": self.amount}


class CountPositive(Encoder):
    """Stateful: scales by a number that the clients' statistics set."""

    decodes = "either"

    def init(self):
        return {"scale": ops.ones(()), "rounds": ops.zeros((), "int32")}

    def params(self, state, seed, bound):
        return state["scale"]

    def encode(self, value, params, seed):
        positive = sum(ops.sum(ops.cast(v > 0, "float32")) for v in value)
        return [v * params for v in value], positive

    def decode(self, value, params):
        return [v / params for v in value]

    def update(self, state, stats, noise):
        state = {"scale": 1 + stats, "rounds": state["rounds"] + 1}
        return state, {"num_positive": stats}


CLIENTS = [np.array([1.0, -4.0]), np.array([3.0, 0.5]), np.array([0.0, 2.0])]


def aggregate(encoders, weights=(1.0, 1.0, 1.0), state=None):
    """A round of `Mean` without a process."""
    spec = [keras.KerasTensor((2,), "float32")]
    mean = fl.aggregators.Mean(encoders).build(spec)
    state = mean.init() if state is None else state
    params = mean.params(state, np.zeros(2, np.int32))
    noise = mean.draw(state, np.random.default_rng(0))
    total = None
    for array, weight in zip(CLIENTS, weights, strict=True):
        array = ops.convert_to_tensor(array.astype("float32"))
        message, _ = mean.encode([array], params, None, ())
        summand = mean.summand(message, ops.convert_to_tensor(weight), params)
        total = (
            summand
            if total is None
            else keras.tree.map_structure(lambda a, b: a + b, total, summand)
        )
    found, state, metrics = mean.finish(state, total, params, noise)
    return zoo.numpy(found)[0], state, metrics


MEAN = np.mean(CLIENTS, axis=0)


@pytest.mark.parametrize(
    "encoders",
    [
        [],
        [Halve()],
        [Halve(), Halve(), Halve()],
        [OwnScale()],
        [Halve(), OwnScale()],
        [CountPositive(), Halve(), OwnScale()],
    ],
    ids=lambda e: "-".join(type(x).__name__ for x in e) or "none",
)
def test_what_is_encoded_comes_back(encoders):
    mean, _, _ = aggregate(encoders)
    np.testing.assert_allclose(mean, MEAN, rtol=1e-6)


def test_what_is_decoded_on_the_sum_is_decoded_once():
    # 6 is added to the sum of three clients: 2 to their mean, not 6.
    mean, _, _ = aggregate([AddAtServer(6.0), Halve(), OwnScale()])
    np.testing.assert_allclose(mean, MEAN + 2, rtol=1e-6)


def test_the_server_decodes_from_right_to_left():
    # (sum / 2 + 6) * 2 = sum + 12, but (sum / 2) * 2 + 6 = sum + 6.
    mean, _, _ = aggregate([Halve(), AddAtServer(6.0)])
    np.testing.assert_allclose(mean, MEAN + 4, rtol=1e-6)
    mean, _, _ = aggregate([AddAtServer(6.0), Halve()])
    np.testing.assert_allclose(mean, MEAN + 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("kinds", "on_sum"),
    [
        ([], 0),
        ([Halve], 1),
        ([AddAtServer], 1),
        ([OwnScale], 0),
        ([AddAtServer, Halve, OwnScale, Halve], 2),
        ([Halve, AddAtServer, Halve], 3),
        ([OwnScale, Halve, OwnScale], 0),
    ],
)
def test_the_sum_is_placed_as_far_left_as_it_must(kinds, on_sum):
    assert Chain([kind() for kind in kinds]).num_decoded_on_sum == on_sum


@pytest.mark.parametrize(
    ("between", "on_sum"),
    [
        ([], 2),
        ([fl.encoders.HadamardRotation()], 3),
        ([fl.encoders.HadamardRotation(), Halve()], 3),
        ([Halve(), fl.encoders.HadamardRotation()], 2),
    ],
    ids=lambda links: str(len(links)) if isinstance(links, list) else None,
)
def test_what_keeps_norms_is_decoded_with_the_noise(between, on_sum):
    noise = [fl.encoders.Clip(1.0), fl.encoders.GaussianNoise(0.0)]
    assert Chain([*noise, *between, OwnScale()]).num_decoded_on_sum == on_sum


class ClipsForTheServer(fl.encoders.GaussianNoise):
    """Clips, and lets the server add the noise."""

    bound = "sets"

    def encode(self, value, params, seed):
        return fl.encoders.Clip(1.0).encode(value, params, seed)[0], ()

    def sensitivity(self, bound, params):
        return 1.0


def test_a_bound_that_noise_sets_itself_holds_after_rounding():
    chain = Chain([ClipsForTheServer(1.0), OwnScale()]).build(
        [keras.KerasTensor((2,))]
    )
    params = chain.params(chain.init(), np.array([1, 2], np.int32))
    assert chain.noise_bound(params) == 1.0
    longer = {"scaled": [ops.array([0.6, 0.8])], "scales": [ops.array(3.0)]}
    (summand,) = zoo.numpy(chain.decode_summand(longer, params))
    np.testing.assert_allclose(summand, [0.6, 0.8], rtol=1e-6)


def test_what_rounding_adds_is_clipped_before_the_rotation_back():
    spec = [keras.KerasTensor((5, 5), "float32")]
    chain = Chain(
        [
            fl.encoders.Clip(1.0),
            fl.encoders.GaussianNoise(0.0),
            fl.encoders.HadamardRotation(),
            fl.encoders.UniformQuantization(1),
        ]
    ).build(spec)
    state = chain.init()
    params = chain.params(state, np.array([1, 2], np.int32))
    noise = chain.draw(state, np.random.default_rng(0))
    value = [np.random.default_rng(0).normal(size=(5, 5)).astype("float32")]
    message, _, _ = chain.encode(value, params, np.array([3, 4], np.int32))

    def length(arrays):
        return np.sqrt(sum((a**2).sum() for a in zoo.numpy(arrays)))

    *_, rotation, quantization = chain.encoders
    rotated = quantization.decode(message, params[3])
    (alone,) = zoo.numpy(rotation.decode(rotated, params[2]))
    assert length([alone]) > 1.2
    summand = chain.decode_summand(message, params)
    assert length(summand) == pytest.approx(1, abs=1e-6)
    (decoded,) = zoo.numpy(chain.decode_sum(summand, params, noise))
    # Shorter by what was decoded into the padding, and the same direction.
    assert length([decoded]) <= 1 + 1e-6
    scale = length([decoded]) / length([alone])
    np.testing.assert_allclose(decoded, alone * scale, atol=1e-6)


@pytest.mark.backend_free
@pytest.mark.parametrize(
    "kinds",
    [
        [OwnScale, AddAtServer],
        [Halve, OwnScale, Halve, AddAtServer],
        [AddAtServer, OwnScale, AddAtServer],
    ],
)
@pytest.mark.parametrize("make", [Chain, fl.aggregators.Mean])
def test_an_order_that_cannot_work_is_refused_at_construction(kinds, make):
    with pytest.raises(ValueError, match=r"Put AddAtServer before OwnScale"):
        make([kind() for kind in kinds])


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("encoder", "error", "match"),
    [
        (Halve, TypeError, r"Make an instance of it: Halve\(\.\.\.\)"),
        ("halve", ValueError, "there is no 'halve'"),
        (None, TypeError, "must be a fedlearn.encoders.Encoder, or a string"),
    ],
)
def test_what_is_no_encoder_is_refused(encoder, error, match):
    with pytest.raises(error, match=match):
        Chain([encoder])


def test_a_state_is_passed_from_round_to_round():
    encoder = CountPositive()
    _, state, metrics = aggregate([Halve(), encoder])
    # Positive: 1; 3 and 0.5; 2.
    assert float(metrics["num_positive"]) == 4
    assert float(state[1]["scale"]) == 5
    mean, state, metrics = aggregate([Halve(), encoder], state=state)
    np.testing.assert_allclose(mean, MEAN, rtol=1e-6)
    assert int(state[1]["rounds"]) == 2
    # The object itself remembers nothing.
    _, _, fresh = aggregate([Halve(), encoder])
    assert float(fresh["num_positive"]) == 4


def test_a_link_is_told_the_shapes_that_it_will_get():
    class Flatten(Halve):
        def encoded_spec(self):
            size = sum(int(np.prod(s.shape)) for s in self.spec)
            return [keras.KerasTensor((size,), "float32")]

    spec = [keras.KerasTensor((2, 3), "float32"), keras.KerasTensor((4,))]
    chain = Chain([Flatten(), CountPositive()])
    _, inner = chain.build(spec).encoders
    assert [s.shape for s in inner.spec] == [(10,)]
    # What it was made of can be built for others.
    with pytest.raises(AttributeError, match=r"isn't built. Use `.build"):
        print(chain.encoders[1].spec)


def test_sensitivity_goes_through_the_chain():
    class Clip(Halve):
        def sensitivity(self, bound, params):
            return min(bound, 3.0)

    class Double(Halve):
        def sensitivity(self, bound, params):
            return 2 * bound

    def bound(*encoders):
        return Chain(encoders).noise_bound(((),) * len(encoders))

    assert bound() == np.inf
    assert bound(Clip()) == 3
    assert bound(Clip(), Double()) == 6
    assert bound(Double(), Clip()) == 3
    assert bound(Clip(), Halve()) == np.inf  # which says nothing of itself


@pytest.mark.backend_free
def test_all_kinds_train_in_a_process():
    """No change to the process: compiled, over rounds, state saved."""
    encoders = [AddAtServer(0.0), CountPositive(), Halve(), OwnScale()]
    process = fl.FederatedAveraging(
        zoo.regression(),
        client=fl.LocalTraining(batch_size=4, shuffle=False),
        aggregator=fl.aggregators.Mean(encoders),
        executor="sequential",
    )
    cohort = zoo.clients((8, 16), make=zoo.line)
    known = zoo.regression_process()
    state, expected = process.initialize(), known.initialize()
    for round_num in range(2):
        state, metrics = process.next(state, cohort)
        expected, _ = known.next(expected, cohort)
        zoo.assert_close(
            zoo.numpy(state.trainable), zoo.numpy(expected.trainable)
        )
        assert 0 < metrics["num_positive"] <= 2 * 4
        assert int(state.aggregator[1]["rounds"]) == round_num + 1
    assert metrics["bytes_up"] > known.next(expected, cohort)[1]["bytes_up"]


@pytest.mark.backend_free
def test_one_encoder_is_no_list():
    with pytest.raises(TypeError, match=r"give \[Clip\(norm=1\.0\)\]"):
        fl.aggregators.Mean(fl.encoders.Clip(1.0))
    model = zoo.regression()
    with pytest.raises(TypeError, match=r"aggregator=Mean\(\[Clip"):
        fl.FederatedAveraging(model, aggregator=fl.encoders.Clip(1.0))


@pytest.mark.backend_free
def test_what_is_shown_makes_an_equal_one():
    aggregator = fl.aggregators.Mean(
        [fl.encoders.ErrorFeedback([fl.encoders.TopK(0.1)])]
    )
    again = eval(
        repr(aggregator), {**vars(fl.aggregators), **vars(fl.encoders)}
    )
    assert repr(again) == repr(aggregator)
