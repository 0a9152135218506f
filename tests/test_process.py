import inspect

import keras
import numpy as np
import pytest
from keras import ops

import fedlearn as fl
from fedlearn.messages import wire
from fedlearn.messages.update import StackedUpdate, Update
from tests import zoo

SIZES = (8, 16, 8)


@pytest.fixture(scope="module")
def process():
    return zoo.classifier_process()


@pytest.fixture(scope="module")
def cohort():
    return zoo.clients(SIZES)


def with_nan(data):
    x, y = data
    x = x.copy()
    x[0, 0] = np.nan
    return x, y


def test_a_client_with_nan_is_left_out_and_counted(process, cohort):
    state = process.initialize()
    data = {i: cohort[i] for i in cohort.client_ids}
    expected, expected_metrics = process.next(
        state, cohort.select(cohort.client_ids[:2])
    )
    data["client_2"] = with_nan(data["client_2"])
    after, metrics = process.next(state, data)
    zoo.assert_close(
        zoo.weights_in(process, after), zoo.weights_in(process, expected)
    )
    assert metrics["num_rejected"] == 1
    assert metrics["num_clients"] == 2
    assert metrics["num_examples"] == 24
    assert metrics["loss"] == pytest.approx(expected_metrics["loss"])
    # It was sent the weights, and sent an update back.
    assert metrics["bytes_up"] == 3 / 2 * expected_metrics["bytes_up"]


def test_where_all_are_left_out_the_weights_stay(process, cohort):
    state = process.initialize()
    bad = [with_nan(cohort[i]) for i in cohort.client_ids]
    after, metrics = process.next(state, bad)
    zoo.assert_equal(after.trainable, state.trainable)
    zoo.assert_equal(after.non_trainable, state.non_trainable)
    assert metrics["num_rejected"] == 3
    assert metrics["num_clients"] == metrics["num_examples"] == 0
    assert after.round_num == 1


def test_a_client_without_examples_takes_part_with_weight_zero(process, cohort):
    state = process.initialize()
    expected, expected_metrics = process.next(state, cohort)
    empty = zoo.points(0)
    data = {i: cohort[i] for i in cohort.client_ids} | {"empty": empty}
    after, metrics = process.next(state, data)
    zoo.assert_close(
        zoo.weights_in(process, after), zoo.weights_in(process, expected)
    )
    assert metrics["num_clients"] == 4
    assert metrics["num_rejected"] == 0
    for name in ("loss", "accuracy", "num_examples"):
        assert metrics[name] == pytest.approx(expected_metrics[name])


@pytest.mark.parametrize("executor", ["sequential", "vectorized"])
def test_the_first_client_may_be_without_examples(executor):
    # Before any client with examples has told which metrics there are.
    process = fl.FederatedAveraging(
        zoo.regression(),
        client=fl.LocalTraining(batch_size=4, shuffle=False),
        executor=executor,
    )
    state = process.initialize()
    nothing = ([], [])  # which doesn't say of which shapes
    after, metrics = process.next(state, [nothing, zoo.line(8), nothing])
    known = zoo.regression_process()
    expected, _ = known.next(known.initialize(), [zoo.line(8)])
    zoo.assert_close(zoo.numpy(after.trainable), zoo.numpy(expected.trainable))
    assert metrics["num_clients"] == 3
    assert metrics["loss"] > 0


def test_only_clients_without_examples(process):
    state = process.initialize()
    after, metrics = process.next(state, [zoo.points(0), zoo.points(0)])
    zoo.assert_equal(after.trainable, state.trainable)
    assert metrics["num_clients"] == 2
    assert metrics["num_examples"] == 0
    assert metrics["num_rejected"] == 0


def test_the_ways_to_give_clients_are_equal(process, cohort):
    state = process.initialize()
    arrays = [cohort[i] for i in cohort.client_ids]
    by_position = {str(i): data for i, data in enumerate(arrays)}
    one = process.next(state, arrays)
    zoo.assert_equal(process.next(state, by_position), one)
    dataset = fl.FederatedDataset.from_clients(by_position)
    zoo.assert_equal(process.next(state, dataset), one)
    with_weights = [(*data, None) for data in arrays]
    zoo.assert_equal(process.next(state, with_weights), one)
    as_lists = [list(data) for data in arrays]
    zoo.assert_equal(process.next(state, as_lists), one)


@pytest.mark.backend_free
def test_tf_data_sets_equal_arrays(process, cohort):
    tf = pytest.importorskip("tensorflow")
    state = process.initialize()
    arrays = [cohort[i] for i in cohort.client_ids]
    expected = process.next(state, arrays)
    examples = [tf.data.Dataset.from_tensor_slices(data) for data in arrays]
    zoo.assert_equal(process.next(state, examples), expected)
    batches = [dataset.batch(5) for dataset in examples]
    zoo.assert_equal(process.next(state, batches), expected)


