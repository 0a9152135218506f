"""Personal models with what is done to updates: any of it."""

import numpy as np
import pytest

import fedlearn as fl
from fedlearn import aggregators as ag
from fedlearn import encoders as en
from tests.algorithms import quadratics as q
from tests.algorithms.test_personal_layers import is_bias

pytestmark = pytest.mark.backend_free

A = fl.algorithms

AGGREGATORS = {
    "private": lambda: ag.PrivateMean(
        1.0, noise_multiplier=1.0, clients_per_round=4
    ),
    "secure": lambda: ag.SecureSum(
        clients_per_round=4, value_range=20.0, bits=24
    ),
    "compressed": lambda: ag.Mean(
        [en.ErrorFeedback([en.TopK(0.5)]), en.EntropyCoding()]
    ),
    "robust": ag.Median,
}
ALGORITHMS = {
    "ditto": A.Ditto,
    "apfl": A.APFL,
    "reptile": A.Reptile,
    "fedrep": lambda m, **k: A.FedRep(m, personal=is_bias, head_steps=1, **k),
    "fedrecon": lambda m, **k: A.FedRecon(m, personal=is_bias, **k),
}
CLIENT = fl.LocalTraining(batch_size=4, shuffle=False)


def personal(state):
    return {
        i: q.flat([*getattr(kept.algorithm, "weights", ()), *kept.personal])
        for i, kept in state.client_states.items()
        if kept.algorithm or kept.personal
    }


@pytest.mark.parametrize("name", ALGORITHMS)
def test_only_what_is_sent_is_changed(name):
    # In the first round clients start alike, whatever the server does then.
    plain, *others = (
        q.run(
            ALGORITHMS[name](
                q.model(),
                client=CLIENT,
                aggregator=make(),
                executor="sequential",
            ),
            [q.EVERYONE],
        )[0]
        for make in (
            lambda: ag.Mean(weighting="uniform"),
            *AGGREGATORS.values(),
        )
    )
    kept = personal(plain)
    assert bool(kept) == (name not in ("reptile", "fedrecon"))
    for kind, other in zip(AGGREGATORS, others, strict=True):
        found = personal(other)
        assert found.keys() == kept.keys()
        for i, own in kept.items():
            np.testing.assert_array_equal(found[i], own)
        away = np.abs(q.flat(other.trainable) - q.flat(plain.trainable)).max()
        assert (away < 1e-4) == (kind == "secure"), kind


def test_a_personal_head_composes_with_dp_of_examples():
    dp = fl.clients.ExampleDP(1e6, 0.0, batches="shuffled")
    plain, private = (
        q.run(
            A.FedRep(
                q.model(),
                client=fl.LocalTraining(batch_size=4, shuffle=False, dp=one),
                personal=is_bias,
                head_steps=1,
            ),
            [q.EVERYONE] * 2,
        )[0]
        for one in (None, dp)
    )
    np.testing.assert_allclose(
        q.flat(private.trainable), q.flat(plain.trainable), rtol=1e-4, atol=1e-5
    )
