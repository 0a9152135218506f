"""Portraits, painted layer upon layer from attributes and a geometry."""

from collections.abc import Callable, Mapping

import numpy as np

from fedlearn import seeds
from fedlearn.datasets.stand_ins.waves import grain, wave

SIDE = 84

Flags = Mapping[str, np.ndarray]  # attribute name -> (n,) bool
Size = np.ndarray | float  # (n, 1, 1), or the same for all

_SKINS = ((0.93, 0.78, 0.67), (0.85, 0.65, 0.5), (0.55, 0.38, 0.27))
_PALE = (0.97, 0.88, 0.83)
_HAIR = {
    "black_hair": (0.09, 0.08, 0.09),
    "brown_hair": (0.38, 0.23, 0.13),
    "blond_hair": (0.86, 0.71, 0.4),
    "gray_hair": (0.66, 0.66, 0.67),
}
_OTHER_HAIR = (0.6, 0.27, 0.12)


class _Canvas:
    """`(n, SIDE, SIDE, 3)` images that are painted over.

    `u` goes right and `v` down, in heads: the face is about 1 high on both
    sides of the middle, and turns and moves with the head.
    """

    def __init__(self, colour: np.ndarray, u: np.ndarray, v: np.ndarray):
        self.u, self.v = u, v
        # Channels first: each is one block to paint on.
        self.image = np.empty((3, *u.shape), np.float32)
        self.image[:] = colour.T[:, :, None, None]

    def paint(
        self,
        mask: np.ndarray | Callable[[], np.ndarray],
        colour: np.ndarray,
        where: np.ndarray,
    ) -> None:
        """Lays `(n, 3)` colours over the images `where` it is true.

        A mask that few people need is a function: it is not computed for the
        others.
        """
        if not where.any():
            return
        if callable(mask):
            mask = mask()
        mask = mask * where.astype(np.float32)[:, None, None]
        for channel, value in zip(self.image, colour.T, strict=True):
            channel += mask * (value[:, None, None] - channel)


def _disc(x: np.ndarray, y: np.ndarray, wide: Size, high: Size) -> np.ndarray:
    """1 in an ellipse about the place where x and y are 0."""
    a, b = x / wide, y / high
    return _soft(
        (np.sqrt(a * a + b * b) - 1) * np.minimum(wide, high, dtype=np.float32)
    )


def _band(distance: np.ndarray, half_width: Size) -> np.ndarray:
    """1 within `half_width` of where `distance` is 0."""
    return _soft(np.abs(distance) - half_width)


def _soft(distance: np.ndarray) -> np.ndarray:
    """1 where a signed distance is negative, over an edge of a pixel."""
    return np.clip(0.5 - distance * np.float32(SIDE / 3), 0, 1)


def _column(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32)[:, None, None]


def _vector(values: tuple[float, ...]) -> np.ndarray:
    return np.array(values, np.float32)


def _rows(colour: tuple[float, ...], n: int) -> np.ndarray:
    return np.tile(_vector(colour), (n, 1))


def paint_faces(
    flags: Flags, who: tuple[seeds.Key, ...], shot: tuple[seeds.Key, ...]
) -> np.ndarray:
    """Portraits of one person.

    Args:
        flags: The attributes of `fedlearn.datasets.stand_ins.celeba`.
        who: Key of what stays the same: the face and its colours.
        shot: Key of what does not: pose, light and background.

    Returns:
        `(n, 84, 84, 3)` array, `uint8`.
    """
    n = len(flags["male"])
    face = seeds.uniform(16, *who, "face").astype(np.float32) - np.float32(0.5)
    pose = seeds.normal(6 * n, *shot, "pose").astype(np.float32)
    scene = seeds.uniform(9 * n, *shot, "scene").astype(np.float32)
    canvas = _stand(pose.reshape(6, n), scene.reshape(9, n))

    skin = _vector(_SKINS[int((face[0] + 0.5) * 2.99)]) + 0.06 * face[1]
    skin = np.where(flags["pale_skin"][:, None], _vector(_PALE), skin)
    hair = _rows(_OTHER_HAIR, n) + 0.05 * face[2]
    for name, colour in _HAIR.items():
        hair = np.where(
            flags[name][:, None], _vector(colour) + 0.05 * face[2], hair
        )
    male, chubby = flags["male"], flags["chubby"]
    wide = 0.56 + 0.05 * face[3] + 0.05 * male + 0.08 * chubby
    wide = wide - 0.05 * flags["oval_face"]
    high = 0.8 + 0.06 * face[4] + 0.05 * flags["oval_face"]
    taper = 0.3 + 0.08 * face[5] - 0.2 * male - 0.1 * chubby
    size = {"wide": _column(wide), "high": _column(high)}
    # The width of the head at each height: the jaw is narrower.
    jaw = 1 - _column(taper) * np.maximum(canvas.v, 0)

    _paint_behind(canvas, flags, skin, hair, size, scene.reshape(9, n))
    a, b = canvas.u / (size["wide"] * jaw), canvas.v / size["high"]
    radius = np.sqrt(a * a + b * b)
    inside = _soft((radius - 1) * size["wide"])
    yes = np.ones(n, bool)
    canvas.paint(inside, skin, yes)
    edge = np.clip(radius * radius, 0, 1)
    canvas.paint(0.25 * inside * edge * edge, 0.5 * skin, yes)
    _paint_skin(canvas, flags, inside, skin, hair)
    _paint_eyes(canvas, flags, face, hair)
    _paint_nose(canvas, flags, face, skin)
    _paint_mouth(canvas, flags, face, skin, hair)
    _paint_hair(canvas, flags, face, hair, radius, size)
    _paint_worn(canvas, flags, face, scene.reshape(9, n), size)
    return _develop(canvas.image, flags["blurry"], pose.reshape(6, n), *shot)


