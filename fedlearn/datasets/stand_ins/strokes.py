"""Lines and curves by their control points, and the ink they leave.

A drawing is written as text: strokes are separated by `|`, and each is a kind
and points of two hexadecimal digits, x to the right and y down. The kinds are
`-`, straight lines from point to point; `~`, a smooth curve through them; and
`o`, one that closes.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# How many straight pieces stand for a curve between two control points.
_PIECES = 3


class Drawings(NamedTuple):
    """Several drawings as padded arrays.

    An end of a segment is a weighted mean of four control points, so that
    moving those bends curves smoothly.
    """

    points: np.ndarray  # (drawings, points, 2) float64
    ends: np.ndarray  # (drawings, segments, 2, 4) indices of points
    weights: np.ndarray  # (drawings, segments, 2, 4) float64
    num_segments: np.ndarray  # (drawings,)


def _catmull_rom(t: float) -> tuple[float, float, float, float]:
    # The curve of Catmull and Rom 1974 goes through its control points. No
    # powers: their last bit is the machine's.
    square, cube = t * t, t * t * t
    return (
        (-t + 2 * square - cube) / 2,
        (2 - 5 * square + 3 * cube) / 2,
        (t + 4 * square - 3 * cube) / 2,
        (cube - square) / 2,
    )


def _stroke_ends(kind: str, count: int) -> list[tuple[list[int], tuple]]:
    """The points along a stroke, each by four control points and weights."""
    if kind == "-":
        return [([i] * 4, (1.0, 0.0, 0.0, 0.0)) for i in range(count)]
    closed = kind == "o"

    def near(i: int) -> int:
        return i % count if closed else min(max(i, 0), count - 1)

    spans = count if closed else count - 1
    ends = []
    for step in range(spans * _PIECES + 1):
        i, part = divmod(step, _PIECES)
        four = [near(i + k) for k in (-1, 0, 1, 2)]
        ends.append((four, _catmull_rom(part / _PIECES)))
    return ends


def parse(texts: Sequence[str]) -> Drawings:
    """Reads drawings from text.

    Example:

    >>> drawings = parse(["-00 08", "o30 03 36 63"])
    >>> drawings.num_segments.tolist()
    [1, 12]
    """
    all_points, all_segments = [], []
    for text in texts:
        points: list[tuple[int, int]] = []
        segments = []
        for stroke in text.split("|"):
            kind, pairs = stroke[0], stroke[1:].split()
            ends = [
                ([i + len(points) for i in four], weights)
                for four, weights in _stroke_ends(kind, len(pairs))
            ]
            segments += list(itertools.pairwise(ends))
            points += [(int(p[0], 16), int(p[1], 16)) for p in pairs]
        all_points.append(points)
        all_segments.append(segments)
    num_points = max(map(len, all_points))
    num_segments = np.array([len(s) for s in all_segments])
    shape = (len(texts), int(num_segments.max()), 2, 4)
    result = Drawings(
        np.zeros((len(texts), num_points, 2)),
        np.zeros(shape, np.int64),
        np.zeros(shape),
        num_segments,
    )
    for d, (points, segments) in enumerate(
        zip(all_points, all_segments, strict=True)
    ):
        result.points[d, : len(points)] = points
        # What is left over repeats the first segment, which changes nothing.
        for s in range(shape[1]):
            for end in (0, 1):
                four, weights = segments[s if s < len(segments) else 0][end]
                result.ends[d, s, end] = four
                result.weights[d, s, end] = weights
    return result


def trace(
    drawings: Drawings, which: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """The segments of drawings whose control points were moved.

    Args:
        drawings: Of `parse`.
        which: `(n,)` indices of drawings.
        points: `(n, points, 2)` control points.

    Returns:
        `(n, segments, 2, 2)` ends of segments, x and y last.
    """
    ends, weights = drawings.ends[which], drawings.weights[which]
    rows = np.arange(len(which))[:, None, None]
    # One after the other, since `sum` adds in an order of its own.
    total = np.zeros((*ends.shape[:3], 2))
    for k in range(4):
        total += weights[..., k, None] * points[rows, ends[..., k]]
    return total


def ink(
    segments: np.ndarray,
    num_segments: np.ndarray,
    half_width: np.ndarray,
    side: int,
) -> np.ndarray:
    """Draws segments with a pen of some width, edges smoothed.

    Args:
        segments: `(n, segments, 2, 2)` ends in pixels.
        num_segments: `(n,)`; how many of an image's segments count.
        half_width: `(n,)` half the width of the pen, in pixels.
        side: Width and height of the images.

    Returns:
        `(n, side, side)` array, `float32`, from 0 (no ink) to 1.

    Example:

    >>> line = np.array([[[[1.0, 4.0], [7.0, 4.0]]]])
    >>> image = ink(line, np.array([1]), np.array([1.0]), 8)
    >>> image[0, 3, 3].item(), image[0, 0, 3].item()
    (1.0, 0.0)
    """
    # Images with many segments first: those that are through drop out at the
    # end, and the rest stay one block.
    order = np.argsort(-num_segments, kind="stable")
    segments = segments[order].astype(np.float32)
    counts = num_segments[order]
    pixel = np.arange(side, dtype=np.float32) + np.float32(0.5)
    nearest = np.full((len(order), side, side), 1e6, np.float32)
    for s in range(int(counts[0]) if len(counts) else 0):
        live = int(np.searchsorted(-counts, -s, side="left"))
        (ax, ay), step = segments[:live, s, 0].T, np.float32(1e-6)
        dx, dy = (segments[:live, s, 1] - segments[:live, s, 0]).T
        length = dx * dx + dy * dy + step
        x = pixel - ax[:, None]
        y = pixel - ay[:, None]
        # How far along the segment the nearest point lies, in 0..1.
        along = (
            (x * (dx / length)[:, None])[:, None, :]
            + (y * (dy / length)[:, None])[:, :, None]
        )  # fmt: skip
        np.clip(along, 0, 1, out=along)
        off_x = along * dx[:, None, None]
        np.subtract(x[:, None, :], off_x, out=off_x)
        along *= dy[:, None, None]
        np.subtract(y[:, :, None], along, out=along)
        off_x *= off_x
        along *= along
        off_x += along
        np.minimum(nearest[:live], off_x, out=nearest[:live])
    np.sqrt(nearest, out=nearest)
    width = half_width[order].astype(np.float32)[:, None, None]
    image = np.empty_like(nearest)
    image[order] = np.clip(width - nearest + np.float32(0.5), 0, 1)
    return image
