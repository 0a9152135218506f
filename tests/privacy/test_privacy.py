"""What a run says of its noise, once."""

import pytest

import fedlearn as fl
from fedlearn.aggregators import Mean, PrivateMean, SecureSum
from fedlearn.encoders import Clip, Skellam
from fedlearn.privacy import Privacy
from tests import zoo

pytestmark = pytest.mark.backend_free


def noisy():
    return PrivateMean(1.0, noise_multiplier=1.0, clients_per_round=4)


def made(aggregator=None, client=None, **terms):
    return fl.FederatedAveraging(
        zoo.regression(),
        client,
        aggregator=aggregator,
        privacy=Privacy(**terms),
    )


def test_it_belongs_to_the_process():
    process = made(noisy(), delta=1e-6)
    assert process.privacy == Privacy(1e-6)
    assert "privacy=Privacy(delta=1e-06)" in repr(process)
    assert "privacy" not in repr(made())
    with pytest.raises(TypeError, match=r"`privacy` must be a .*Privacy"):
        fl.FederatedAveraging(zoo.regression(), privacy=1e-6)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Privacy(delta="1e-5"), "`delta` .*'1e-5'"),
        (lambda: Privacy(secure_noise="no"), "`secure_noise` must be False"),
        (lambda: fl.samplers.Poisson(["a"], "a"), "`clients_per_round` must"),
        (lambda: Clip("1.0"), "`norm` must be"),
        (
            lambda: fl.encoders.AdaptiveClip(target_quantile="0.5"),
            "`target_quantile` must be",
        ),
        (lambda: Mean(denominator="3"), "`denominator` must be"),
        (
            lambda: SecureSum(clients_per_round="3", value_range=1.0),
            "`clients_per_round` must be",
        ),
    ],
    ids=[
        "delta",
        "secure",
        "sampler",
        "norm",
        "quantile",
        "denominator",
        "clients",
    ],
)
def test_a_text_for_a_number_is_refused_by_name(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_a_delta_is_that_of_a_guarantee():
    for delta in (0, 1, 2.0):
        with pytest.raises(ValueError, match="above 0 and below 1"):
            Privacy(delta)
    with pytest.raises(ValueError, match="without noise there is none"):
        made(delta=1e-5)
    dp = fl.clients.ExampleDP(1.0, 1.0)
    made(client=fl.LocalTraining("sgd", dp=dp), delta=1e-5)


def test_secure_noise_is_the_servers():
    made(noisy(), secure_noise=True)
    shared = Mean([Skellam(1.0, 1.0, 5)], "uniform", 5.0)
    with pytest.raises(ValueError, match=r"Skellam.* is drawn by clients"):
        made(shared, secure_noise=True)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("delta", 1e-5), ("secure_noise", True), ("private_metrics", True)],
)
@pytest.mark.parametrize(
    "make",
    [
        lambda **kwargs: Mean(**kwargs),
        lambda **kwargs: PrivateMean(
            1.0, noise_multiplier=1.0, clients_per_round=4, **kwargs
        ),
        lambda **kwargs: SecureSum([Clip(1.0)], clients_per_round=4, **kwargs),
        lambda **kwargs: fl.clients.ExampleDP(1.0, 1.0, **kwargs),
    ],
    ids=["mean", "private", "secure", "example"],
)
def test_where_it_was_said_before_it_says_where_to(make, argument, value):
    with pytest.raises(
        TypeError, match=rf"privacy=fl\.privacy\.Privacy\({argument}=\.\.\.\)"
    ):
        make(**{argument: value})
