"""Arguments of the wrong kind are named."""

import pytest

from fedlearn import encoders

pytestmark = pytest.mark.backend_free

SHARES = {"noise_multiplier": 1.0, "norm": 1.0, "clients_per_round": 9}


@pytest.mark.parametrize(
    ("kind", "given", "wrong"),
    [
        (encoders.AdaptiveClip, {}, "target_quantile"),
        (encoders.BandedMatrixNoise, {"noise_multiplier": 1.0}, "bands"),
        (encoders.Eden, {}, "bits"),
        (encoders.Eden, {}, "block_size"),
        (encoders.FixedPoint, {"num_summands": 2}, "bits"),
        (encoders.FixedPoint, {"num_summands": 2}, "modulus_bits"),
        (encoders.HadamardRotation, {}, "block_size"),
        (encoders.Skellam, SHARES, "bits"),
        (encoders.Skellam, SHARES, "beta"),
        (encoders.StochasticQuantization, {}, "levels"),
        (encoders.StochasticQuantization, {}, "bucket_size"),
        (encoders.UniformQuantization, {}, "bits"),
        (encoders.UniformQuantization, {}, "clip_range"),
    ],
)
def test_a_text_for_a_number_is_named(kind, given, wrong):
    with pytest.raises(ValueError, match=f"`{wrong}` must be .*'many'"):
        kind(**given, **{wrong: "many"})