def test_metrics_are_floats_and_counts(process, cohort):
    _, metrics = process.next(process.initialize(), cohort)
    assert all(type(value) is float for value in metrics.values())
    assert set(metrics) == {
        "loss",
        "accuracy",
        "num_clients",
        "num_examples",
        "num_rejected",
        "bytes_up",
        "bytes_down",
    }
    assert metrics["num_clients"] == 3
    assert metrics["num_examples"] == sum(SIZES)


def test_bytes_are_those_of_encoded_messages(process, cohort):
    state = process.initialize()
    broadcast = process.broadcast(state)
    down = len(wire.pack(broadcast.sent))
    message, _ = process.client_message(broadcast, cohort["client_0"], 1)
    up = len(wire.pack(message))
    _, measured = process.next(state, cohort)
    assert measured["bytes_down"] == 3 * down
    assert measured["bytes_up"] == 3 * up
    # Weights and statistics of four bytes each, and not much besides.
    weights = sum(a.nbytes for a in zoo.weights_in(process, state))
    assert weights < down < weights + 400
    assert weights < up < weights + 400


def test_the_seed_sets_the_order_of_examples(process, cohort):
    def update(seed):
        state, _ = process.next(process.initialize(seed), cohort)
        return zoo.weights_in(process, state)

    one, same, other = update(0), update(0), update(2**63 - 1)
    zoo.assert_equal(same, one)
    assert np.abs(other[0] - one[0]).max() > 1e-4


def test_seeds_of_clients_differ(process):
    def seed(run=0, round_num=0, client="a"):
        state = process.initialize(run)
        state = state._replace(round_num=np.asarray(round_num))
        return process.client_seed(state, client)

    seeds = [seed(), seed(run=1), seed(round_num=1), seed(client="b")]
    assert len(set(seeds)) == 4
    assert seed() == seeds[0]


def test_a_state_is_a_pytree_of_arrays(process):
    state = process.initialize(seed=5)
    leaves = keras.tree.flatten(state)
    assert all(hasattr(leaf, "shape") for leaf in leaves)
    assert state.round_num.dtype == state.seed.dtype == np.int64
    assert (state.round_num, state.seed) == (0, 5)
    zoo.assert_equal(
        zoo.weights_in(process, state),
        zoo.weights_of(process.functional_model.model),
    )


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_out_of_range(process, seed):
    with pytest.raises(ValueError, match=r"\[0, 2\*\*63\)"):
        process.initialize(seed)


def test_initial_weights_are_those_at_construction():
    model = zoo.regression()
    process = fl.FederatedAveraging(model)
    before = zoo.weights_of(model)
    zoo.set_weights(model, seed=1)
    zoo.assert_equal(zoo.weights_in(process, process.initialize()), before)


def test_get_model_is_a_compiled_copy(process, cohort):
    state, _ = process.next(process.initialize(), cohort)
    model = process.get_model(state)
    assert model is not process.functional_model.model
    assert model.compiled
    zoo.assert_equal(zoo.weights_of(model), zoo.weights_in(process, state))
    x, y = cohort.pooled()
    expected = model.evaluate(x, y, verbose=0, return_dict=True)
    zoo.assert_same_metrics(process.evaluate(state, cohort), expected)


@pytest.mark.parametrize(
    ("clients", "error", "match"),
    [
        ([], ValueError, r"at least one client.*empty"),
        ({}, ValueError, "at least one client"),
        (zoo.points(8), TypeError, r"put it in a list: `\[\(x, y\)\]`"),
        (3, TypeError, "type int"),
        (
            {"a": {"pixels": np.ones((2, 4)), "label": np.ones(2)}},
            ValueError,
            r"'a'.*\['label', 'pixels'\]. Expected \(x, y\).*dataset\.map",
        ),
        (
            {"a": (np.ones((2, 4)), np.ones(3, "int32"))},
            ValueError,
            r"'a'.*different numbers of examples: x has 2, y has 3",
        ),
        (
            {"a": (np.ones((2, 5)), np.ones(2, "int32"))},
            ValueError,
            r"(?s)inputs of client 'a'.*\(2, 5\).*\(None, 4\)",
        ),
        (
            {"a": (np.array([[None] * 4]), np.ones(1, "int32"))},
            ValueError,
            r"'a': x is an array of Python objects",
        ),
        (
            {"a": (np.ones((1, 4)), np.array(["cat"]))},
            ValueError,
            r"'a': y holds text",
        ),
        (
            {"a": (None, np.ones(2, "int32"))},
            ValueError,
            r"'a': x is a NoneType",
        ),
        (
            {"a": (np.ones((2, 4)), np.array([0, 3]))},
            ValueError,
            r"labels of client 'a' lie between 0 and 3.*3 classes",
        ),
    ],
    ids=lambda value: None,
)
def test_clients_that_are_refused(process, clients, error, match):
    with pytest.raises(error, match=match):
        process.next(process.initialize(), clients)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"client": 3}, TypeError, "`client` must be a fedlearn.LocalTraining"),
        (
            {"client": fl.LocalTraining},
            TypeError,
            "`client` must be a fedlearn",
        ),
        ({"aggregator": 3}, TypeError, "`aggregator` must be"),
        ({"aggregator": "maen"}, ValueError, "Did you mean mean?"),
        ({"executor": "fast"}, ValueError, r"there is no 'fast'.*sequential"),
        (
            {"executor": fl.executors.Sequential},
            TypeError,
            "Make an instance of it",
        ),
        (
            {"server_optimizer": "sdg"},
            ValueError,
            r"`server_optimizer`: there is no 'sdg'.*Did you mean sgd",
        ),
    ],
    ids=lambda value: None,
)
def test_arguments_that_are_refused(arguments, error, match):
    with pytest.raises(error, match=match):
        fl.FederatedAveraging(zoo.regression(), **arguments)