def _stand(pose: np.ndarray, scene: np.ndarray) -> _Canvas:
    """An empty picture with the head somewhere near the middle."""
    axis = np.arange(-SIDE + 1, SIDE, 2, dtype=np.float32) / SIDE
    x = axis[None, None, :] * 1.12 - 0.05 * _column(pose[0])
    y = axis[None, :, None] * 1.12 - 0.04 * _column(pose[1]) - 0.05
    turns = 0.012 * _column(pose[2])
    cos, sin = wave(turns), wave(turns - 0.25)
    scale = 1 + 0.05 * np.clip(_column(pose[3]), -2, 2)
    canvas = _Canvas(
        0.2 + 0.7 * scene[:3].T,
        (cos * x + sin * y) / scale,
        (cos * y - sin * x) / scale,
    )
    canvas.image *= 1 - 0.15 * axis[:, None]
    return canvas


def _paint_behind(
    canvas: _Canvas,
    flags: Flags,
    skin: np.ndarray,
    hair: np.ndarray,
    size: Mapping[str, np.ndarray],
    scene: np.ndarray,
) -> None:
    """Long hair, neck, clothes, ears, and what hangs on them."""
    n = len(skin)
    u, v, wide = canvas.u, canvas.v, size["wide"]
    yes = np.ones(n, bool)
    # Waves make the outline of the hair go in and out.
    curl = 0.04 * wave(2.2 * v) * _column(flags["wavy_hair"])

    def long_hair() -> np.ndarray:
        fall = _soft(np.maximum(np.abs(u) - wide - 0.2 - curl, -0.1 - v))
        return np.maximum(fall, _disc(u, v + 0.1, wide + 0.2, 0.9))

    canvas.paint(long_hair, 0.85 * hair, ~flags["male"] & ~flags["bald"])
    neck = _soft(np.maximum(np.abs(u) - 0.55 * wide, 0.3 - v))
    canvas.paint(neck, 0.85 * skin, yes)
    clothes = _disc(u, v - 1.5, 1.05, 0.55)
    canvas.paint(clothes, 0.1 + 0.6 * scene[3:6].T, yes)

    def tie() -> np.ndarray:
        return _soft(np.maximum(np.abs(u) - 0.08 - 0.1 * (v - 1), 0.9 - v))

    def chain() -> np.ndarray:
        line = _band(v - 0.93 + 0.6 * u * u, 0.035)
        return line * _soft(np.abs(u) - wide)

    def chin() -> np.ndarray:
        line = _band(v - 0.93 + 0.5 * u * u, 0.02)
        return line * neck

    canvas.paint(tie, _rows((0.7, 0.1, 0.15), n), flags["wearing_necktie"])
    canvas.paint(chain, _rows((0.95, 0.8, 0.3), n), flags["wearing_necklace"])
    canvas.paint(chin, 0.6 * skin, flags["double_chin"])
    # Both sides at once: what is the same on both depends on |u| alone.
    off = np.abs(u) - wide

    def ear() -> np.ndarray:
        return _disc(off, v, 0.09, 0.17)

    def drop() -> np.ndarray:
        return _disc(off - 0.03, v - 0.27, 0.06, 0.08)

    canvas.paint(ear, 0.9 * skin, flags["male"] | flags["bald"])
    canvas.paint(drop, _rows((1, 0.9, 0.45), n), flags["wearing_earrings"])


