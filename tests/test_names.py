import doctest
import inspect
import json

import keras
import pytest

import fedlearn as fl
from fedlearn import names
from fedlearn.cli.flags import named
from fedlearn.encoders.chain import links
from fedlearn.serialization import make, serialized
from tests import zoo

NAMES = [
    (name, table)
    for table in (
        names.AGGREGATORS,
        names.ATTACKS,
        names.CLIENTS,
        names.CONDITIONS,
        names.ENCODERS,
        names.EXECUTORS,
        names.OPTIMIZERS,
        names.SAMPLERS,
    )
    for name in table
]
VALUES = {
    "fraction": 0.25,
    "high": 0.75,
    "low": 0.5,
    "value_range": 1.5,
    "norm": 3.0,
    "tau": 2.0,
    "learning_rate": 0.125,
    "proximal": 0.5,
}


def more(name, table):
    if table is names.SAMPLERS:
        return {"clients": [str(i) for i in range(9)]}
    return {"clients_per_round": 10} if name == "secure_sum" else {}


@pytest.mark.parametrize(("name", "table"), NAMES)
def test_numbers_reach_the_arguments_they_are_for(name, table):
    entry = table[name]
    values = {n: VALUES.get(n, 3) for n in (*entry.needed, *entry.more)}
    text = ":".join([name, ",".join(map(str, values.values()))]).rstrip(":")
    assert named(table).parse(text) == text
    made = make(text, table, "argument", **more(name, table))
    assert type(made).__name__ == entry.makes.split(":")[1]
    for argument, value in {**entry.options, **values}.items():
        assert getattr(made, argument) == value


@pytest.mark.parametrize(("name", "table"), NAMES)
def test_what_a_string_makes_comes_back_from_json(name, table):
    entry = table[name]
    needed = [str(VALUES.get(n, 3)) for n in entry.needed]
    text = ":".join([name, ",".join(needed)]).rstrip(":")
    made = make(text, table, "argument", **more(name, table))
    config = json.loads(json.dumps(serialized(made)))
    copy = keras.saving.deserialize_keras_object(config)
    assert json.dumps(serialized(copy)) == json.dumps(serialized(made))
    assert copy == made or isinstance(made, keras.optimizers.Optimizer)


@pytest.mark.parametrize(("name", "table"), NAMES)
def test_needed_are_those_without_a_default(name, table):
    entry = table[name]
    needed = [str(VALUES.get(n, 3)) for n in entry.needed]
    text = ":".join([name, ",".join(needed)]).rstrip(":")
    made = make(text, table, "argument", **more(name, table))
    signature = inspect.signature(type(made).__init__).parameters
    # Without a clip nothing else would set the range.
    if name != "secure_sum":
        for number in (*entry.needed, *entry.more):
            has_none = signature[number].default is inspect.Parameter.empty
            assert has_none == (number in entry.needed)


def test_several_are_a_chain():
    chain = links("rotation+uniform:2+huffman")
    names = ["HadamardRotation", "UniformQuantization", "EntropyCoding"]
    assert [type(link).__name__ for link in chain] == names
    assert chain[1].bits == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("edn", "Did you mean eden?"),
        ("eden:two", "'two' isn't a number. Expected eden[:BITS]."),
        ("eden:1,2", "'eden:1,2' has 2 numbers. Expected eden[:BITS]."),
        ("topk", "'topk' has 0 numbers. Expected topk:FRACTION."),
        ("eden:2+", "there is no ''"),
    ],
)
def test_mistakes(text, message):
    with pytest.raises(ValueError) as error:
        named(names.ENCODERS, joined=True).parse(text)
    assert message in str(error.value)


def test_only_some_may_be_joined():
    with pytest.raises(ValueError, match="there is no 'mean"):
        named(names.AGGREGATORS).parse("mean+median")


# Where an object is meant.


def test_strings_where_objects_are_meant():
    process = fl.FederatedAveraging(
        zoo.regression(),
        client="FedProx:0.5",
        server_optimizer="fedadam:0.25",
        aggregator="trimmed_mean:0.1",
        executor=fl.attacks.AttackedExecutor("sign_flip:2", ["0"]),
        broadcast_encoders="float16",
    )
    assert process.client.proximal == 0.5
    assert isinstance(process.server_optimizer, fl.optimizers.FedAdam)
    assert float(process.server_optimizer.learning_rate) == 0.25
    assert process.aggregator.fraction == 0.1
    assert process.executor.attack.scale == 2
    assert process.broadcast_encoders[0].dtype == "float16"


