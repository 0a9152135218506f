import numpy as np
import pytest

from fedlearn.encoders import TopK
from tests.encoders.compression import spec_of, trip


@pytest.mark.parametrize(
    ("size", "dtype"), [(2**16, "uint16"), (2**16 + 1, "int32")]
)
def test_the_last_place_of_a_long_vector_comes_back(size, dtype):
    vector = np.zeros(size, "float32")
    vector[-1] = 3.0
    encoder = TopK(1 / size)
    (decoded,) = trip(encoder, [vector])
    np.testing.assert_array_equal(decoded, vector)
    spec = encoder.build(spec_of([vector])).encoded_spec()
    assert spec["indices"].dtype == dtype
