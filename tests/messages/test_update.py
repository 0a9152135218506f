import numpy as np
import pytest
from keras import ops

import fedlearn as fl
from tests import zoo

CLIENTS = [*zoo.clients((8, 4), make=zoo.line).values()]


def updates(aggregator):
    process = fl.FederatedAveraging(zoo.regression(), aggregator=aggregator)
    state = process.initialize()
    broadcast = process.broadcast(state)
    made = [process.client_update(broadcast, data, 7) for data in CLIENTS]
    return process, state, broadcast, made


def moved(process, state, broadcast, total):
    new, _ = process.server_update(state, broadcast, total)
    pairs = zip(new.trainable, state.trainable, strict=True)
    return [ops.convert_to_numpy(a - b) for a, b in pairs]


def test_a_scaled_update_counts_as_less_in_a_mean():
    process, *round_, (one, other) = updates("mean")
    alone = [moved(process, *round_, u) for u in (one, other)]
    both = moved(process, *round_, one.scaled(0.25) + other)
    for a, b, mean in zip(*alone, both, strict=True):  # 8 / 4 examples, and 4
        np.testing.assert_allclose(mean, (2 * a + 4 * b) / 6, rtol=1e-5)
    assert int(one.scaled(0.25).num_examples) == 8


def test_of_a_rule_a_scaled_update_is_shorter_and_counts():
    process, *round_, (one, other) = updates("median")
    alone = [moved(process, *round_, u) for u in (one, other)]
    both = moved(process, *round_, one.scaled(0.5) + other)
    for a, b, median in zip(*alone, both, strict=True):
        np.testing.assert_allclose(median, (a / 2 + b) / 2, rtol=1e-5)


def test_integers_that_are_added_modulo_a_number_cannot_be_scaled():
    secure = fl.aggregators.SecureSum(clients_per_round=2, value_range=4.0)
    *_, (one, _) = updates(secure)
    with pytest.raises(ValueError, match="can't be scaled"):
        one.scaled(0.5)
