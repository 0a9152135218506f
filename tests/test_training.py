import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn.runs.checkpoint import Checkpoint
from tests import zoo

DATA = zoo.clients((8, 4, 12, 8, 4), make=zoo.line)
TEST = zoo.line(20, seed=9)


@pytest.fixture(scope="module")
def process():
    return zoo.regression_process()


def fit(process, rounds=4, **kwargs):
    kwargs.setdefault("clients_per_round", 2)
    kwargs.setdefault("verbose", 0)
    # The tests share a process, and each begins afresh.
    if "initial_state" not in kwargs:
        seed = kwargs.get("seed") or 0
        kwargs["initial_state"] = process.initialize(seed)
    return process.fit(DATA, rounds, **kwargs).history


@pytest.fixture(scope="module")
def unbroken(process):
    """History and state of six rounds."""
    history = fit(process, 6, validation_data=TEST)
    return history, process.state


def mean_squared_error(process, state):
    kernel, bias = zoo.numpy(state.trainable)
    return np.mean((TEST[0] @ kernel + bias - TEST[1]) ** 2)


def test_fit_is_rounds_of_next(process, unbroken):
    history, state = unbroken
    sampler = fl.samplers.Uniform(DATA, 2, seed=0)
    expected = process.initialize(seed=0)
    for round_num in range(6):
        cohort = DATA.select(sampler.sample(round_num))
        expected, metrics = process.next(expected, cohort)
        for name, value in metrics.items():
            assert history[name][round_num] == value
        assert history["val_loss"][round_num] == pytest.approx(
            mean_squared_error(process, expected), rel=1e-5
        )
    zoo.assert_equal(state, expected)
    assert set(history) == {*metrics, "val_loss"}


def test_afterwards_the_model_holds_the_weights(process):
    fresh = process.initialize()
    history = process.fit(DATA, 2, verbose=0, initial_state=fresh)
    assert isinstance(history, keras.callbacks.History)
    assert history.epoch == [0, 1]
    assert process.state.round_num == 2
    assert process.model is process.functional_model.model
    zoo.assert_equal(
        zoo.weights_of(process.model), zoo.numpy(process.state.trainable)
    )
    # Without clients_per_round everyone takes part.
    assert history.history["num_clients"] == [5, 5]
    assert process.model.history is history


def test_a_run_starts_afresh(process, unbroken):
    history, state = unbroken
    assert fit(process, 6, validation_data=TEST) == history
    zoo.assert_equal(process.state, state)


def test_another_seed_is_another_run(process, unbroken):
    other = fit(process, 2, seed=1)
    assert other["loss"] != unbroken[0]["loss"][:2]


def test_an_initial_state_is_continued_exactly(process, unbroken):
    history, state = unbroken
    first = fit(process, 2)
    second = fit(process, 4, initial_state=process.state)
    assert first["loss"] + second["loss"] == history["loss"]
    zoo.assert_equal(process.state, state)


# A second fit.


def second_fits():
    """Processes of which each keeps something else from round to round."""

    def process(**kwargs):
        return fl.FederatedAveraging(
            zoo.regression(),
            client=fl.LocalTraining(batch_size=4),
            executor="sequential",
            **kwargs,
        )

    feedback = fl.encoders.ErrorFeedback([fl.encoders.TopK(0.5)])
    return {
        "adaptive server": lambda: process(
            server_optimizer=keras.optimizers.Adam(0.1, epsilon=1e-3)
        ),
        "state of clients": lambda: process(
            aggregator=fl.aggregators.Mean([feedback])
        ),
        "adaptive clipping and noise": lambda: process(
            aggregator=fl.aggregators.PrivateMean(
                noise_multiplier=1.0, clients_per_round=5
            )
        ),
    }


@pytest.mark.parametrize("kind", second_fits())
def test_a_second_fit_goes_on(kind):
    def fit(process, rounds):
        clients = None if "noise" in kind else 2
        return process.fit(
            DATA, rounds, clients, validation_data=TEST, verbose=0
        )

    whole, parts = second_fits()[kind](), second_fits()[kind]()
    expected = fit(whole, 5)
    first = fit(parts, 3)
    zoo.assert_equal(
        zoo.weights_of(parts.model), zoo.numpy(parts.state.trainable)
    )
    second = fit(parts, 2)
    assert (first.epoch, second.epoch) == ([0, 1, 2], [3, 4])
    for name, values in expected.history.items():
        assert first.history[name] + second.history[name] == values
    zoo.assert_equal(parts.state, whole.state)
    if "noise" in kind:  # one statement about all rounds
        assert second.privacy == expected.privacy
        assert second.privacy.rounds == 5


