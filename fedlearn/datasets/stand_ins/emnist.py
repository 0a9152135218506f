"""Digits and letters as if written by hand, each client with its own hand."""

import functools
import string
from typing import Any

import numpy as np

from fedlearn import portable_math, seeds
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.datasets.stand_ins import strokes
from fedlearn.datasets.stand_ins.counts import check_count, client_size

CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase

# The ways to write each character, in the notation of `strokes`: capitals
# stand on y = 8 and reach up to 0, small letters to 3.
_FORMS: dict[str, tuple[str, ...]] = {
    "0": ("o30 12 16 38 56 52", "o30 12 16 38 56 52|-51 17"),
    "1": ("-30 38", "-12 30 38", "-12 30 38|-18 58"),
    "2": ("~12 20 40 52 44 26 18|-18 58", "~12 30 52 35 18 27 48 57"),
    "3": ("~11 30 51 34|~34 56 38 17", "-10 50 33|~33 56 38 17"),
    "4": ("-10 14 54|-40 48", "-48 40 05 65"),
    "5": ("-50 10 13|~13 33 55 38 17", "~50 20 13 33 56 38 17"),
    "6": ("~40 13 16 38 56 34 16", "~50 22 15 18 48 56 34 16"),
    "7": ("-10 50 28", "-10 50 28|-24 54", "-11 10 50|~50 34 28"),
    "8": ("o30 12 34 56 38 16 34 52", "o31 11 13 33 53 51|o34 16 38 56"),
    "9": ("o52 30 12 34|-52 48", "o52 30 12 34|~52 55 38 17"),
    "A": ("-08 30 68|-15 55", "~08 13 30 53 68|-15 55"),
    "B": ("-10 18|~10 40 52 44 14|~14 44 56 48 18",),
    "C": ("~51 30 03 05 38 57", "~51 40 12 16 48 57"),
    "D": ("-10 18|~10 41 54 47 18", "-10 18|~00 30 63 65 38 08"),
    "E": ("-50 10 18 58|-14 44", "~51 20 12 34|~34 16 28 57"),
    "F": ("-50 10 18|-14 44", "-00 60|~20 24 18|-14 54"),
    "G": ("~51 30 03 05 38 57|-57 55 35", "~51 30 03 05 38 57|-34 54 58"),
    "H": ("-10 18|-50 58|-14 54",),
    "I": ("-30 38|-10 50|-18 58", "-30 38"),
    "J": ("-40 45|~45 38 17", "-40 45|~45 38 17|-20 60"),
    "K": ("-10 18|-50 14 58",),
    "L": ("-10 18 58", "~20 15 18 38 58"),
    "M": ("-08 10 34 50 68", "-08 00 35 60 68"),
    "N": ("-18 10 58 50",),
    "O": ("o30 11 04 17 38 57 64 51",),
    "P": ("-10 18|~10 40 52 44 14",),
    "Q": ("o30 11 04 17 38 57 64 51|-46 68",),
    "R": ("-10 18|~10 40 52 44 14|-34 58",),
    "S": ("~51 30 12 34 56 38 17",),
    "T": ("-00 60|-30 38",),
    "U": ("~10 15 38 55 50", "~10 15 38 55 50|-50 58"),
    "V": ("-10 38 50",),
    "W": ("-00 18 33 58 60", "~00 06 28 34 48 66 60"),
    "X": ("-10 58|-50 18",),
    "Y": ("-10 34 50|-34 38", "-10 34|-50 18"),
    "Z": ("-10 50 18 58", "-10 50 18 58|-24 44"),
    "a": ("~54 33 15 17 38 56|-53 58", "~14 33 54 58|~55 35 17 38 57"),
    "b": ("-10 18|~15 33 55 57 38 17",),
    "c": ("~54 33 15 17 38 57",),
    "d": ("-50 58|~54 33 15 17 38 57",),
    "e": ("-15 55|~55 43 23 15 17 38 57", "~16 55 33 15 17 38 57"),
    "f": ("~51 40 22 25 28|-14 44", "~51 40 22 26 2a 1b|-14 44"),
    "g": ("~54 33 15 17 38 56|~53 57 5a 3b 1a",),
    "h": ("-10 18|~15 33 54 58",),
    "i": ("-34 38|-31 32", "~33 37 48 57|-31 32"),
    "j": ("~44 48 4a 2b 0a|-41 42",),
    "k": ("-10 18|-43 16 58", "-10 18|~16 34 45 16|-16 58"),
    "l": ("-30 38", "~20 26 38 47", "~17 45 51 30 25 38 57"),
    "m": ("-03 08|~05 13 34 38|~35 43 64 68",),
    "n": ("-13 18|~15 33 54 58",),
    "o": ("o33 15 16 38 56 55",),
    "p": ("-13 1b|~14 33 55 57 38 17",),
    "q": ("-53 5b|~54 33 15 17 38 57", "-53 5b 6a|~54 33 15 17 38 57"),
    "r": ("-13 18|~15 33 54",),
    "s": ("~54 33 14 35 57 38 17",),
    "t": ("~30 36 48 57|-13 53", "-30 38|-13 53"),
    "u": ("~13 16 38 56|-53 58",),
    "v": ("-13 38 53",),
    "w": ("-03 18 34 58 63", "~03 07 28 35 48 67 63"),
    "x": ("-13 58|-53 18", "~13 24 47 58|~53 44 27 18"),
    "y": ("-13 37|-53 1b", "~13 16 37 55 53|~53 58 3b 1a"),
    "z": ("-13 53 18 58", "-13 53 18 58|-15 45"),
}

