"""Small pictures of 100 kinds of things, in 20 families that look related."""

import functools

import numpy as np

from fedlearn import portable_math, seeds
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.datasets.stand_ins.counts import check_count
from fedlearn.datasets.stand_ins.waves import grain, wave
from fedlearn.partition.dirichlet_draws import dirichlet_draws

_SIDE = 32
_NUM_COARSE = 20
_NUM_FINE = 5
_CLIENT_SIZE = 100
# How many random numbers say what a label looks like.
_NUM_LOOKS = 16


def coarse_of(label: np.ndarray) -> np.ndarray:
    """The coarse label of each label: five labels in a row have the same.

    Example:

    >>> coarse_of(np.array([0, 4, 5, 99])).tolist()
    [0, 0, 1, 19]
    """
    return label // _NUM_FINE


def draw_client(
    k: int,
    num_examples: int = _CLIENT_SIZE,
    part: str = "train",
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """The pictures of one client.

    A thing has a shape (round, pointed, square or starred), stripes, and
    colours of its own and of its ground. The coarse label decides the kind
    of shape and the hues, the label what is special about them; position,
    size, turn, light and noise are those of each picture.

    The labels follow the Pachinko allocation (see `fl.partition.pachinko`)
    with an endless stock: the client's mix of coarse labels is drawn from
    `Dir(0.1)`, that of the labels in each from `Dir(10)`.

    Args:
        k: Which client.
        num_examples: How many pictures.
        part: Whose clients: those of `"train"` and `"test"` are different.
        seed: An integer.

    Returns:
        `coarse_label` and `label`, `(n,)` `int64`; `image`,
        `(n, 32, 32, 3)` `uint8`.

    Raises:
        ValueError: If `num_examples` is not positive, or there is no such
            part.

    Example:

    >>> client = draw_client(0, num_examples=4)
    >>> client["image"].shape, client["image"].dtype
    ((4, 32, 32, 3), dtype('uint8'))
    """
    check_count("num_examples", num_examples)
    if part not in ("train", "test"):
        raise ValueError(f"part is {part!r}. Expected 'train' or 'test'.")
    key = (seed, "cifar100", part, k)
    label = _draw_labels(num_examples, *key)
    return {
        "coarse_label": coarse_of(label),
        "image": _draw_images(label, *key),
        "label": label,
    }


def draw(
    num_clients: int = 50, num_test_clients: int = 10, seed: int = 0
) -> dict[str, FederatedDataset]:
    """Clients of 100 pictures each, other ones for training and testing.

    Args:
        num_clients: Number of clients in `train`.
        num_test_clients: Number of clients in `test`.
        seed: An integer.

    Returns:
        `train` and `test`; clients are called `"0"`, `"1"`, ... in both.

    Raises:
        ValueError: If a number is not positive.

    Example:

    >>> parts = draw(num_clients=2, num_test_clients=1)
    >>> parts["train"].client_ids, parts["test"].client_ids
    (('0', '1'), ('0',))
    """
    check_count("num_clients", num_clients)
    check_count("num_test_clients", num_test_clients)
    parts = {"train": num_clients, "test": num_test_clients}
    return {
        part: FederatedDataset.from_clients(
            {str(k): draw_client(k, part=part, seed=seed) for k in range(count)}
        )
        for part, count in parts.items()
    }


def _draw_labels(num_examples: int, *key: seeds.Key) -> np.ndarray:
    roots = dirichlet_draws(np.full(_NUM_COARSE, 0.1), 1, *key, "coarse")
    leaves = dirichlet_draws(
        np.full(_NUM_FINE, 10.0), _NUM_COARSE, *key, "fine"
    )
    bounds = np.cumsum((roots.T * leaves).reshape(-1))
    points = seeds.uniform(num_examples, *key, "label") * bounds[-1]
    return np.searchsorted(bounds[:-1], points, side="right")


@functools.cache
def _class_looks() -> dict[str, np.ndarray]:
    """What is the same in all pictures of a label: `(100, ...)` arrays.

    These do not depend on the seed: a label means the same everywhere.
    """
    key = ("cifar100", "looks")
    coarse = seeds.uniform(_NUM_COARSE * _NUM_LOOKS, *key, "coarse")
    fine = seeds.uniform(_NUM_COARSE * _NUM_FINE * _NUM_LOOKS, *key, "fine")
    family = np.repeat(coarse.reshape(_NUM_COARSE, -1), _NUM_FINE, axis=0)
    own = fine.reshape(_NUM_COARSE * _NUM_FINE, -1) - 0.5
    # Hues go around all families; the label turns them a little.
    place = np.repeat(np.arange(_NUM_COARSE) / _NUM_COARSE, _NUM_FINE)
    member = np.tile(np.arange(_NUM_FINE), _NUM_COARSE)
    hues = np.stack(
        [
            place + 0.06 * own[:, 0],
            family[:, 1] + 0.15 * own[:, 1],
            family[:, 2] + 0.15 * own[:, 2],
        ],
        axis=1,
    )
    channels = hues[..., None] + np.arange(3) / 3
    light = 0.35 + 0.3 * family[:, 3:6, None] + 0.12 * own[:, 3:6, None]
    return {
        # Thing, stripes and ground; red, green and blue.
        "colours": light + 0.3 * portable_math.cos_turns(channels),
        # How many corners, 0 for none, and how deep the notches between.
        "corners": np.array([0, 3, 4, 5])[np.arange(100) // 5 % 4] + 0.0,
        "depth": 0.05 + 0.3 * family[:, 7] * (1 + own[:, 7]),
        "stretch": 0.55 + 0.15 * member + 0.2 * own[:, 8],
        "stripes": 1 + 2 * family[:, 9] + 0.7 * member,
        "slope": family[:, 10] + 0.2 * own[:, 10],
        "contrast": 0.9 * np.abs(2 * own[:, 11]),
        "ground": 0.5 + 2.5 * family[:, 12] + own[:, 12],
    }


def _draw_images(label: np.ndarray, *key: seeds.Key) -> np.ndarray:
    n = len(label)
    looks = {
        name: value[label].astype(np.float32)
        for name, value in _class_looks().items()
    }
    jitter = seeds.normal(8 * n, *key, "jitter").reshape(8, n, 1, 1)
    jitter = jitter.astype(np.float32)

    def per_image(name: str) -> np.ndarray:
        return looks[name][:, None, None]

    axis = np.arange(-_SIDE + 1, _SIDE, 2, dtype=np.float32) / _SIDE
    x = axis[None, None, :] - 0.22 * jitter[0]
    y = axis[None, :, None] - 0.22 * jitter[1]
    cos, sin = wave(0.08 * jitter[2]), wave(0.06 * jitter[2] - 0.25)
    size = np.clip(0.62 + 0.1 * jitter[3], 0.3, 0.95)
    u = (cos * x + sin * y) / (size * per_image("stretch"))
    v = (cos * y - sin * x) / size
    radius = np.sqrt(u * u + v * v)
    # The angle itself is not needed, only the cosine of a multiple of it.
    corner = _cos_multiple(
        v / np.maximum(radius, 1e-6), looks["corners"].astype(int)
    )
    edge = 1 + per_image("depth") * corner
    inside = np.clip((edge - radius) * size * (_SIDE / 3) + 0.5, 0, 1)

    slope = per_image("slope")
    along = u * wave(slope) + v * wave(slope - 0.25)
    stripe = wave(along * per_image("stripes") / 2 + 0.1 * jitter[4])
    stripe = per_image("contrast") * (0.5 + 0.5 * stripe)
    ripple = wave(per_image("ground") * (y + 0.4 * x) + jitter[5])
    # Light from one side, of some strength and tint.
    shade = 1 + 0.15 * jitter[6] + 0.12 * jitter[7] * axis[None, None, :]
    tint = 0.1 * seeds.normal(3 * n, *key, "tint").astype(np.float32)

    image = np.empty((n, _SIDE, _SIDE, 3), np.float32)
    colours = looks["colours"].transpose(1, 2, 0)[..., None, None]
    for channel, (thing, marks, ground) in enumerate(
        colours.transpose(1, 0, 2, 3, 4)
    ):
        front = thing + stripe * (marks - thing)
        back = ground + np.float32(0.12) * ripple
        light = (back + inside * (front - back)) * shade
        image[..., channel] = light + tint.reshape(n, 3)[:, channel, None, None]
    raw = seeds.bits(image.size // 2, *key, "noise")
    image += np.float32(0.09) * grain(image.shape, raw)
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


def _cos_multiple(cosine: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The cosine of `times[i]` times the angle, by Chebyshev's recurrence."""
    before, now = np.ones_like(cosine), cosine
    result = np.where(times[:, None, None] == 0, np.float32(0), cosine)
    for multiple in range(2, int(times.max(initial=0)) + 1):
        before, now = now, 2 * cosine * now - before
        result = np.where(times[:, None, None] == multiple, now, result)
    return result