def test_callbacks_get_the_number_of_the_round(process):
    seen = []
    see = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(epoch)
    )
    rate = keras.callbacks.LearningRateScheduler(lambda epoch: 1 / (epoch + 1))
    fit(process, 2, callbacks=[see, rate])
    second = fit(process, 2, initial_state=process.state, callbacks=[see, rate])
    assert seen == [0, 1, 2, 3]
    assert second["learning_rate"] == pytest.approx([1 / 3, 1 / 4])
    assert see.params["epochs"] == 4


def test_early_stopping_ends_one_fit_and_not_the_next(process):
    stop = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(
            stop.model, "stop_training", True
        )
    )
    assert len(fit(process, 4, callbacks=[stop])["loss"]) == 1
    history = process.fit(DATA, 2, clients_per_round=2, verbose=0)
    assert history.epoch == [1, 2]


def test_after_ctrl_c_a_fit_goes_on(process, unbroken):
    history, state = unbroken
    interrupt = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: (
            (_ for _ in ()).throw(KeyboardInterrupt()) if epoch == 2 else None
        )
    )
    with pytest.raises(KeyboardInterrupt):
        fit(process, 6, callbacks=[interrupt])
    rest = process.fit(DATA, 4, clients_per_round=2, verbose=0)
    assert rest.history["loss"] == history["loss"][2:]
    zoo.assert_equal(process.state, state)


def test_weights_that_the_user_sets_are_trained_on_from(process):
    fit(process, 2)
    moved = [w + 1 for w in zoo.weights_of(process.model)]
    process.model.set_weights(moved)
    expected = process.state._replace(
        trainable=[keras.ops.convert_to_tensor(w) for w in moved]
    )
    process.fit(DATA, 2, clients_per_round=2, verbose=0)
    after = process.state
    fit(process, 2, initial_state=expected)
    zoo.assert_equal(after, process.state)


def test_processes_that_share_a_model_keep_their_own_weights():
    model = zoo.regression()
    client = fl.LocalTraining(batch_size=4)
    one, other = (
        fl.FederatedAveraging(model, client, server_optimizer=optimizer)
        for optimizer in (None, keras.optimizers.Adam(0.1))
    )
    for process in (one, other, one, other):
        process.fit(DATA, 1, verbose=0)
    turns = one.state, other.state
    for process, state in zip((one, other), turns, strict=True):
        process.fit(DATA, 2, verbose=0, initial_state=process.initialize())
        zoo.assert_equal(process.state, state)


def test_a_run_that_goes_on_has_one_seed(process, unbroken):
    fit(process, 1, seed=3)
    with pytest.raises(ValueError, match=r"seed=0, but .* has the seed 3"):
        process.fit(DATA, 1, verbose=0, seed=0)
    process.fit(DATA, 1, clients_per_round=2, verbose=0)
    after = process.state
    fit(process, 2, seed=3)
    zoo.assert_equal(after, process.state)


@pytest.mark.backend_free
def test_a_private_second_fit_of_other_clients_is_no_sum():
    process = second_fits()["adaptive clipping and noise"]()
    process.fit(DATA, 1, verbose=0)
    fewer = zoo.clients((8, 4, 12, 8, 8), make=zoo.line)
    fewer = fl.FederatedDataset.from_clients({f"x{i}": fewer[i] for i in fewer})
    with pytest.raises(ValueError, match="had other clients than this `fit`"):
        process.fit(fewer, 1, verbose=0)
    history = process.fit(
        fewer, 1, verbose=0, initial_state=process.state
    )  # said explicitly
    assert history.privacy.rounds == 2


def test_a_folder_counts_rounds_from_the_beginning(process, tmp_path):
    fresh = process.initialize()
    for rounds, epochs in ((2, 2), (5, 5), (5, 5)):
        history = process.fit(
            DATA,
            rounds,
            clients_per_round=2,
            verbose=0,
            checkpoint_dir=tmp_path,
            initial_state=fresh,
        )
        assert len(history.history["loss"]) == epochs
    state = process.state
    fit(process, 5)
    zoo.assert_equal(process.state, state)
    # An empty one: the process's own run goes on, up to that round.
    fit(process, 3)
    history = process.fit(
        DATA,
        5,
        clients_per_round=2,
        verbose=0,
        checkpoint_dir=tmp_path / "new",
    )
    assert history.epoch == [3, 4]
    zoo.assert_equal(process.state, state)
    # And from there again: of the rounds before, the folder knows nothing.
    history = process.fit(
        DATA,
        6,
        clients_per_round=2,
        verbose=0,
        checkpoint_dir=tmp_path / "new",
    )
    assert history.epoch == [3, 4, 5]
    assert len(history.history["loss"]) == 3
    zoo.assert_equal(process.state.round_num, np.asarray(6))
    process.state = state
    with pytest.raises(ValueError, match="already at round 5, past rounds=4"):
        process.fit(DATA, 4, verbose=0, checkpoint_dir=tmp_path / "other")