_SIDE = 28


@functools.cache
def _drawings() -> tuple[strokes.Drawings, np.ndarray, np.ndarray]:
    """All forms, the first of each character, and how many it has."""
    counts = np.array([len(_FORMS[c]) for c in CHARACTERS])
    forms = [form for c in CHARACTERS for form in _FORMS[c]]
    return strokes.parse(forms), np.cumsum(counts) - counts, counts


def client_id(k: int, seed: int = 0) -> str:
    """The name of writer `k`, of the form of the real ones.

    Example:

    >>> client_id(7)[:6]
    'f0007_'
    """
    sheet = int(seeds.bits(1, seed, "emnist", "sheet", k)[0] % np.uint64(50))
    return f"f{k:04d}_{sheet:02d}"


def draw_client(
    k: int, num_examples: int, only_digits: bool = True, seed: int = 0
) -> dict[str, np.ndarray]:
    """The characters of one writer.

    A writer has one form of each character and bends it in one's own way,
    with a slant, width, turn and pen that stay the same; each example
    trembles a little. As in the real set, a character fills its box, so that
    some capitals look like small letters.

    Args:
        k: Which writer.
        num_examples: How many characters.
        only_digits: Digits, evenly; or also letters, with half of the
            characters digits.
        seed: An integer.

    Returns:
        `label`, `(n,)` `int32`, and `pixels`, `(n, 28, 28)` `float32`: whole
        255ths from 0 (ink) to 1 (paper).

    Raises:
        ValueError: If `num_examples` is not positive.

    Example:

    >>> writer = draw_client(0, num_examples=5)
    >>> writer["pixels"].shape, writer["label"].dtype
    ((5, 28, 28), dtype('int32'))
    """
    label, gray = _draw_gray(k, num_examples, only_digits, seed)
    return _scaled({"label": label, "pixels": gray})


def draw(
    num_clients: int = 100, only_digits: bool = True, seed: int = 0
) -> dict[str, FederatedDataset]:
    """Writers, each with some 10 % of its characters for testing.

    Args:
        num_clients: Number of writers.
        only_digits: Whether to leave the letters out.
        seed: An integer.

    Returns:
        `train` and `test`, of the same clients: about 101 and 12 digits
        each, or 198 and 23 characters.

    Raises:
        ValueError: If `num_clients` is not positive.

    Example:

    >>> parts = draw(num_clients=3)
    >>> parts["train"].client_ids == parts["test"].client_ids
    True
    """
    check_count("num_clients", num_clients)
    mean, spread, high = (113, 0.15, 160) if only_digits else (221, 0.4, 460)
    writers = {}
    for k in range(num_clients):
        size = client_size(mean, spread, 10, high, seed, "emnist", "size", k)
        label, gray = _draw_gray(k, size, only_digits, seed)
        writers[client_id(k, seed)] = {"label": label, "pixels": gray}
    # Bytes take a quarter of the memory; they are scaled when they are read.
    both = FederatedDataset.from_clients(writers).map(_scaled, same_length=True)
    train, test = both.split_examples(0.893, seed)
    return {"train": train, "test": test}


