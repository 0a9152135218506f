"""A round in which every update is rejected leaves the server as it is."""

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn import aggregators as ag
from fedlearn import encoders as en
from tests import zoo
from tests.algorithms import quadratics as q

MOMENTUM = keras.optimizers.SGD(0.5, momentum=0.9, weight_decay=0.1)
BROKEN = {i: (x * np.nan, y) for i, (x, y) in q.CLIENTS.items()}
free = pytest.mark.backend_free


def averaging(aggregator):
    return fl.FederatedAveraging(
        q.model(),
        aggregator=aggregator,
        server_optimizer=MOMENTUM,
        executor="sequential",
    )


def of(name, momentum=0.0, optimizer=MOMENTUM, **arguments):
    return getattr(fl.algorithms, name)(
        q.model(momentum=momentum),
        executor="sequential",
        **({} if optimizer is None else {"server_optimizer": optimizer}),
        **arguments,
    )


def clusters():
    model = q.model()
    model.set_weights([np.eye(3, 1), np.zeros(1)])
    return fl.algorithms.Clustered(model, clusters=2, executor="sequential")


PROCESSES = {
    # Whose norm moves also without any updates.
    "mean": lambda: averaging(
        ag.Mean(
            [
                en.AdaptiveClip(
                    0.25, 1.0, clients_per_round=4, count_noise_multiplier=0
                )
            ]
        )
    ),
    "secure sum": lambda: averaging(
        ag.SecureSum(value_range=8.0, clients_per_round=4)
    ),
    "krum": lambda: averaging(ag.Krum(0)),
    "centered clipping": lambda: averaging(ag.CenteredClipping(1.0)),
    "Mime": lambda: of("Mime", momentum=0.9),
    "FedBuff": lambda: of("FedBuff", buffer_size=4),
    "Scaffold": lambda: of("Scaffold", population=4),
    "FedDyn": lambda: of("FedDyn", optimizer=None, population=4),
    "Clustered": clusters,
}


ON_BOTH = ("mean", "krum", "Mime", "FedBuff")


@pytest.mark.parametrize(
    "name",
    [pytest.param(p, marks=[free] * (p not in ON_BOTH)) for p in PROCESSES],
)
def test_nothing_is_learned(name):
    process = PROCESSES[name]()
    before, _ = q.run(process, [q.EVERYONE] * 2)
    assert np.abs(q.flat(before.trainable)).max() > 0.01
    after, metrics = process.next(before, BROKEN)
    assert metrics["num_rejected"] == 4
    assert int(after.round_num) == 3
    for part in ("trainable", "optimizer", "aggregator", "algorithm"):
        zoo.assert_equal(getattr(after, part), getattr(before, part))
    # And the next round is as if that hadn't been.
    one, two = (
        process.next(s._replace(round_num=before.round_num), q.CLIENTS)[0]
        for s in (before, after)
    )
    zoo.assert_equal(two.trainable, one.trainable)


@free
def test_behind_noise_it_does_not_show():
    pytest.importorskip("dp_accounting")
    process = averaging(
        ag.PrivateMean(clip_norm=1.0, noise_multiplier=1.0, clients_per_round=4)
    )
    before, _ = q.run(process, [q.EVERYONE])
    after, _ = process.next(before, BROKEN)
    assert int(after.optimizer[0]) == int(before.optimizer[0]) + 1
    assert np.all(q.flat(after.trainable) != q.flat(before.trainable))


@free
def test_too_few_for_a_rule_are_nobody():
    process = averaging(ag.Krum(0))
    process.fit(q.CLIENTS, 1, verbose=0)
    before = process.state
    data = {**BROKEN, "0": q.CLIENTS["0"]}
    with pytest.warns(UserWarning, match="of only 1 clients .* Krum needs 3"):
        process.fit(data, 1, verbose=0)
    for part in ("trainable", "optimizer", "aggregator"):
        zoo.assert_equal(getattr(process.state, part), getattr(before, part))