@pytest.mark.parametrize(
    "validation",
    [TEST, [TEST], {"a": TEST}, zoo.clients((4, 8), make=zoo.line)],
    ids=["tuple", "list", "dict", "dataset"],
)
def test_kinds_of_validation_data(process, validation):
    history = fit(process, 1, validation_data=validation)
    if isinstance(validation, tuple):
        validation = [validation]
    # Few clients are evaluated one by one, so that each is known.
    several = len(validation) > 1
    expected = process.evaluate(process.state, validation, per_client=several)[
        "loss"
    ]
    assert history["val_loss"] == [expected]


@pytest.mark.backend_free
def test_validation_data_as_tf_data(process):
    tf = pytest.importorskip("tensorflow")
    dataset = tf.data.Dataset.from_tensor_slices(TEST)
    history = fit(process, 1, validation_data=dataset)
    expected = process.evaluate(process.state, [TEST])["loss"]
    assert history["val_loss"] == [expected]


@pytest.mark.parametrize(
    ("frequency", "rounds"), [(1, [1, 2, 3, 4]), (3, [3]), ([1, 4], [1, 4])]
)
def test_validation_freq(process, unbroken, frequency, rounds):
    history = fit(process, validation_data=TEST, validation_freq=frequency)
    expected = [unbroken[0]["val_loss"][r - 1] for r in rounds]
    assert history["val_loss"] == expected


def test_data_as_a_list_or_a_dict(process):
    arrays = [DATA[i] for i in DATA.client_ids[:3]]
    by_id = {str(i): data for i, data in enumerate(arrays)}
    one, other = (
        process.fit(
            data,
            2,
            clients_per_round=2,
            verbose=0,
            initial_state=process.initialize(),
        ).history
        for data in (arrays, by_id)
    )
    assert one == other


def test_a_poisson_round_may_be_empty(process):
    sampler = fl.samplers.Poisson(DATA, 1, seed=3)
    drawn = [len(sampler.sample(i)) for i in range(6)]
    assert 0 in drawn
    states = []
    history = fit(
        process,
        6,
        sampler=sampler,
        clients_per_round=None,
        callbacks=[
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: states.append(process.state)
            ),
            keras.callbacks.TerminateOnNaN(),
            keras.callbacks.EarlyStopping("loss", patience=6),
        ],
    )
    assert history["num_clients"] == drawn
    # An entry a round, as an epoch has one: nobody's loss isn't a number.
    assert np.isnan(history["loss"]).tolist() == [n == 0 for n in drawn]
    counts = [int(zoo.numpy(s.optimizer)[0]) for s in states]
    assert counts == np.cumsum(np.sign(drawn)).tolist()
    empty = drawn.index(0)
    assert history["bytes_up"][empty] == history["bytes_down"][empty] == 0
    assert [int(s.round_num) for s in states] == [1, 2, 3, 4, 5, 6]
    before = states[empty - 1] if empty else process.initialize()
    zoo.assert_equal(states[empty].trainable, before.trainable)