def test_stacked_updates_join_along_a_new_axis():
    def update(*values):
        array = ops.convert_to_tensor(np.array(values, "float32"))
        return StackedUpdate([array], [ops.sum(array)], 1, 2, 0)

    total = sum([update(1), update(2), update(3, 4)])
    assert zoo.numpy(total.summand)[0].tolist() == [1, 2, 3, 4]
    assert zoo.numpy(total.metrics)[0] == 10
    assert total.sums[2:] == (3, 6, 0)


def test_updates_are_not_added_to_anything_else():
    update = Update([1.0], [], 1, 1, 0)
    assert sum([update, update]).num_clients == 2
    with pytest.raises(TypeError):
        3 + update


# Texts.


def test_help_is_the_real_text():
    """Each argument of each public method is explained where it is met."""
    for name, method in inspect.getmembers(
        fl.LearningProcess, inspect.isfunction
    ):
        if name.startswith("_"):
            continue
        text = inspect.getdoc(method)
        assert "See `fedlearn" not in text, name
        assert "See fedlearn" not in text, name
        for argument in list(inspect.signature(method).parameters)[1:]:
            found = f"{argument}:" in text or f"`{argument}`" in text
            assert found or len(text.splitlines()) == 1, (name, argument)


def test_evaluate_takes_the_last_state():
    process = fl.FederatedAveraging(zoo.regression())
    test = [zoo.line(8)]
    with pytest.raises(ValueError, match="There is no state yet"):
        process.evaluate(test)
    with pytest.raises(ValueError, match="There is no state yet"):
        process.get_model()
    process.fit([zoo.line(12)], 1, verbose=0)
    expected = process.evaluate(process.state, test)
    assert process.evaluate(test) == expected
    assert process.evaluate(clients=test) == expected
    fresh = process.initialize()
    assert process.evaluate(fresh, test) != expected
    several = process.evaluate(test, per_client=True)
    assert several["loss"] == expected["loss"]
    zoo.assert_equal(
        zoo.weights_of(process.get_model()), zoo.numpy(process.state.trainable)
    )


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((), "got no clients"),
        (([zoo.line(8)], True), "given by name"),
        ((zoo.line(8)[0], zoo.line(8)[1]), "`state` must be a ServerState"),
    ],
)
def test_evaluate_of_what_is_no_state(arguments, match):
    with pytest.raises(TypeError, match=match):
        zoo.regression_process().evaluate(*arguments)


def test_things_print_as_what_they_are():
    process = fl.FederatedAveraging(
        zoo.regression(keras.optimizers.SGD(0.1)),
        client=fl.LocalTraining("adam", epochs=2, batch_size=8),
        aggregator="krum:1",
        executor=fl.attacks.AttackedExecutor("scaling:10", ["a", "b"]),
    )
    name = process.model.name
    text = repr(process)
    assert text == (
        f"<FederatedAveraging of Sequential {name!r} (4 parameters): "
        "client=LocalTraining(optimizer=Adam(learning_rate=0.001), "
        "batch_size=8, epochs=2), server_optimizer=SGD(learning_rate=1.0), "
        "aggregator=Krum(num_byzantine=1), executor=AttackedExecutor("
        "Scaling(factor=10), 2 malicious, executor=Auto())>"
    )
    assert repr(fl.LocalTraining()) == "LocalTraining()"
    assert repr(fl.attacks.LittleIsEnough()) == "LittleIsEnough()"
    private = fl.aggregators.PrivateMean(
        0.5, noise_multiplier=1.0, clients_per_round=5, encoders="eden:2"
    )
    assert repr(private) == (
        "PrivateMean(clip_norm=0.5, noise_multiplier=1.0, "
        "clients_per_round=5, encoders=(Eden(bits=2),))"
    )
