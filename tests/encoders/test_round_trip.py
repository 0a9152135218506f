import numpy as np
import pytest

from fedlearn.encoders import (
    Clip,
    EntropyCoding,
    FixedPoint,
    HadamardRotation,
    Skellam,
    UniformQuantization,
    round_trip,
)

VALUE = {
    "kernel": np.linspace(-0.1, 0.1, 100, dtype="float32").reshape(20, 5),
    "bias": np.linspace(-0.1, 0.1, 5, dtype="float32"),
}


@pytest.mark.parametrize(
    ("encoders", "num_bytes", "tolerance"),
    [
        ([], 420, 0),
        ([Clip(10.0), FixedPoint(8, num_summands=4, value_range=1)], 133, 0.01),
        ([HadamardRotation(), Skellam(0, 10.0, 4, bits=12)], 192, 0.02),
        ([UniformQuantization(8), EntropyCoding("deflate")], 105, 0.002),
    ],
)
def test_what_is_sent_is_read_again(encoders, num_bytes, tolerance):
    decoded, found = round_trip(encoders, VALUE)
    # The rest is the header, and ranges and tables of frequencies.
    assert num_bytes <= found < num_bytes + 500
    assert decoded.keys() == VALUE.keys()
    for name, value in VALUE.items():
        assert decoded[name].shape == value.shape
        np.testing.assert_allclose(decoded[name], value, atol=tolerance)