@pytest.mark.backend_free
def test_a_rule_without_a_sum_has_empty_rounds_too():
    sampler = fl.samplers.Poisson(DATA, 1, seed=3)
    drawn = [len(sampler.sample(i)) for i in range(6)]
    assert 0 in drawn
    process = fl.FederatedAveraging(
        zoo.regression(),
        aggregator="median",
        server_optimizer=keras.optimizers.SGD(1.0, momentum=0.5),
    )
    known = fl.FederatedAveraging(zoo.regression(), aggregator="median")
    state = process.initialize()
    history = process.fit(DATA, 6, sampler=sampler, verbose=0).history
    assert history["num_clients"] == drawn
    assert history["num_aggregated"] == drawn
    # By hand: without an aggregate the server stays as it is.
    assert int(zoo.numpy(process.state.optimizer)[0]) == 6 - drawn.count(0)
    velocity = [np.zeros(v.shape) for v in zoo.numpy(state.trainable)]
    for i, number in enumerate(drawn):
        if not number:
            state = state._replace(round_num=state.round_num + 1)
            continue
        clients = {k: DATA[k] for k in sampler.sample(i)}
        start = state._replace(
            optimizer=known.initialize().optimizer,
            aggregator=known.initialize().aggregator,
        )
        after, _ = known.next(start, clients)
        change = [
            a - b
            for a, b in zip(
                zoo.numpy(after.trainable),
                zoo.numpy(state.trainable),
                strict=True,
            )
        ]
        velocity = [0.5 * v + c for v, c in zip(velocity, change, strict=True)]
        moved = [
            (w + v).astype("float32")
            for w, v in zip(zoo.numpy(state.trainable), velocity, strict=True)
        ]
        state = state._replace(
            trainable=[keras.ops.convert_to_tensor(w) for w in moved],
            round_num=state.round_num + 1,
        )
    for mine, found in zip(
        moved, zoo.numpy(process.state.trainable), strict=True
    ):
        np.testing.assert_allclose(found, mine, rtol=1e-4, atol=1e-6)


def test_where_all_clients_are_left_out_there_is_one_warning(process):
    x, y = zoo.line(8)
    bad = [(np.full_like(x, np.nan), y)] * 2
    text = "no client's update was finite"
    fresh = process.initialize()
    with pytest.warns(UserWarning, match=text) as caught:
        history = process.fit(bad, 3, verbose=0, initial_state=fresh).history
    assert sum(text in str(warning.message) for warning in caught) == 1
    assert history["num_rejected"] == [2, 2, 2]
    zoo.assert_equal(process.state.trainable, process.initialize().trainable)


# Callbacks.


def test_early_stopping_restores_the_best_round(process):
    # With a large rate of the server the loss falls at first, then rises.
    states = []
    stopping = keras.callbacks.EarlyStopping(
        monitor="score", mode="max", patience=2, restore_best_weights=True
    )

    def score(epoch, logs):
        logs["score"] = [0.1, 0.5, 0.9, 0.2, 0.3, 0.95][epoch]
        states.append(process.state)

    history = fit(
        process,
        6,
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_end=score),
            stopping,
        ],
    )
    assert history["score"] == [0.1, 0.5, 0.9, 0.2, 0.3]
    assert stopping.stopped_epoch == 4
    zoo.assert_equal(process.state.trainable, states[2].trainable)
    zoo.assert_equal(
        zoo.weights_of(process.model), zoo.numpy(states[2].trainable)
    )


def test_stop_training_is_honoured(process):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    assert len(fit(process, 5, callbacks=[Stop()])["loss"]) == 2
    # And the next run is not stopped by it.
    assert len(fit(process, 3)["loss"]) == 3


@pytest.mark.backend_free
def test_model_checkpoint_writes_what_the_user_compiled(process, tmp_path):
    states = []
    fit(
        process,
        2,
        callbacks=[
            keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras"),
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: states.append(process.state)
            ),
        ],
    )
    assert sorted(os.listdir(tmp_path)) == ["1.keras", "2.keras"]
    for number, state in enumerate(states, 1):
        model = keras.models.load_model(tmp_path / f"{number}.keras")
        zoo.assert_equal(zoo.weights_of(model), zoo.numpy(state.trainable))
    # The clients' optimizer, not the server's.
    assert model.optimizer.get_config()["learning_rate"] == pytest.approx(0.1)
    assert model.loss == "mse"


@pytest.mark.backend_free
def test_model_checkpoint_keeps_the_best(process, tmp_path):
    path = tmp_path / "best.keras"
    history = fit(
        process,
        4,
        validation_data=TEST,
        callbacks=[
            keras.callbacks.ModelCheckpoint(
                path, monitor="val_loss", save_best_only=True
            )
        ],
    )
    model = keras.models.load_model(path)
    model.run_eagerly = True
    assert model.evaluate(*TEST, verbose=0) == pytest.approx(
        min(history["val_loss"]), rel=1e-5
    )


@pytest.mark.backend_free
def test_csv_logger(process, tmp_path):
    path = tmp_path / "log.csv"
    history = fit(process, 3, callbacks=[keras.callbacks.CSVLogger(path)])
    header, *rows = path.read_text().splitlines()
    names = header.split(",")
    assert names[0] == "epoch"
    assert [row.split(",")[0] for row in rows] == ["0", "1", "2"]
    column = names.index("loss")
    assert [float(row.split(",")[column]) for row in rows] == history["loss"]