def _scaled(stored: dict[str, Any]) -> dict[str, np.ndarray]:
    pixels = stored["pixels"].astype(np.float32) / np.float32(255)
    return {"label": stored["label"], "pixels": pixels}


def _draw_labels(
    k: int, num_examples: int, only_digits: bool, seed: int
) -> np.ndarray:
    weights = np.ones(10 if only_digits else len(CHARACTERS))
    weights[:10] = 1 if only_digits else 5.2
    bounds = np.cumsum(weights)
    points = bounds[-1] * seeds.uniform(
        num_examples, seed, "emnist", "label", k
    )
    return np.searchsorted(bounds[:-1], points, side="right").astype(np.int32)


def _draw_gray(
    k: int, num_examples: int, only_digits: bool, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and images as bytes: 255 is paper."""
    check_count("num_examples", num_examples)
    label = _draw_labels(k, num_examples, only_digits, seed)
    drawings, first, counts = _drawings()
    choice = seeds.uniform(len(counts), seed, "emnist", "form", k)
    which = (first + (choice * counts).astype(np.int64))[label]

    shape = drawings.points.shape
    habit = seeds.normal(
        shape[0] * shape[1] * 2, seed, "emnist", "habit", k
    ).reshape(shape)
    tremor = seeds.normal(
        num_examples * shape[1] * 2, seed, "emnist", "tremor", k
    ).reshape(num_examples, shape[1], 2)
    points = drawings.points[which] + 0.4 * habit[which] + 0.28 * tremor

    hand = seeds.normal(5, seed, "emnist", "hand", k)
    jitter = seeds.normal(
        6 * num_examples, seed, "emnist", "jitter", k
    ).reshape(6, num_examples)
    points = _lean(
        points,
        slant=0.15 + 0.2 * hand[0] + 0.06 * jitter[0],
        turns=0.012 * hand[1] + 0.008 * jitter[1],
        wide=1 + 0.12 * np.clip(hand[2], -2, 2) + 0.04 * jitter[2],
    )
    segments = strokes.trace(drawings, which, points)
    segments = _fit(
        segments,
        size=19.5 + 0.6 * np.clip(hand[3], -2, 2) + 0.6 * jitter[3],
        shift=0.5 * jitter[4:],
    )
    half_width = 1.2 + 0.3 * np.clip(hand[4], -2, 2) + 0.1 * jitter[2]
    image = strokes.ink(
        segments, drawings.num_segments[which], half_width, _SIDE
    )
    return label, np.rint(255 - 255 * image).astype(np.uint8)


def _lean(
    points: np.ndarray, slant: np.ndarray, turns: np.ndarray, wide: np.ndarray
) -> np.ndarray:
    """Shears, stretches and turns the control points of each example."""
    x = wide[:, None] * points[..., 0] - slant[:, None] * points[..., 1]
    y = points[..., 1]
    cos = portable_math.cos_turns(turns)[:, None]
    sin = portable_math.sin_turns(turns)[:, None]
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def _fit(
    segments: np.ndarray, size: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    """Scales each example to its box, and puts it in the middle."""
    low = segments.min(axis=(1, 2))
    high = segments.max(axis=(1, 2))
    scale = size / (high - low).max(axis=1)
    centre = _SIDE / 2 + np.clip(shift, -1.5, 1.5).T
    middle = (low + high) / 2
    return (segments - middle[:, None, None]) * scale[
        :, None, None, None
    ] + centre[:, None, None]
