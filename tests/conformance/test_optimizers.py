"""Every Keras optimizer, as the clients' and as the server's."""

import keras
import numpy as np
import pytest
from keras import ops
from keras.optimizers import schedules

import fedlearn as fl
from fedlearn import backend
from fedlearn.optimizers.functional import FunctionalOptimizer
from tests import zoo

pytestmark = pytest.mark.conformance

TABLE = (
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("SGD", {"weight_decay": 0.1, "clipnorm": 0.5}),
    ("SGD", {"clipvalue": 0.1}),
    ("SGD", {"global_clipnorm": 0.5}),
    ("Adam", {"amsgrad": True}),
    ("AdamW", {"weight_decay": 0.1}),
    ("Adamax", {}),
    ("Nadam", {}),
    ("Adadelta", {}),
    ("Adafactor", {}),
    ("Adagrad", {}),
    ("RMSprop", {"momentum": 0.5, "centered": True}),
    ("Ftrl", {"l1_regularization_strength": 0.01}),
    ("Lamb", {}),
    ("Lion", {}),
    ("Muon", {}),
    ("FedAdagrad", {"beta_1": 0.9}),
    ("FedAdam", {"clipnorm": 0.5}),
    ("FedYogi", {}),
    ("Yogi", {"weight_decay": 0.1}),
    ("LossScaleOptimizer", {}),
    ("MultiOptimizer", {}),
    ("ScheduleFreeAdamW", {"warmup_steps": 2}),
)


def make(name, arguments):
    if name in fl.optimizers.__all__:
        return getattr(fl.optimizers, name)(0.1, **arguments)
    if name == "LossScaleOptimizer":
        return keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.1, momentum=0.5), dynamic_growth_steps=2
        )
    if name == "MultiOptimizer":
        by_path = keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.1))
        by_path[".*/bias"] = keras.optimizers.Adam(0.1)
        return keras.optimizers.MultiOptimizer(by_path)
    return getattr(keras.optimizers, name)(0.1, **arguments)


def label(value):
    if isinstance(value, str):
        return value
    return "-".join(f"{k}={v}" for k, v in value.items()) or "default"


BATCH = 4
DATA = zoo.line(5 * BATCH)


# On JAX an optimizer is used as it is, through Keras's own stateless_apply;
# those that have something of their own in this package are run there too.
OWN = {
    "Adam",
    "LossScaleOptimizer",
    "MultiOptimizer",
    "ScheduleFreeAdamW",
    *fl.optimizers.__all__,
}
ROWS = [
    row if row[0] in OWN else pytest.param(*row, marks=pytest.mark.backend_free)
    for row in TABLE
]


@pytest.mark.parametrize(("name", "arguments"), ROWS, ids=label)
def test_a_client_with_it_equals_fit(name, arguments):
    if (name, keras.backend.backend()) == ("ScheduleFreeAdamW", "tensorflow"):
        pytest.skip(
            "Keras 3.15 itself is wrong here: what it keeps as the old "
            "momentum is the variable, which it then changes. The other "
            "backends' fit is the reference."
        )
    model = zoo.regression(make(name, arguments))
    process = fl.FederatedAveraging(
        model, client=fl.LocalTraining(batch_size=BATCH, shuffle=False)
    )
    process.cohort([DATA]).read(0)
    broadcast = process.receive(process.broadcast(process.initialize()))
    # The client's steps by themselves: the rest of a round is the same for
    # all optimizers.
    step = backend.jit(process.program.step)
    seed = ops.convert_to_tensor(np.zeros(2, "int32"))
    carry = process.program.start(broadcast, seed)
    for i in range(0, len(DATA[0]), BATCH):
        batch = tuple(ops.convert_to_tensor(a[i : i + BATCH]) for a in DATA)
        carry = step(broadcast, carry, batch)

    before = zoo.weights_of(model)
    zoo.fit(model, DATA, batch_size=BATCH, shuffle=False)
    after = zoo.weights_of(model)
    assert np.abs(after[0] - before[0]).max() > 2e-4
    zoo.assert_close(zoo.numpy(carry.variables.trainable), after)


def _no_decay(optimizer, model):
    optimizer.exclude_from_weight_decay(var_names=["bias"])


def _no_decay_of_bias(optimizer, model):
    optimizer.exclude_from_weight_decay(var_list=[model.layers[-1].bias])