@pytest.mark.backend_free
def test_tensorboard(process, tmp_path):
    pytest.importorskip("tensorboard")
    fit(
        process,
        2,
        validation_data=TEST,
        callbacks=[keras.callbacks.TensorBoard(tmp_path)],
    )
    for part, tag in (("train", b"epoch_loss"), ("validation", b"epoch_loss")):
        (path,) = (tmp_path / part).glob("events.*")
        assert path.read_bytes().count(tag) == 2


def test_a_learning_rate_scheduler_sets_the_servers_rate(process):
    rates = []
    history = fit(
        process,
        3,
        callbacks=[
            keras.callbacks.LearningRateScheduler(
                lambda epoch, rate: rates.append(rate) or 1.0 / (epoch + 1)
            )
        ],
    )
    expected = [1.0, 0.5, 1 / 3]
    assert history["learning_rate"] == pytest.approx(expected)
    assert rates == pytest.approx([1.0, 1.0, 0.5])
    # It took part in the rounds: by hand.
    sampler = fl.samplers.Uniform(DATA, 2, seed=0)
    state = process.initialize()
    for round_num, rate in enumerate(expected):
        cohort = DATA.select(sampler.sample(round_num))
        after, _ = process.next(state, cohort)
        moved = [
            b + rate * (a - b)
            for a, b in zip(
                zoo.numpy(after.trainable),
                zoo.numpy(state.trainable),
                strict=True,
            )
        ]
        state = after._replace(
            trainable=[keras.ops.convert_to_tensor(w) for w in moved]
        )
    zoo.assert_close(zoo.numpy(process.state.trainable), moved)
    # It stays in the state, and the server's optimizer isn't changed.
    found = [float(v) for v in zoo.numpy(process.state.optimizer)]
    assert pytest.approx(1 / 3) in found
    assert float(process.server_optimizer.learning_rate) == 1.0
    # The next run begins with the rate that was given.
    assert fit(process, 3)["loss"][0] == history["loss"][0]


def test_reduce_lr_on_plateau(process):
    history = fit(
        process,
        4,
        callbacks=[
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: logs.update(flat=1.0)
            ),
            keras.callbacks.ReduceLROnPlateau(
                monitor="flat", mode="min", factor=0.5, patience=2
            ),
        ],
    )
    assert history["learning_rate"] == [1.0, 1.0, 1.0, 0.5]
    assert 0.5 in [float(v) for v in zoo.numpy(process.state.optimizer)]


