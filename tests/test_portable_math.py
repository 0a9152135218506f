import hashlib

import numpy as np
import pytest

from fedlearn import portable_math, seeds

pytestmark = pytest.mark.backend_free

# Recorded once, of 10,000 results each.
BITS = {
    "log": "b32babcd5f95d920",
    "exp": "825c7380381dc1d3",
    "cos_turns": "98b27ad92e28cb21",
}


def arguments(name):
    u = 1 - seeds.uniform(10_000, name)
    if name == "exp":
        return (u - 0.5) * 1400
    if name == "log":
        # Multiplied out, since powers differ between machines, too.
        small = 1 - u + 2**-53
        return u / (small * small * small * small)
    return 10 * (u - 0.5)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("log", np.log),
        ("exp", np.exp),
        ("cos_turns", lambda x: np.cos(2 * np.pi * (x - np.rint(x)))),
    ],
)
def test_values_and_their_bits(name, reference):
    x = arguments(name)
    got = getattr(portable_math, name)(x)
    absolute = 5e-16 if name.endswith("turns") else 0
    np.testing.assert_allclose(got, reference(x), rtol=5e-16, atol=absolute)
    digest = hashlib.sha256(got.astype("<f8").tobytes()).hexdigest()[:16]
    assert digest == BITS[name]


def test_log_near_1_and_at_the_ends():
    x = np.array([1 - 2**-53, 1, 1 + 2**-52, 2**-1074, 2.0**1023])
    np.testing.assert_allclose(portable_math.log(x), np.log(x), rtol=5e-16)


def test_exp_at_the_ends():
    x = np.array([-1e300, -746.0, -700.0, -1e-20, 0.0, 709.0])
    np.testing.assert_allclose(portable_math.exp(x), np.exp(x), rtol=5e-16)


def test_quarter_turns_are_exact():
    quarters = np.arange(-8, 9)
    cosines = np.array([1.0, 0.0, -1.0, 0.0])[quarters % 4]
    got = portable_math.cos_turns(quarters / 4)
    np.testing.assert_array_equal(got, cosines)
    assert not np.signbit(got[cosines == 0]).any()