def _paint_skin(
    canvas: _Canvas,
    flags: Flags,
    inside: np.ndarray,
    skin: np.ndarray,
    hair: np.ndarray,
) -> None:
    """Cheeks, and what grows on a face."""
    u, v = canvas.u, canvas.v
    x, y = np.abs(u) - 0.3, v - 0.2

    def cheeks() -> np.ndarray:
        return 0.7 * np.clip(1 - (x * x + y * y) / 0.03, 0, 1)

    def bones() -> np.ndarray:
        return 0.6 * np.clip(1 - (x * x + 4 * y * y) / 0.03, 0, 1)

    red = skin * _vector((1.02, 0.7, 0.7))
    canvas.paint(cheeks, red, flags["rosy_cheeks"])
    bright = np.minimum(1.15 * skin, 1)
    canvas.paint(bones, bright, flags["high_cheekbones"])
    low = np.clip((v - 0.15 + 0.35 * u * u) * 6, 0, 1) * inside
    canvas.paint(0.35 * low, 0.5 * skin, flags["five_o_clock_shadow"])
    beard = low * _soft(0.45 - v - 0.8 * u * u)
    grown = ~flags["no_beard"] & ~flags["goatee"]
    canvas.paint(0.9 * beard, hair, grown & ~flags["five_o_clock_shadow"])

    def goatee() -> np.ndarray:
        return 0.9 * _disc(u, v - 0.68, 0.16, 0.14)

    canvas.paint(goatee, hair, flags["goatee"])


def _paint_eyes(
    canvas: _Canvas, flags: Flags, face: np.ndarray, hair: np.ndarray
) -> None:
    n = len(hair)
    u, v = canvas.u, canvas.v
    yes = np.ones(n, bool)
    apart, level = 0.25 + 0.05 * face[6], -0.08 + 0.06 * face[7]
    open_ = _column(0.075 + 0.02 * face[8] - 0.035 * flags["narrow_eyes"])
    iris = _rows((0.25, 0.2, 0.15), n) + _vector((0, 0.1, 0.3)) * face[9]
    thick = _column(0.03 + 0.012 * face[10] + 0.03 * flags["bushy_eyebrows"])
    arch = _column(0.03 + 0.09 * flags["arched_eyebrows"])
    shadow = _rows((0.45, 0.25, 0.45), n)
    x, y = np.abs(u) - apart, v - level
    t = x / np.float32(0.17)

    def lid() -> np.ndarray:
        return 0.7 * _disc(x, y + 0.03, 0.16, 0.11)

    def bag() -> np.ndarray:
        line = _band(y - 0.17 + 0.06 * t * t, 0.02)
        return 0.5 * line * _soft(np.abs(x) - 0.12)

    canvas.paint(lid, shadow, flags["heavy_makeup"])
    lashes = _disc(x, y, 0.13, open_ + 0.015)
    canvas.paint(lashes, _rows((0.15, 0.1, 0.1), n), yes)
    white = _disc(x, y, 0.12, open_)
    canvas.paint(white, _rows((0.97, 0.97, 0.97), n), yes)
    canvas.paint(_disc(x, y, 0.055, 0.07) * white, iris, yes)
    canvas.paint(bag, 0.5 * iris, flags["bags_under_eyes"])
    brow = _band(y + 0.17 + arch * (1 - 2 * t * t), thick)
    canvas.paint(brow * _soft(np.abs(x) - 0.17), 0.6 * hair, yes)


def _paint_nose(
    canvas: _Canvas, flags: Flags, face: np.ndarray, skin: np.ndarray
) -> None:
    u, v = canvas.u, canvas.v
    yes = np.ones(len(skin), bool)
    end = 0.26 + 0.06 * face[11]
    half = 0.09 + 0.02 * face[12] + 0.06 * flags["big_nose"]
    half = _column(half - 0.03 * flags["pointy_nose"])
    ridge = _band(u - half * (v + 0.1), 0.02)
    ridge = ridge * _soft(np.abs(v - end / 2) - end / 2)
    canvas.paint(0.4 * ridge, 0.6 * skin, yes)
    tip = _disc(u, v - end, half, 0.06)
    canvas.paint(0.35 * tip, 0.55 * skin, yes)
    holes = _disc(np.abs(u) - half * 0.5, v - end - 0.02, half * 0.25, 0.02)
    canvas.paint(holes, 0.3 * skin, yes)