def test_terminate_on_nan(process, capsys):
    x, y = zoo.line(8)
    data = [(x, y), (x, np.where(y > 0, np.inf, y).astype("float32"))]

    class Poison(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.seen = logs["loss"]

    poison = Poison()
    with pytest.warns(UserWarning, match="no client's update was finite"):
        process.fit(data[1:], 1, verbose=0, callbacks=[poison])
    assert poison.seen == 0  # nobody is left of whom to report a loss

    class Lie(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            logs["loss"] = float("nan")

    history = fit(
        process, 3, callbacks=[Lie(), keras.callbacks.TerminateOnNaN()]
    )
    assert len(history["loss"]) == 1


@pytest.mark.backend_free
def test_the_order_of_the_hooks_is_that_of_fit(process):
    called = []

    class Log(keras.callbacks.Callback):
        pass

    hooks = (
        "on_train_begin",
        "on_epoch_begin",
        "on_train_batch_begin",
        "on_train_batch_end",
        "on_epoch_end",
        "on_train_end",
    )
    for hook in hooks:
        setattr(Log, hook, lambda self, *a, hook=hook, **k: called.append(hook))
    log = Log()
    fit(process, 2, callbacks=[log])
    assert called == [hooks[0], *hooks[1:5], *hooks[1:5], hooks[5]]
    assert log.params["epochs"] == 2


def test_a_callback_sees_the_model_with_the_rounds_weights(process):
    seen = []

    class See(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            assert isinstance(self.model, keras.Model)
            seen.append((zoo.weights_of(self.model), process.state))
            y = self.model.predict(TEST[0], verbose=0)
            kernel, bias = zoo.numpy(process.state.trainable)
            zoo.assert_close([y], [TEST[0] @ kernel + bias], atol=1e-5)

    fit(process, 2, callbacks=[See()])
    for weights, state in seen:
        zoo.assert_equal(weights, zoo.numpy(state.trainable))
    assert np.abs(seen[0][0][0] - seen[1][0][0]).max() > 0


def test_weights_that_a_callback_sets_are_kept(process):
    class Zero(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.set_weights([0 * w for w in self.model.get_weights()])

    fit(process, 2, callbacks=[Zero()])
    assert all((w == 0).all() for w in zoo.numpy(process.state.trainable))


# What is printed.


@pytest.mark.backend_free
def test_a_line_for_each_round(process, capsys):
    fit(process, 2, verbose=2, validation_data=TEST)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("Round 1/2 - ")
    assert "s/round" in lines[0]
    assert " loss: " in lines[1]
    assert "val_loss: " in lines[1]
    assert "bytes" not in lines[0]


@pytest.mark.backend_free
def test_a_bar_over_rounds(process, capsys):
    fit(process, 2, verbose=1)
    text = capsys.readouterr().out
    assert "2/2" in text
    assert "loss" in text
    assert "bytes" not in text


@pytest.mark.backend_free
def test_silence(process, capsys):
    fit(process, 2, verbose=0)
    assert capsys.readouterr().out == ""


# Interruptions and resuming.


class Interrupt(keras.callbacks.Callback):
    def __init__(self, hook, epoch, error=KeyboardInterrupt):
        super().__init__()
        self.at, self.error = epoch, error
        setattr(self, hook, self._hook)

    def _hook(self, epoch, logs=None):
        if epoch == self.at:
            raise self.error()


@pytest.mark.parametrize(
    ("hook", "error"),
    [
        ("on_epoch_begin", KeyboardInterrupt),
        ("on_epoch_end", KeyboardInterrupt),
        ("on_epoch_end", RuntimeError),
    ],
)
def test_an_interrupted_run_goes_on_exactly(
    process, unbroken, tmp_path, hook, error
):
    with pytest.raises(error):
        fit(
            process,
            6,
            validation_data=TEST,
            checkpoint_dir=tmp_path,
            callbacks=[Interrupt(hook, 3, error)],
        )
    # The rounds that were done are in the state and in the model.
    done = int(process.state.round_num)
    assert done == 3 if hook == "on_epoch_begin" else done == 4
    zoo.assert_equal(
        zoo.weights_of(process.model), zoo.numpy(process.state.trainable)
    )
    process.evaluate(process.state, [TEST])

    resumed = fit(process, 6, validation_data=TEST, checkpoint_dir=tmp_path)
    history, state = unbroken
    assert resumed == history
    zoo.assert_equal(process.state, state)


SITES = zoo.clients((6, 3, 5), make=zoo.line)


def test_the_validation_of_few_clients_is_kept_by_client(process):
    history = process.fit(
        DATA,
        4,
        validation_data=SITES,
        validation_freq=2,
        verbose=0,
        initial_state=process.initialize(),
    )
    assert set(history.per_client) == set(SITES)
    kept = history.per_client["client_1"]
    assert [len(values) for values in kept.values()] == [2] * len(kept)
    kernel, bias = zoo.numpy(process.state.trainable)
    errors = {
        i: np.mean((x @ kernel + bias - y) ** 2) for i, (x, y) in SITES.items()
    }
    for client_id, error in errors.items():
        last = history.per_client[client_id]["loss"][-1]
        assert last == pytest.approx(error, rel=1e-5)
        sizes = history.per_client[client_id]["num_examples"]
        assert sizes == [len(SITES[client_id][0])] * 2
    pooled = np.average(list(errors.values()), weights=[6, 3, 5])
    assert history.history["val_loss"][-1] == pytest.approx(pooled, rel=1e-5)
    assert not [n for n in history.history if n.startswith("val_per")]


def test_it_goes_on_with_the_checkpoint(process, tmp_path):
    def run(rounds, folder):
        return process.fit(
            DATA,
            rounds,
            clients_per_round=2,
            validation_data=SITES,
            verbose=0,
            initial_state=process.initialize(),
            checkpoint_dir=folder,
        ).per_client

    run(2, tmp_path / "resumed")
    assert run(4, tmp_path / "resumed") == run(4, tmp_path / "unbroken")


@pytest.mark.backend_free
@pytest.mark.parametrize("num_clients", [1, 21])
def test_of_one_or_of_many_clients_it_is_not(process, num_clients):
    many = zoo.clients((2,) * num_clients, make=zoo.line)
    fit(process, 1, validation_data=many)
    assert process.model.history.per_client == {}


@pytest.mark.backend_free
def test_nor_where_metrics_are_private():
    private = fl.FederatedAveraging(
        zoo.regression(), privacy=fl.privacy.Privacy(private_metrics=True)
    )
    others = {f"another {i}": SITES[i] for i in SITES}
    fit(private, 1, validation_data=others)
    assert private.model.history.per_client == {}


def test_an_interruption_inside_a_round(process, tmp_path, monkeypatch):
    real, calls = process.next, []

    def interrupted(state, clients):
        calls.append(int(state.round_num))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(state, clients)

    monkeypatch.setattr(process, "next", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(process, 6, checkpoint_dir=tmp_path)
    assert process.state.round_num == 2
    restored = process.load_state(tmp_path / Checkpoint.FILE)
    zoo.assert_equal(restored, process.state)


def callbacks_that_count():
    return [
        keras.callbacks.EarlyStopping(
            monitor="zigzag", mode="min", patience=3, restore_best_weights=True
        ),
        keras.callbacks.ReduceLROnPlateau(
            monitor="zigzag", mode="min", factor=0.5, patience=2
        ),
    ]


class Zigzag(keras.callbacks.Callback):
    """A made-up metric, best in round 3: stopped after 6 of 9."""

    def on_epoch_end(self, epoch, logs=None):
        logs["zigzag"] = [5, 4, 1, 3, 2, 6, 0, 0, 0][epoch]


@pytest.mark.parametrize("stop", [1, 4, 5])
def test_what_callbacks_count_goes_on(process, tmp_path, stop):
    history = fit(process, 9, callbacks=[Zigzag(), *callbacks_that_count()])
    assert len(history["loss"]) == 6
    assert history["learning_rate"][-1] == 0.5
    expected = process.state

    with pytest.raises(KeyboardInterrupt):
        fit(
            process,
            9,
            checkpoint_dir=tmp_path,
            callbacks=[
                Zigzag(),
                *callbacks_that_count(),
                Interrupt("on_epoch_begin", stop),
            ],
        )
    resumed = fit(
        process,
        9,
        checkpoint_dir=tmp_path,
        callbacks=[Zigzag(), *callbacks_that_count()],
    )
    assert resumed == history
    zoo.assert_equal(process.state, expected)


def test_a_finished_run_stays_as_it_is(process, tmp_path):
    def run(rounds=9):
        callbacks = [Zigzag(), *callbacks_that_count()]
        history = fit(
            process, rounds, checkpoint_dir=tmp_path, callbacks=callbacks
        )
        return history, process.state

    first, state = run()
    again, same = run()
    assert again == first
    zoo.assert_equal(same, state)
    # Without the callbacks that stopped it, it goes on.
    longer = fit(process, 7, checkpoint_dir=tmp_path)
    assert len(longer["loss"]) == 7


@pytest.mark.backend_free
def test_a_csv_file_goes_on(process, tmp_path):
    path = tmp_path / "log.csv"

    def run(*more):
        logger = keras.callbacks.CSVLogger(path)
        try:
            fit(
                process,
                4,
                checkpoint_dir=tmp_path / "run",
                callbacks=[logger, *more],
            )
        finally:
            logger.csv_file.close()

    with pytest.raises(KeyboardInterrupt):
        run(Interrupt("on_epoch_begin", 2))
    run()
    rows = path.read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "0", "1", "2", "3"]


def csv_epochs(path):
    _, *rows = path.read_text().splitlines()
    return [int(row.split(",")[0]) for row in rows]


@pytest.mark.backend_free
def test_rows_of_rounds_that_a_kill_lost_are_taken_back(process, tmp_path):
    path = tmp_path / "log.csv"

    def run(rounds):
        logger = keras.callbacks.CSVLogger(path)
        fit(
            process, rounds, checkpoint_dir=tmp_path / "run", callbacks=[logger]
        )

    run(4)
    whole = path.read_bytes()
    for unbroken in (3, 4):
        checkpoint = tmp_path / "run" / Checkpoint.FILE
        checkpoint.unlink()
        run(2)
        # As a kill leaves it: rows of later rounds, the last one cut short.
        path.write_bytes(b"".join(whole.splitlines(True)[: unbroken + 1])[:-3])
        run(4)
        assert csv_epochs(path) == [0, 1, 2, 3]
        assert path.read_bytes() == whole


SCRIPT = """
import os, pathlib, random, signal, sys, time

import keras
from tests import test_training, zoo

folder, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2])
random.seed(seed)
checkpoint = folder / test_training.Checkpoint.FILE


def run():
    process = zoo.regression_process()
    slow = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: time.sleep(0.02)
    )
    logger = keras.callbacks.CSVLogger(folder / "log.csv")
    return test_training.fit(
        process, 30, checkpoint_dir=folder, callbacks=[slow, logger]
    ), process


def round_num():
    return checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0


for kill in range(2):
    # Forked before anything has run, so that no thread is lost.
    child = os.fork()
    if not child:
        run()
        os._exit(0)
    before, waited = round_num(), time.monotonic()
    while round_num() == before and time.monotonic() - waited < 60:
        time.sleep(0.005)
    time.sleep(random.uniform(0, 0.3))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


@pytest.mark.backend_free
@pytest.mark.integration
@pytest.mark.slow
def test_a_killed_run_goes_on_exactly(process, tmp_path):
    root = pathlib.Path(__file__).parents[1]
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path), "0"],
        check=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        timeout=240,
    )
    # Killed twice on its way.
    killed_at = process.load_state(tmp_path / Checkpoint.FILE).round_num
    assert 1 <= killed_at <= 30
    path = tmp_path / "log.csv"
    callbacks = [
        keras.callbacks.LambdaCallback(),
        keras.callbacks.CSVLogger(path),
    ]
    (tmp_path / f"{Checkpoint.FILE}.partial").write_bytes(b"half")
    resumed = fit(process, 30, checkpoint_dir=tmp_path, callbacks=callbacks)
    state = process.state
    assert resumed == fit(process, 30)
    zoo.assert_equal(state, process.state)
    assert csv_epochs(path) == list(range(30))
    assert sorted(os.listdir(tmp_path)) == [Checkpoint.FILE, "log.csv"]


# Refusals.


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"rounds": 0}, ValueError, "`rounds` must be a whole number"),
        ({"rounds": -3}, ValueError, "`rounds` must be a whole number"),
        ({"rounds": "many"}, ValueError, "`rounds` must be a whole number"),
        ({"rounds": True}, ValueError, "`rounds` must be a whole number"),
        ({"rounds": 2.5}, ValueError, "`rounds` must be a whole number"),
        ({"clients_per_round": 6}, ValueError, "6, but there are 5 clients"),
        ({"clients_per_round": 0}, ValueError, "`clients_per_round` must be"),
        (
            {"sampler": fl.samplers.Uniform(DATA, 2)},
            ValueError,
            "either `clients_per_round` or `sampler`",
        ),
        (
            {
                "sampler": fl.samplers.Uniform(["x", "y"], 2),
                "clients_per_round": None,
            },
            ValueError,
            "aren't in `data`, such as 'x'",
        ),
        ({"verbose": 3}, ValueError, "`verbose` must be"),
        ({"seed": -1}, ValueError, "`seed` must be"),
        (
            {"validation_data": TEST, "validation_freq": 0},
            ValueError,
            "`validation_freq` must be a whole number",
        ),
        ({"validation_data": 3}, TypeError, "`validation_data` must be"),
        (
            {"callbacks": [keras.callbacks.BackupAndRestore("x")]},
            ValueError,
            "Use `checkpoint_dir=` instead",
        ),
    ],
    ids=lambda value: None,
)
def test_arguments_that_are_refused(process, arguments, error, match):
    with pytest.raises(error, match=match):
        fit(process, **arguments)


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("data", "error", "match"),
    [
        (zoo.line(4), TypeError, r"FederatedDataset\.from_arrays"),
        (np.ones((3, 4)), TypeError, "`data` must be a FederatedDataset"),
        ([], (TypeError, ValueError), "`data`"),
        ({}, ValueError, "no clients"),
    ],
    ids=["tuple", "array", "list", "dict"],
)
def test_data_that_is_refused(process, data, error, match):
    with pytest.raises(error, match=match):
        process.fit(data, 1, verbose=0)


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"seed": 1}, "seed was 0 and is now 1"),
        (
            {"clients_per_round": 3},
            "sampler.clients_per_round was 2 and is now 3",
        ),
        ({"rounds": 1}, r"already at round 2, past rounds=1"),
    ],
)
def test_a_checkpoint_of_other_arguments(process, tmp_path, change, match):
    fit(process, 2, checkpoint_dir=tmp_path)
    arguments = {"rounds": 4, "checkpoint_dir": tmp_path, **change}
    with pytest.raises(ValueError, match=match):
        fit(process, **arguments)


@pytest.mark.backend_free
def test_a_checkpoint_of_another_process(process, tmp_path):
    fit(process, 1, checkpoint_dir=tmp_path)
    other = fl.FederatedAveraging(
        zoo.regression(), client=fl.LocalTraining(batch_size=4, epochs=2)
    )
    with pytest.raises(ValueError, match=r"client\.epochs was 1 and is now 2"):
        fit(other, 2, checkpoint_dir=tmp_path)