@pytest.mark.backend_free
def test_strings_for_encoders():
    eden = fl.encoders.Eden(2)
    assert repr(fl.aggregators.Mean(["eden:2"]).encoders) == repr((eden,))
    assert repr(fl.aggregators.Mean("eden:2")) == repr(
        fl.aggregators.Mean([eden])
    )
    private = fl.aggregators.PrivateMean(
        1.0, noise_multiplier=1.0, clients_per_round=5, encoders="eden:2"
    )
    assert repr(private.encoders[-1]) == repr(eden)
    feedback = fl.encoders.ErrorFeedback(["topk:0.1"])
    assert feedback.encoders[0].fraction == 0.1
    secure = fl.aggregators.SecureSum(
        "rotation+uniform:4", clients_per_round=5, value_range=1.0
    )
    assert secure.encoders[-1].bits == 4


@pytest.mark.backend_free
def test_examples_of_the_packages():
    for package in (
        fl.aggregators, fl.attacks, fl.clients, fl.encoders, fl.executors,
        fl.samplers,
    ):  # fmt: skip
        test = doctest.DocTestParser().get_doctest(
            package.get.__doc__, vars(package), package.__name__, None, None
        )
        assert doctest.DocTestRunner().run(test) == (0, 1)


@pytest.mark.backend_free
def test_an_object_is_itself():
    for get, thing in (
        (fl.aggregators.get, fl.aggregators.Median()),
        (fl.attacks.get, fl.attacks.SignFlip()),
        (fl.clients.get, fl.LocalTraining()),
        (fl.encoders.get, fl.encoders.Drive()),
        (fl.optimizers.get, fl.optimizers.Yogi()),
    ):
        assert get(thing) is thing


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("get", "given", "error", "match"),
    [
        (
            fl.aggregators.get,
            "meidan",
            ValueError,
            r"`aggregator`: there is no 'meidan'. Expected mean, median, "
            r".* Did you mean median\?",
        ),
        (fl.executors.get, "vectorised", ValueError, "Did you mean vectorized"),
        (fl.executors.get, fl.executors.Auto, TypeError, r"Auto\(\.\.\.\)"),
        (fl.samplers.get, "poison:3", ValueError, "Did you mean poisson?"),
        (fl.aggregators.get, "krum", ValueError, "Expected krum:NUM_BYZ"),
        (
            fl.aggregators.get,
            "secure_sum:1.5",
            ValueError,
            r"needs clients_per_round too\. Give the object: "
            r"SecureSum\(value_range=1\.5, clients_per_round=\.\.\.\)",
        ),
        (
            fl.aggregators.get,
            fl.aggregators.Median,
            TypeError,
            r"Make an instance of it: Median\(\.\.\.\)",
        ),
        (fl.aggregators.get, 3, TypeError, "`aggregator` must be a fedlearn"),
        (fl.encoders.get, "eden+eden", ValueError, "there is no 'eden"),
        (fl.optimizers.get, "adam:fast", ValueError, "'fast' isn't a number"),
        (fl.optimizers.get, "fedadm:1", ValueError, "Did you mean fedadam?"),
        (fl.clients.get, "fedprx", ValueError, "Did you mean fedprox?"),
    ],
)
def test_what_stands_for_nothing(get, given, error, match):
    with pytest.raises(error, match=match):
        get(given)


@pytest.mark.backend_free
def test_what_goes_with_a_name_only():
    assert fl.clients.get("fedprox", epochs=3).epochs == 3
    with pytest.raises(TypeError, match="Received the object itself"):
        fl.clients.get(fl.LocalTraining(), epochs=3)


@pytest.mark.backend_free
def test_optimizers_of_keras_are_found_as_keras_finds_them():
    config = {"class_name": "Adam", "config": {"learning_rate": 0.5}}
    assert float(fl.optimizers.get(config).learning_rate) == 0.5
    assert type(fl.optimizers.get("Ftrl")).__name__ == "Ftrl"