def decaying(wrap=None, exclude=_no_decay):
    """A regression whose inner SGD decays the kernel and not the bias."""
    model = zoo.regression()
    optimizer = keras.optimizers.SGD(0.1, weight_decay=0.5)
    exclude(optimizer, model)
    if wrap == "LossScaleOptimizer":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    elif wrap == "MultiOptimizer":
        # One optimizer for two patterns.
        by_path = keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.1))
        by_path[".*/bias"] = by_path[".*/kernel"] = optimizer
        optimizer = keras.optimizers.MultiOptimizer(by_path)
    return model, optimizer


@pytest.mark.parametrize("wrap", [None, "LossScaleOptimizer", "MultiOptimizer"])
@pytest.mark.parametrize("exclude", [_no_decay, _no_decay_of_bias])
def test_what_is_excluded_from_weight_decay_stays_excluded(wrap, exclude):
    model, optimizer = decaying(wrap, exclude)
    model.compile(optimizer, loss="mse")
    functional = FunctionalOptimizer(optimizer, model.trainable_variables)
    weights = [ops.convert_to_tensor(w) for w in zoo.weights_of(model)]
    zeros = [ops.zeros_like(w) for w in weights]
    after, _ = functional.apply(functional.initial_values(), zeros, weights)
    # Keras: the kernel times 1 - 0.1 * 0.5, the bias as it is.
    kernel, bias = zoo.weights_of(model)
    zoo.assert_close(zoo.numpy(after), [0.95 * kernel, bias])
    assert not optimizer.built


@pytest.mark.parametrize("exclude", [_no_decay, _no_decay_of_bias])
def test_at_the_server_and_in_a_copy_of_the_model_too(exclude):
    model, optimizer = decaying(None, exclude)
    _, server = decaying()
    exclude(server, model)
    model.compile(optimizer, loss="mse")
    still = fl.LocalTraining(optimizer=keras.optimizers.SGD(0.0))
    process = fl.FederatedAveraging(model, still, server)
    copy = process.get_model(process.initialize())
    uses = [copy.optimizer._use_weight_decay(v) for v in copy.weights]
    assert uses == [True, False]
    before = process.initialize()
    state, _ = process.next(before, [DATA])  # of which all is the decay
    kernel, bias = zoo.numpy(before.trainable)
    zoo.assert_close(zoo.numpy(state.trainable), [0.95 * kernel, bias])


class Signed(keras.optimizers.SGD):
    """Goes up instead of down, which its configuration doesn't say."""

    sign = 1.0

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(self.sign * gradient, variable, learning_rate)


def test_attributes_that_the_config_leaves_out_are_kept():
    optimizer = Signed(0.5)
    optimizer.sign = -1.0
    weights = keras.Variable(np.ones(2, "float32"))
    functional = FunctionalOptimizer(optimizer, [weights])
    values = functional.initial_values()
    after, _ = functional.apply(values, [ops.ones((2,))], [ops.ones((2,))])
    zoo.assert_close(zoo.numpy(after), [np.full(2, 1.5)])


def test_small_gradients_survive_float16():
    """An optimizer given to the client is wrapped as `compile` wraps one."""
    policy = keras.DTypePolicy("mixed_float16")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.dtype_policy = model.layers[0].dtype_policy = policy
    zoo.set_weights(model)

    def tiny(y_true, y_pred):
        return 1e-7 * ops.mean(ops.square(y_true - y_pred), axis=-1)

    x, y = (a[:4] for a in DATA)
    model.compile(keras.optimizers.SGD(1e6), loss=tiny)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    process = fl.FederatedAveraging(
        model, client=fl.LocalTraining(keras.optimizers.SGD(1e6), batch_size=4)
    )
    state, _ = process.next(process.initialize(), [(x, y)])
    before = zoo.weights_of(model)
    zoo.fit(model, (x, y), batch_size=4, shuffle=False)
    after = zoo.weights_of(model)
    assert np.abs(after[0] - before[0]).max() > 0.05
    zoo.assert_close(zoo.numpy(state.trainable), after, rtol=5e-3)


def test_all_of_keras_and_of_this_package_is_in_the_table():
    names = {
        name
        for name, value in vars(keras.optimizers).items()
        if isinstance(value, type)
        and issubclass(value, keras.optimizers.Optimizer)
    }
    names |= set(fl.optimizers.__all__)
    assert names - {"Optimizer", "get"} <= {name for name, _ in TABLE}


