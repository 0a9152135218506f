"""What a run is, and that each change of it is refused and named."""

import functools
import json
import types

import keras
import numpy as np
import pytest
from keras import layers

import fedlearn as fl
from fedlearn.runs import run_identity
from fedlearn.runs.schedule import Schedule
from tests import zoo

pytestmark = pytest.mark.backend_free

DATA = {f"client_{i}": zoo.line(n, seed=i) for i, n in enumerate((8, 4, 12))}


def weighted(weight):
    def loss(y_true, y_pred):
        return weight * keras.ops.mean(keras.ops.square(y_true - y_pred))

    return loss


def steep(x):
    return keras.ops.tanh(2 * x)


def steeper(x):
    return keras.ops.tanh(3 * x)


class Scaled(layers.Layer):
    """Without a configuration: an argument that isn't plain."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)


class Scheduled(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.1

    def get_config(self):
        return {}


class Constant(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.2

    def get_config(self):
        return {}


Constant.__name__ = "Scheduled"


class Forgetful(keras.losses.Loss):
    """A loss whose configuration doesn't say all, as the base class's."""

    levels = (1.0,)

    def __init__(self, scale):
        super().__init__()
        self._scale = scale

    def call(self, y_true, y_pred):
        return self._scale * self.levels[0] * (y_true - y_pred) ** 2


class ForgetfulLayer(layers.Layer):
    def __init__(self, factor):
        super().__init__()
        self._factor = np.full(3, factor)

    def call(self, x):
        return x * self._factor

    def get_config(self):
        return super(layers.Layer, self).get_config()


class Scale:
    def __init__(self, scale):
        self.scale = scale

    def loss(self, y_true, y_pred):
        return self.scale * (y_true - y_pred) ** 2


SETTINGS = {}


def set_loss(y_true, y_pred):
    return SETTINGS["scale"] * (y_true - y_pred) ** 2


def module_loss(y_true, y_pred):
    return helpers.SCALE * helpers.distance(y_true, y_pred)


helpers = types.ModuleType("helpers_of_a_user")


def other_distance(y_true, y_pred):
    return keras.ops.abs(y_true - y_pred)


other_distance.__module__ = steep.__module__ = helpers.__name__


def cached(scale):
    @functools.lru_cache
    def loss(y_true, y_pred):
        return scale * (y_true - y_pred) ** 2

    return loss


def describe(
    *,
    optimizer=("SGD", {"learning_rate": 0.1}),
    excluded=(),
    loss="mse",
    loss_weights=None,
    metrics=None,
    activation="tanh",
    units=4,
    l2=0.0,
    dropout=0.1,
    dtype=None,
    layer=None,
    trainable=True,
    client=None,
    data=None,
    sampler=None,
    seed=0,
    name=None,
    **process,
):
    """The identity of a run, made anew from its arguments."""
    middle = layers.Dense(
        units,
        activation=activation,
        kernel_regularizer=keras.regularizers.L2(l2),
        dtype=dtype,
        trainable=trainable,
        name=name,
    )
    model = keras.Sequential(
        [
            keras.Input((3,)),
            middle,
            layers.Dropout(dropout),
            *([] if layer is None else [Scaled(layer)]),
            layers.Dense(1),
        ]
    )
    kind, arguments = optimizer
    optimizer = getattr(keras.optimizers, kind)(**arguments)
    if excluded:
        optimizer.exclude_from_weight_decay(var_names=excluded)
    model.compile(optimizer, loss, loss_weights=loss_weights, metrics=metrics)
    process = fl.FederatedAveraging(
        model, client=client or fl.LocalTraining(batch_size=4), **process
    )
    dataset = fl.FederatedDataset.from_clients(data or DATA)
    chosen = None if sampler is None else sampler(dataset)
    return json.loads(
        json.dumps(run_identity.identity(process, dataset, chosen, seed))
    )


def of_process(process):
    data = fl.FederatedDataset.from_clients(DATA)
    return run_identity.identity(process, data, None, 0)


def of_model(model):
    return of_process(fl.FederatedAveraging(model))


def other_values():
    return {**DATA, "client_1": (DATA["client_1"][0] + 1, DATA["client_1"][1])}


def other_sizes():
    return {**DATA, "client_1": zoo.line(5, seed=1)}


ADAMW = {"optimizer": ("AdamW", {"weight_decay": 0.1})}

CHANGES = {
    "optimizer": (
        {},
        {"optimizer": ("Adam", {})},
        "client_optimizer was SGD and is now Adam",
    ),
    "its rate": (
        {},
        {"optimizer": ("SGD", {"learning_rate": 0.2})},
        "client_optimizer.learning_rate was 0.1 and is now 0.2",
    ),
    "its schedule's code": (
        {"optimizer": ("SGD", {"learning_rate": Scheduled()})},
        {"optimizer": ("SGD", {"learning_rate": Constant()})},
        "client_optimizer",
    ),
    "weight decay's exceptions": (
        ADAMW,
        {**ADAMW, "excluded": ["bias"]},
        r"decays\[1\] was True and is now False",
    ),
    "loss": ({}, {"loss": "mae"}, "compiled.loss was mse and is now mae"),
    "a loss's code": (
        {"loss": lambda y, p: keras.ops.mean(keras.ops.abs(y - p))},
        {"loss": lambda y, p: keras.ops.mean(keras.ops.square(y - p))},
        "compiled.loss.bytecode",
    ),
    "what a loss has closed over": (
        {"loss": weighted(1.0)},
        {"loss": weighted(2.0)},
        "compiled.loss.closure.weight was 1 and is now 2",
    ),
    "a loss's arguments": (
        {"loss": keras.losses.Huber(1.0)},
        {"loss": keras.losses.Huber(2.0)},
        "compiled.loss.delta was 1 and is now 2",
    ),
    "what the loss's class leaves out of its configuration": (
        {"loss": Forgetful(1.0)},
        {"loss": Forgetful(2.0)},
        "compiled.loss.holds._scale was 1 and is now 2",
    ),
    "what a method belongs to": (
        {"loss": Scale(1.0).loss},
        {"loss": Scale(2.0).loss},
        r"compiled.loss\[1\].holds.scale was 1 and is now 2",
    ),
    "what is in a cache's or compiler's wrapping": (
        {"loss": cached(1.0)},
        {"loss": cached(2.0)},
        "compiled.loss.closure.scale was 1 and is now 2",
    ),
    "loss weights": ({}, {"loss_weights": [2.0]}, "compiled.loss_weights"),
    "metrics": ({}, {"metrics": ["mae"]}, "compiled.metrics"),
    "activation": (
        {},
        {"activation": "relu"},
        r"layers.0 Dense.activation was tanh and is now relu",
    ),
    "an activation's code": (
        {"activation": steep},
        {"activation": steeper},
        "layers",
    ),
    "a layer's code": (
        {"layer": lambda x: 2 * x},
        {"layer": lambda x: 3 * x},
        "layers.2 Scaled.holds.function.bytecode",
    ),
    "regularizer": (
        {},
        {"l2": 0.5},
        r"kernel_regularizer.config.l2 was 0 and is now 0.5",
    ),
    "dropout": ({}, {"dropout": 0.5}, r"layers.1 Dropout.rate was 0.1"),
    "units": ({}, {"units": 5}, "variables"),
    "dtype policy": (
        {},
        {"dtype": "mixed_bfloat16"},
        "dtype.config.name was float32 and is now mixed_bfloat16",
    ),
    "frozen": ({}, {"trainable": False}, "trainable was True"),
    "client": (
        {},
        {"client": fl.LocalTraining(batch_size=4, proximal=0.1)},
        "client.proximal was 0 and is now 0.1",
    ),
    "server optimizer": (
        {},
        {"server_optimizer": keras.optimizers.SGD(0.5)},
        "server_optimizer.learning_rate was 1 and is now 0.5",
    ),
    "aggregator": (
        {},
        {"aggregator": fl.aggregators.Mean([fl.encoders.Eden(2)])},
        "aggregator.encoders",
    ),
    "broadcast encoders": (
        {},
        {"broadcast_encoders": [fl.encoders.Cast("float16")]},
        "broadcast_encoders",
    ),
    "executor": (
        {"executor": "sequential"},
        {"executor": "auto"},
        "executor was Sequential and is now Auto",
    ),
    "attack": (
        {
            "executor": fl.attacks.AttackedExecutor(
                fl.attacks.SignFlip(1.0), ["client_1"]
            )
        },
        {
            "executor": fl.attacks.AttackedExecutor(
                fl.attacks.SignFlip(2.0), ["client_1"]
            )
        },
        "executor.attack.scale was 1 and is now 2",
    ),
    "sampler": (
        {},
        {"sampler": lambda data: fl.samplers.Uniform(data, 2)},
        "sampler was None",
    ),
    "privacy": (
        {},
        {"privacy": fl.privacy.Privacy(private_metrics=True)},
        "privacy.private_metrics was False and is now True",
    ),
    "seed": ({}, {"seed": 1}, "seed was 0 and is now 1"),
    "examples": ({}, {"data": other_values()}, "examples are others"),
    "sizes": ({}, {"data": other_sizes()}, "other numbers of examples"),
    "clients": (
        {},
        {"data": dict(reversed(DATA.items()))},
        "data: they have other clients, or in another order",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_told(change):
    before, after, told = CHANGES[change]
    was = describe(**before)
    assert run_identity.differences(was, describe(**before)) == []
    differences = run_identity.differences(was, describe(**after))
    zoo.assert_matches(told, "; ".join(differences))


def test_globals_and_modules_of_a_loss_are_told(monkeypatch):
    def differs(loss, change):
        was = describe(loss=loss)
        assert run_identity.differences(was, describe(loss=loss)) == []
        change()
        return "; ".join(run_identity.differences(was, describe(loss=loss)))

    def set_module(name, value):
        return lambda: monkeypatch.setattr(helpers, name, value, raising=False)

    monkeypatch.setitem(SETTINGS, "scale", 1.0)
    told = differs(set_loss, lambda: SETTINGS.update(scale=2.0))
    zoo.assert_matches("uses.SETTINGS.scale was 1 and is now 2", told)

    set_module("SCALE", 1.0)()
    set_module("distance", keras.losses.mean_squared_error)()
    told = differs(module_loss, set_module("SCALE", 3.0))
    zoo.assert_matches("uses.SCALE was 1 and is now 3", told)
    told = differs(module_loss, set_module("distance", other_distance))
    zoo.assert_matches("uses.distance", told)

    loss = Forgetful(1.0)
    told = differs(loss, lambda: monkeypatch.setattr(loss, "_scale", 2.0))
    assert told
    told = differs(
        loss, lambda: monkeypatch.setattr(Forgetful, "levels", [2.0])
    )
    zoo.assert_matches("levels", told)


def test_what_a_layer_leaves_out_of_its_configuration_is_told():
    def identity(factor):
        model = keras.Sequential([keras.Input((3,)), ForgetfulLayer(factor)])
        model.compile("sgd", "mse")
        return run_identity.describe([model, *model.layers])

    assert run_identity.differences(identity(1.0), identity(1.0)) == []
    (told,) = run_identity.differences(identity(1.0), identity(2.0))
    assert "holds._factor was" in told


def test_a_lambda_layer_on_another_line_is_the_same():
    source = "layer = keras.layers.Lambda(lambda x: {} * x)\n"

    def identity(text, name):
        space: dict = {"__name__": "script", "keras": keras}
        exec(compile(text, name, "exec"), space)
        model = keras.Sequential([keras.Input((3,)), space["layer"]])
        model.compile("sgd", "mse")
        return run_identity.describe([model, *model.layers])

    was = identity(source.format(2), "cell_1.py")
    again = identity("\n\n" + source.format(2), "cell_2.py")
    assert run_identity.differences(was, again) == []
    assert run_identity.differences(was, identity(source.format(3), "c.py"))


def test_weights_that_are_trained_are_no_difference_wherever_they_are_met():
    def identity(shift):
        model = zoo.regression()

        def loss(y_true, y_pred):
            return (y_true - y_pred) ** 2 + keras.ops.sum(model.weights[0])

        model.compile("sgd", loss)
        model.set_weights([w + shift for w in model.get_weights()])
        return of_model(model)

    assert run_identity.differences(identity(0.0), identity(1.0)) == []


def test_models_that_refer_to_other_variables_are_not_alike():
    def described(loss):
        model = zoo.regression()
        model.compile("sgd", loss)
        return run_identity.of_model(model)

    one, two = keras.Variable(1.0), keras.Variable(2.0)
    assert described(weighted(1.0)) == described(weighted(1.0))
    assert described(weighted(one)) != described(weighted(two))
    assert described(Forgetful(one)) != described(Forgetful(two))


def test_names_of_layers_and_initial_weights_are_no_difference():
    was = describe()
    assert run_identity.differences(was, describe(name="another")) == []


def test_a_functional_model_is_told_with_its_structure():
    def identity(skip):
        # Names are numbered on in one process, and begin anew in another.
        first = keras.Input((3,))
        hidden = layers.Dense(3)(first)
        second = layers.Dense(3)(hidden)
        both = second + (first if skip else hidden)  # no layer
        out = layers.Dense(1)(layers.Add()([both, second]))
        model = keras.Model(first, out)
        model.compile("sgd", "mse")
        return of_model(model)

    assert run_identity.differences(identity(True), identity(True)) == []
    (difference,) = run_identity.differences(identity(True), identity(False))
    assert difference.startswith("model.connections was")


def test_losses_by_the_names_of_outputs():
    def identity(loss):
        first = keras.Input((3,))
        outputs = [layers.Dense(1)(first), layers.Dense(1)(first)]
        model = keras.Model(first, outputs)
        names = [layer.name for layer in model.layers[1:]]
        model.compile("sgd", dict(zip(names, ["mse", loss], strict=True)))
        return of_model(model)

    assert run_identity.differences(identity("mse"), identity("mse")) == []
    (told,) = run_identity.differences(identity("mse"), identity("mae"))
    assert told == "compiled.loss.output 1 was mse and is now mae"


def test_a_subclassed_model_is_told_by_its_code_and_attributes():
    class Plain(keras.Model):
        def __init__(self, factor, more):
            super().__init__()
            self.dense = layers.Dense(1)
            self.factor = factor
            self.more = more

        def call(self, x):
            return self.factor * self.dense(x)

    class Other(Plain):
        def call(self, x):
            return self.dense(x) + self.factor

    def identity(cls, factor):
        model = cls(factor, more=object())  # which can't be a configuration
        model(np.zeros((1, 3), "float32"))
        model.compile("sgd", "mse")
        return of_model(model)

    was = identity(Plain, 2.0)
    assert run_identity.differences(was, identity(Plain, 2.0)) == []
    (told,) = run_identity.differences(was, identity(Plain, 3.0))
    assert "factor was 2 and is now 3" in told
    assert run_identity.differences(was, identity(Other, 2.0))


def test_an_adapted_vocabulary_is_told():
    def identity(words):
        lookup = layers.IntegerLookup(output_mode="multi_hot")
        lookup.adapt(np.array(words))
        model = keras.Sequential([keras.Input((1,), dtype="int64"), lookup])
        model.compile("sgd", "mse")
        return run_identity.describe([model, *model.layers])

    was = identity([3, 4, 4])
    assert run_identity.differences(was, identity([3, 4, 4])) == []
    (told,) = run_identity.differences(was, identity([3, 5, 5]))
    assert "vocabulary was" in told


def test_arrays_of_texts_are_told_by_the_texts():
    def describe_words(*words):
        # Made anew, so that equal texts are other objects.
        texts = ["".join(list(word)) for word in words]
        return run_identity.describe(np.array(texts, dtype=object))

    assert describe_words("one", "two") == describe_words("one", "two")
    assert describe_words("one", "two") != describe_words("one", "too")


def test_code_of_another_python_is_not_compared():
    was, now = "cpython-311 " + 16 * "a", "cpython-312 " + 16 * "b"

    def told(now):
        before, after = {"loss": {"bytecode": was}}, {"loss": {"bytecode": now}}
        return run_identity.differences(before, after)

    assert told(now) == []
    assert told("cpython-311 " + 16 * "b") == ["loss.bytecode is other code"]


def test_a_description_in_another_format_is_not_compared():
    (told,) = run_identity.differences({"seed": 0}, {"format": 2, "seed": 1})
    assert "another version of fedlearn" in told


def test_an_algorithm_and_its_schedule_are_told():
    def scaffold(population):
        return fl.algorithms.Scaffold(zoo.regression(), population=population)

    def buffered(size):
        class Buffered(fl.FederatedAveraging):
            def schedule(self, data, sampler):
                return Waiting(size)

        return Buffered(zoo.regression())

    class Waiting(Schedule):
        def __init__(self, buffer_size):
            self.buffer_size = buffer_size

        def next(self, process, state, data):
            raise NotImplementedError

    for make, told in (
        (scaffold, "algorithm.population was 3 and is now 4"),
        (buffered, "schedule.holds.buffer_size was 3 and is now 4"),
    ):
        was = of_process(make(3))
        assert run_identity.differences(was, of_process(make(3))) == []
        differences = run_identity.differences(was, of_process(make(4)))
        zoo.assert_matches(told, "; ".join(differences))


def test_a_loss_where_it_is_on_another_line_is_the_same():
    source = "def loss(y_true, y_pred):\n    return (y_true - y_pred) ** 2\n"
    told = []
    for text in (source, "\n\n# moved\n" + source):
        space: dict = {"__name__": "script"}
        exec(compile(text, "script.py", "exec"), space)
        told.append(run_identity.describe(space["loss"]))
    assert told[0] == told[1]


def test_a_resumed_run_of_another_loss_is_refused(tmp_path):
    def fit(loss, rounds):
        model = zoo.regression()
        model.compile(keras.optimizers.SGD(0.1), loss)
        process = fl.FederatedAveraging(model)
        process.fit(DATA, rounds, verbose=0, checkpoint_dir=tmp_path)
        return process

    fit("mse", 1)
    with pytest.raises(ValueError, match="loss was mse and is now mae"):
        fit("mae", 2)
    # Freshly drawn weights are no other run: it goes on from its own.
    fit("mse", 2)


def test_another_version_is_told(tmp_path, monkeypatch):
    def fit(rounds):
        process = fl.FederatedAveraging(zoo.regression())
        process.fit(DATA, rounds, verbose=0, checkpoint_dir=tmp_path)

    fit(1)
    versions = {**run_identity.versions(), "keras": "99.0"}
    monkeypatch.setattr(run_identity, "versions", lambda: versions)
    with pytest.warns(UserWarning, match=r"keras was .* and is now 99\.0"):
        fit(2)
