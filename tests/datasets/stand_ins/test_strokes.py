import numpy as np
import pytest

from fedlearn.datasets.stand_ins import strokes

pytestmark = pytest.mark.backend_free


def _traced(text):
    drawings = strokes.parse([text])
    which = np.array([0])
    segments = strokes.trace(drawings, which, drawings.points[which])
    return segments[0, : drawings.num_segments[0]]


def test_straight_lines_go_from_point_to_point():
    assert _traced("-00 3a 10|-12 34").tolist() == [
        [[0, 0], [3, 10]],
        [[3, 10], [1, 0]],
        [[1, 2], [3, 4]],
    ]


def test_a_curve_goes_through_its_points_and_is_in_one_piece():
    segments = _traced("~00 30 33")
    np.testing.assert_allclose(segments[0, 0], [0, 0])
    np.testing.assert_allclose(segments[3, 0], [3, 0])
    np.testing.assert_allclose(segments[-1, 1], [3, 3])
    np.testing.assert_array_equal(segments[1:, 0], segments[:-1, 1])


def test_a_closed_curve_ends_where_it_began():
    segments = _traced("o30 03 36 63")
    np.testing.assert_allclose(segments[0, 0], segments[-1, 1])


def test_ink_is_what_the_distance_to_the_nearest_segment_says():
    rng = np.random.default_rng(0)
    segments = rng.uniform(0, 12, (5, 4, 2, 2))
    counts = np.array([2, 4, 1, 3, 4])
    width = rng.uniform(0.5, 2, 5)
    image = strokes.ink(segments, counts, width, side=12)
    for i in range(5):
        for row, column in [(0, 0), (3, 7), (6, 6), (11, 2)]:
            at = np.array([column + 0.5, row + 0.5])
            distances = []
            for start, end in segments[i, : counts[i]]:
                step = end - start
                t = np.clip((at - start) @ step / (step @ step), 0, 1)
                distances.append(np.linalg.norm(start + t * step - at))
            expected = np.clip(width[i] - min(distances) + 0.5, 0, 1)
            assert image[i, row, column] == pytest.approx(expected, abs=1e-4)