def test_loss_scaling_skips_a_step_that_overflows():
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1), initial_scale=8.0
    )
    weights = keras.Variable(np.ones(2, "float32"))
    functional = FunctionalOptimizer(optimizer, [weights])
    values = functional.initial_values()
    one = [ops.ones((2,))]
    for gradient, expected in (
        (8 * np.ones(2), 0.9),  # scaled by 8
        (np.array([np.inf, 1.0]), 0.9),  # left out, and the scale is halved
        (4 * np.ones(2), 0.8),
    ):
        gradient = ops.convert_to_tensor(gradient.astype("float32"))
        one, values = functional.apply(values, [gradient], one)
        zoo.assert_close(zoo.numpy(one), [np.full(2, expected)])


def test_what_is_given_is_never_changed():
    optimizer = keras.optimizers.Adam(0.1)
    weights = keras.Variable(np.ones(2, "float32"))
    functional = FunctionalOptimizer(optimizer, [weights])
    values = functional.initial_values()
    functional.apply(values, [ops.ones((2,))], [ops.ones((2,))])
    assert not optimizer.built
    assert zoo.numpy([weights])[0].tolist() == [1, 1]
    zoo.assert_equal(values, functional.initial_values())


def test_averages_of_the_weights_start_from_the_rounds_weights():
    weights = [keras.Variable(np.zeros(2, "float32")) for _ in range(2)]
    optimizer = keras.optimizers.ScheduleFreeAdamW(0.1)
    functional = FunctionalOptimizer(optimizer, weights)
    now = [ops.full((2,), 5.0), ops.full((2,), 7.0)]
    values = zoo.numpy(functional.initial_values(now))
    for expected in (5, 7):
        assert sum((v == expected).all() for v in values) == 1


@pytest.mark.parametrize(
    "argument", [{"use_ema": True}, {"gradient_accumulation_steps": 2}]
)
@pytest.mark.parametrize("wrap", [False, True])
def test_what_needs_many_steps_of_one_optimizer_is_refused(argument, wrap):
    optimizer = keras.optimizers.SGD(0.1, **argument)
    if wrap:
        by_path = keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.1))
        by_path[".*/bias"] = optimizer
        optimizer = keras.optimizers.MultiOptimizer(by_path)
    with pytest.raises(ValueError, match=f"{next(iter(argument))}=.*Leave it"):
        fl.FederatedAveraging(zoo.regression(optimizer))


def test_the_learning_rate_can_be_read_and_set():
    weights = keras.Variable(np.ones(2, "float32"))
    functional = FunctionalOptimizer(keras.optimizers.SGD(0.25), [weights])
    values = functional.initial_values()
    assert functional.learning_rate(values) == 0.25
    values = functional.with_learning_rate(values, 0.5)
    assert functional.learning_rate(values) == 0.5
    after, _ = functional.apply(values, [ops.ones((2,))], [ops.ones((2,))])
    zoo.assert_close(zoo.numpy(after), [np.full(2, 0.5)])


def test_a_rate_that_a_schedule_sets_cannot_be_set():
    weights = keras.Variable(np.ones(2, "float32"))
    optimizer = keras.optimizers.SGD(schedules.ExponentialDecay(0.1, 1, 0.5))
    functional = FunctionalOptimizer(optimizer, [weights])
    assert functional.learning_rate(functional.initial_values()) is None
    with pytest.raises(ValueError, match="set by a schedule"):
        functional.with_learning_rate(functional.initial_values(), 0.5)


def test_at_the_clients_a_schedule_counts_rounds():
    schedule = schedules.PiecewiseConstantDecay([0, 1], [0.25, 0.125, 0.0])
    process = fl.FederatedAveraging(
        zoo.regression(keras.optimizers.SGD(schedule)),
        client=fl.LocalTraining(batch_size=BATCH, shuffle=False),
        executor="sequential",
    )
    state = process.initialize()
    for rate in (0.25, 0.125, 0.0, 0.0):
        expected = zoo.numpy(state.trainable)
        for i in range(0, 8, BATCH):
            batch = tuple(a[i : i + BATCH] for a in DATA)
            gradient = zoo.gradient(expected, batch)
            expected = [
                w - rate * g for w, g in zip(expected, gradient, strict=True)
            ]
        state, _ = process.next(state, [tuple(a[:8] for a in DATA)])
        zoo.assert_close(zoo.numpy(state.trainable), expected)
    # Another round's rate needs no other program: it comes with the broadcast.
    assert process.broadcast(process.initialize()).learning_rate == 0.25