def _paint_mouth(
    canvas: _Canvas,
    flags: Flags,
    face: np.ndarray,
    skin: np.ndarray,
    hair: np.ndarray,
) -> None:
    n = len(skin)
    u, v = canvas.u, canvas.v
    smile = flags["smiling"]
    half = _column(0.2 + 0.03 * face[13] + 0.08 * smile)
    level = 0.49 + 0.05 * face[14]
    t = np.clip(u / half, -1, 1)
    # The corners go up in a smile, and a little down without.
    middle = level + 0.03 - _column(0.15 * smile - 0.04) * (t * t - 0.4)
    lips = _column(0.045 + 0.015 * face[15] + 0.03 * flags["big_lips"])
    gap = _column(0.06 * flags["mouth_slightly_open"] + 0.0)
    taper = 1 - t * t
    within = _soft(np.abs(u) - half)
    red = skin * _vector((0.85, 0.6, 0.6))
    red = np.where(
        flags["wearing_lipstick"][:, None], _vector((0.78, 0.08, 0.2)), red
    )
    yes = np.ones(n, bool)
    mouth = _band(v - middle, (lips + gap) * taper + 0.012) * within
    canvas.paint(mouth, red, yes)
    inner = _band(v - middle, gap * taper + 0.012) * within
    canvas.paint(inner, _rows((0.3, 0.08, 0.08), n), yes)

    def teeth() -> np.ndarray:
        white = _band(v - middle + 0.2 * gap, 0.65 * gap * taper)
        return white * within

    def growth() -> np.ndarray:
        above = _band(v - level + 0.1 - 0.3 * u * u, 0.045)
        return above * _soft(np.abs(u) - 0.24)

    bright = _rows((0.98, 0.98, 0.95), n)
    canvas.paint(teeth, bright, flags["mouth_slightly_open"])
    canvas.paint(growth, hair, flags["mustache"])


def _paint_hair(
    canvas: _Canvas,
    flags: Flags,
    face: np.ndarray,
    hair: np.ndarray,
    radius: np.ndarray,
    size: Mapping[str, np.ndarray],
) -> None:
    u, v = canvas.u, canvas.v
    curl = 0.05 * wave(2.5 * u) * _column(flags["wavy_hair"])
    line = -0.42 + 0.05 * face[6] + 0.16 * flags["bangs"]
    line = _column(line - 0.2 * flags["receding_hairline"])
    # Parted at the side, if straight.
    part = 0.15 * u * _column(flags["straight_hair"])
    bow = 0.6 * u * u * _column(~flags["bangs"])
    outside = (radius - 1) * size["wide"] - 0.1 - curl
    cap = _soft(np.maximum(outside, v - line - bow - part - curl))
    cap = cap * _soft(v - 0.05)
    canvas.paint(cap, hair, ~flags["bald"])
    strand = 0.5 + 0.5 * wave(6 * u + 1.5 * v)
    canvas.paint(0.25 * cap * strand, 0.5 * hair, ~flags["bald"])

    def sideburns() -> np.ndarray:
        strip = np.abs(np.abs(u) - size["wide"] + 0.03) - 0.045
        return _soft(np.maximum(strip, np.abs(v - 0.05) - 0.25))

    canvas.paint(sideburns, hair, flags["sideburns"])


def _paint_worn(
    canvas: _Canvas,
    flags: Flags,
    face: np.ndarray,
    scene: np.ndarray,
    size: Mapping[str, np.ndarray],
) -> None:
    """Glasses and hats."""
    n = len(flags["male"])
    apart, level = 0.25 + 0.05 * face[6], -0.08 + 0.06 * face[7]
    frame = _rows((0.08, 0.08, 0.1), n) + 0.3 * np.maximum(face[1], 0)
    x, y = np.abs(canvas.u) - apart, canvas.v - level

    def glasses() -> np.ndarray:
        rims = _disc(x, y, 0.21, 0.18) - _disc(x, y, 0.165, 0.135)
        # From rim to rim, and from the rims to the ears.
        between = np.maximum(x + apart - size["wide"], 0.19 - np.abs(x))
        bar = _band(y, 0.025) * _soft(between)
        return np.maximum(rims, bar)

    def crown() -> np.ndarray:
        dome = _disc(canvas.u, canvas.v + 0.5, size["wide"] + 0.13, 0.55)
        return dome * _soft(canvas.v + 0.42)

    def brim() -> np.ndarray:
        return _disc(canvas.u, canvas.v + 0.42, size["wide"] + 0.25, 0.07)

    canvas.paint(glasses, frame, flags["eyeglasses"])
    colour = scene[6:9].T
    canvas.paint(crown, 0.8 * colour, flags["wearing_hat"])
    canvas.paint(brim, 0.5 * colour, flags["wearing_hat"])


def _develop(
    image: np.ndarray, blurry: np.ndarray, pose: np.ndarray, *shot: seeds.Key
) -> np.ndarray:
    """Light, blur and noise; then bytes, channels last."""
    image *= 1 + 0.08 * np.clip(_column(pose[4]), -2, 2)
    tint = _vector((1, 0, -1)) * np.float32(0.02)
    image += tint[:, None, None, None] * _column(pose[5])
    for axis in (2, 3):
        soft = image[:, blurry]
        for shift in (-3, -2, -1, 1, 2, 3):
            soft = soft + np.roll(image[:, blurry], shift, axis)
        image[:, blurry] = soft / 7
    n = image.shape[1]
    raw = seeds.bits(image.size // 2, *shot, "noise")
    image += np.float32(0.02) * grain((3, n, SIDE, SIDE), raw)
    whole = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
    return np.ascontiguousarray(whole.transpose(1, 2, 3, 0))
