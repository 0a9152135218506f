"""The halves of a round with nothing but bytes between them."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

import fedlearn as fl
from fedlearn import aggregators as ag
from fedlearn import backend
from fedlearn import encoders as en
from fedlearn.executors.total import Total
from fedlearn.messages import wire
from tests import zoo

CLIENTS = zoo.clients((8, 5, 0, 9, 7), make=zoo.line)

AGGREGATORS = {
    "mean": ag.Mean,
    "quantized": lambda: ag.Mean([en.UniformQuantization(8)]),
    "entropy": lambda: ag.Mean([en.UniformQuantization(4), en.EntropyCoding()]),
    "memory": lambda: ag.Mean(
        [en.ErrorFeedback([en.TopK(0.5)]), en.EntropyCoding()]
    ),
    "private": lambda: ag.PrivateMean(
        clip_norm=1.0, noise_multiplier=0.5, clients_per_round=5
    ),
    "secure": lambda: ag.SecureSum(clients_per_round=5, value_range=4.0),
    "median": lambda: ag.Median([en.ErrorFeedback([en.TopK(0.5)])]),
    "krum": lambda: ag.Krum(num_byzantine=1),
    "clipping": ag.CenteredClipping,
    "bounding": lambda: ag.NormBounding(1.0),
}


def process_of(name, **kwargs):
    return fl.FederatedAveraging(
        zoo.regression(),
        client=fl.LocalTraining(batch_size=4, epochs=2),
        aggregator=AGGREGATORS[name](),
        executor="sequential",
        **kwargs,
    )


def round_over_bytes(server, device, state, kept):
    """A round in which all that goes to and fro is bytes.

    Returns:
        `(state, metrics, num_bytes)`; what clients keep is put into `kept`.
    """
    broadcast = server.broadcast(state)
    download = wire.pack(broadcast.sent)
    total, received = Total(len(CLIENTS)), 0
    for number, name in enumerate(CLIENTS):
        # At the client.
        sent = wire.unpack(download, like=device.broadcast_spec)
        seed = server.client_seed(state, name)
        message, kept[name] = device.client_message(
            sent, CLIENTS[name], seed, kept.get(name)
        )
        upload = wire.pack(message)
        # At the server.
        received += len(upload)
        message = wire.unpack(upload, like=server.message_spec)
        total.add(server.accept(broadcast, message), number)
    state, metrics = server.server_update(state, broadcast, total.result())
    return state, metrics, (received, len(download) * len(CLIENTS))


@pytest.mark.parametrize("name", AGGREGATORS)
def test_rounds_over_bytes_are_those_of_next(name):
    process, device, server = (process_of(name) for _ in range(3))
    server.build(zoo.spec_of(CLIENTS["client_0"]))  # it has no data
    one = two = process.initialize(seed=5)
    kept = {}
    for _ in range(2):
        one, expected = process.next(one, CLIENTS)
        two, metrics, num_bytes = round_over_bytes(server, device, two, kept)
        assert num_bytes == (metrics["bytes_up"], metrics["bytes_down"])
        assert metrics == expected
        zoo.assert_equal(two, one._replace(client_states=two.client_states))
    for client_id, state in one.client_states.items():
        zoo.assert_equal(
            keras.tree.flatten(kept[client_id]), keras.tree.flatten(state)
        )


def test_more_examples_than_fit_into_32_bits():
    process = process_of("mean")
    state = process.initialize()
    broadcast = process.broadcast(state)
    message, _ = process.client_message(broadcast, CLIENTS["client_0"], 1)
    message = message._replace(num_examples=np.asarray(2**24, np.int32))
    total = sum(process.accept(broadcast, message) for _ in range(300))
    _, metrics = process.server_update(state, broadcast, total)
    assert metrics["num_examples"] == 300 * 2**24 > 2**31


@pytest.mark.parametrize("name", ["mean", "memory", "median"])
def test_the_sum_of_client_updates_is_the_total_of_next(name):
    process = process_of(name)
    one = two = process.initialize(seed=5)
    for _ in range(2):
        one, expected = process.next(one, CLIENTS)
        broadcast = process.broadcast(two)
        total = 0
        for client_id in CLIENTS:
            update, _ = process.client_update(
                broadcast,
                CLIENTS[client_id],
                process.client_seed(two, client_id),
                two.client_states.get(client_id, ()),
                client_id,
            )
            total += update
        two, metrics = process.server_update(two, broadcast, total)
        assert metrics == pytest.approx(expected, rel=1e-6)
        zoo.assert_close(two.trainable, one.trainable, 1e-6, 1e-7)
        assert set(two.client_states) == set(one.client_states)
        for i in one.client_states:
            zoo.assert_close(
                keras.tree.flatten(two.client_states[i]),
                keras.tree.flatten(one.client_states[i]),
            )


def test_the_download_is_what_is_sent():
    process = process_of("mean", broadcast_encoders="uniform:8")
    device = process_of("mean", broadcast_encoders="uniform:8")
    process.cohort(CLIENTS).read(0)
    state = process.initialize(seed=5)
    expected, metrics = process.next(state, CLIENTS)
    after, _, num_bytes = round_over_bytes(process, device, state, {})
    assert num_bytes == (metrics["bytes_up"], metrics["bytes_down"])
    zoo.assert_close(after.trainable, expected.trainable, 1e-6, 1e-7)
    arrays = keras.tree.flatten(process.broadcast(state).sent.trainable)
    assert any(a.dtype == np.uint8 for a in arrays)


def test_an_update_that_is_not_finite_is_left_out_by_both():
    process = process_of("memory")
    x, y = CLIENTS["client_0"]
    state = process.initialize()
    broadcast = process.broadcast(state)
    kept = process.client_update(broadcast, (x, y), 1, ())[1]
    message, same = process.client_message(broadcast, (x * np.nan, y), 1, kept)
    assert message.num_examples == -1
    update = process.accept(broadcast, message)
    assert int(update.num_rejected) == 1
    assert int(update.num_clients) == 0
    zoo.assert_equal(keras.tree.flatten(same), keras.tree.flatten(kept))


def test_what_a_client_sends_is_checked_before_it_is_read():
    process = process_of("entropy")
    broadcast = process.broadcast(process.initialize())
    message, _ = process.client_message(broadcast, CLIENTS["client_0"], 1)
    spec = process.message_spec
    longer = message._replace(told=[*message.told, np.zeros(3)])
    with pytest.raises(ValueError, match="another one than expected"):
        wire.unpack(wire.pack(longer), like=spec)
    hostile = wire.pack([np.zeros((0,), "int8")] * 10_000)
    with pytest.raises(ValueError, match=r"its header is \d+ bytes long"):
        wire.unpack(hostile, like=spec)


def test_another_message_than_the_servers_is_refused_by_accept():
    process = process_of("mean")
    broadcast = process.broadcast(process.initialize())
    message, _ = process.client_message(broadcast, CLIENTS["client_0"], 1)
    first, *others = message.told
    for told in (others, [*message.told, first], [np.zeros(5, "f4"), *others]):
        with pytest.raises(ValueError, match="message has told="):
            process.accept(broadcast, message._replace(told=told))
    for count in (np.float32(3.5), np.zeros(2, "int32")):
        with pytest.raises(ValueError, match="message has num_examples="):
            process.accept(broadcast, message._replace(num_examples=count))
    with pytest.raises(ValueError, match="Received: list"):
        process.accept(broadcast, wire.unpack(wire.pack(list(message))))


@pytest.mark.parametrize("num_examples", [8, 2**31 - 1, -7])
@pytest.mark.parametrize("told", [1.0, np.nan, np.inf])
def test_who_claims_what_cannot_be_is_left_out(told, num_examples):
    process = process_of("mean")
    broadcast = process.broadcast(process.initialize())
    message, _ = process.client_message(broadcast, CLIENTS["client_0"], 1)
    hostile = message._replace(
        told=[np.full_like(a, told) for a in message.told],
        num_examples=np.asarray(num_examples, np.int32),
    )
    honest = num_examples == 8 and told == 1.0
    update = process.accept(broadcast, hostile)
    assert int(update.num_clients) == honest
    assert int(update.num_rejected) == 1 - honest
    assert int(update.num_examples) == 8 * honest
    assert all(np.isfinite(a).all() for a in zoo.numpy(update.metrics))


def test_a_scaled_update_counts_as_much_in_a_mean():
    process = process_of("mean")
    state = process.initialize()
    broadcast = process.broadcast(state)
    one, other = (
        process.client_update(broadcast, CLIENTS[i], 1)
        for i in ("client_0", "client_1")
    )
    total = one.scaled(3.0) + other
    after, _ = process.server_update(state, broadcast, total)

    def moved(update):
        alone, _ = process.server_update(state, broadcast, update)
        return [
            a - b
            for a, b in zip(
                zoo.numpy(alone.trainable),
                zoo.numpy(state.trainable),
                strict=True,
            )
        ]

    expected = [
        w + (3 * 8 * a + 5 * b) / (3 * 8 + 5)
        for w, a, b in zip(
            zoo.numpy(state.trainable), moved(one), moved(other), strict=True
        )
    ]
    zoo.assert_close(after.trainable, expected)
    secure = process_of("secure")
    broadcast = secure.broadcast(secure.initialize())
    update = secure.client_update(broadcast, CLIENTS["client_0"], 1)
    with pytest.raises(ValueError, match="can't be scaled"):
        update.scaled(0.5)


@functools.cache
def _ragged():
    return {
        f"client_{i}": zoo.line(n, seed=i)
        for i, n in enumerate((13, 2, 7, 16, 1))
    }


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="JAX compiles each length"
)
def test_graphs_do_not_depend_on_what_was_run_before():
    def unknown_lengths(data):
        lengths = [a.shape[0] for a in keras.tree.flatten(data)]
        return ops.convert_to_tensor([n is None for n in lengths])

    x, y = np.ones((3, 2), "float32"), np.ones(3, "int32")
    compiled = backend.jit(unknown_lengths, free=(0,))
    for data in ((x, y), (x, y, np.ones(3, "float32")), ({"a": x}, y)) * 2:
        assert np.all(backend.to_numpy(compiled(data)))


@pytest.mark.parametrize("executor", ["sequential", "vectorized", "auto"])
def test_nothing_that_happened_before_changes_a_bit(executor):
    def process():
        return fl.FederatedAveraging(
            zoo.regression(),
            client=fl.LocalTraining(batch_size=8, epochs=2),
            aggregator=ag.Mean([en.ErrorFeedback([en.TopK(0.5)])]),
            executor=executor,
        )

    fresh, used = process(), process()
    x, y = zoo.line(6)
    other = used.initialize(seed=9)
    for cohort in (
        {"nan": (x * np.nan, y)},
        {"short": zoo.line(3), "one": zoo.line(1)},
        {f"client_{i}": zoo.line(5 + i, seed=7 + i) for i in range(9)},
        {"weighted": (x, y, np.ones(6, "float32"))},
    ):
        other, _ = used.next(other, cohort)
        used.evaluate(other, cohort)
    states = []
    for one in (fresh, used):
        state = one.initialize(seed=2)
        for _ in range(2):
            state, metrics = one.next(state, _ragged())
        states.append((state, metrics))
    (a, expected), (b, metrics) = states
    assert metrics == expected
    zoo.assert_equal(a.trainable, b.trainable)
    for client_id, kept in a.client_states.items():
        zoo.assert_equal(
            keras.tree.flatten(kept),
            keras.tree.flatten(b.client_states[client_id]),
        )
