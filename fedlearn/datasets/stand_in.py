"""Stand-ins for the published data sets, drawn offline.

Shapes, dtypes, parts, the form of ids and the sizes of clients are those of
the real data, with fewer clients. In them are coarse patterns and made-up
words: labels can be learned and clients differ, but accuracy on them says
nothing about the real data. The same bytes on every machine.
"""

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedlearn import portable_math, seeds
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.datasets.celeba_attributes import ATTRIBUTES
from fedlearn.partition.dirichlet_draws import dirichlet_draws

# Who is drawn, what differs between clients; and which of their examples.
_Key = tuple[seeds.Key, ...]
_Features = dict[str, np.ndarray]

_HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")
_NUM_WORDS = 1200
_NUM_TOPICS = 12
_THREE_PARTS = ("train", "heldout", "test")


class _StandIn(NamedTuple):
    """How a set is drawn."""

    # From a client's number, how many examples, and the keys of the client
    # and of the examples, to the stored features.
    examples: Callable[..., _Features]
    # Of each part, what clients have on average: all, or each.
    sizes: tuple[Any, ...]
    num_clients: int  # in the part `train`
    client_id: Callable[[int], str]
    spread: float = 0.0  # standard deviation of the logarithm of sizes
    # From part and number of clients, the clients' numbers.
    who: Callable[[str, int], Sequence[int]] = lambda part, num: range(num)


def draw(
    name: str, num_clients: int | None = None, seed: int = 0
) -> dict[str, FederatedDataset]:
    """The parts of a stand-in, with the stored features that are read.

    Args:
        name: Of the data set; also `"emnist_letters"` and
            `"celeba_examples"`, its other variants.
        num_clients: In the part `train`; others have accordingly many.
        seed: An integer.
    """
    made = _STAND_INS[name]
    num = made.num_clients if num_clients is None else num_clients
    names = ("train", "test") if len(made.sizes) == 2 else _THREE_PARTS
    parts = {}
    for part, mean in zip(names, made.sizes, strict=True):
        means = np.atleast_1d(mean)
        clients = {}
        for k in made.who(part, num):
            client: _Key = (seed, name, k)
            luck = seeds.normal(1, *client, part, "size") - made.spread / 2
            factor = portable_math.exp(made.spread * luck)[0]
            size = max(1, round(means[k % len(means)] * factor))
            clients[made.client_id(k)] = made.examples(
                k, size, client, (*client, part)
            )
        ordered = dict(sorted(clients.items()))
        parts[part] = FederatedDataset.from_clients(ordered)
    return parts


def counts(feature: str, separator: bytes) -> dict[str, int]:
    """How many people of Stack Overflow's stand-in use each word or tag."""
    people: Counter[bytes] = Counter()
    for client in draw("stackoverflow")["train"].values():
        people.update(set(separator.join(client[feature]).split(separator)))
    ordered = sorted(people.items(), key=lambda item: (-item[1], item[0]))
    return {word.decode(): count for word, count in ordered}


def _labels(n: int, classes: int, alpha: float, client: _Key, key: _Key) -> Any:
    """Labels of a client's own mix."""
    mix = dirichlet_draws(np.full(classes, alpha), 1, *client, "mix", classes)
    bounds = np.cumsum(mix[0])
    points = bounds[-1] * seeds.uniform(n, *key, "label", classes)
    return np.searchsorted(bounds[:-1], points, side="right")


@functools.cache
def _patterns(name: str, *shape: int) -> np.ndarray:
    size = int(np.prod(shape))
    return seeds.normal(size, "stand-in", name).reshape(shape)


def _images(
    grids: np.ndarray, noise: float, scale: int, client: _Key, key: _Key
) -> Any:
    """Grids of about 1 with noise, as bytes; a client has a light of its own.

    Also its own place: its images are moved by a part of a grid's cell.
    """
    luck = seeds.normal(grids.size, *key, "noise").reshape(grids.shape)
    pixels = (grids + noise * luck) / np.sqrt(1 + noise * noise)
    contrast, light, down, right = seeds.uniform(4, *client, "style")
    pixels = 100 + 60 * light + (40 + 40 * contrast) * pixels
    pixels = np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)
    pixels = pixels.repeat(scale, axis=1).repeat(scale, axis=2)
    return np.roll(pixels, (int(scale * down), int(scale * right)), (1, 2))


def _emnist(classes: int, k: int, n: int, client: _Key, key: _Key) -> _Features:
    label = _labels(n, classes, 20.0, client, key)
    grids = _patterns("emnist", 62, 7, 7)[label]
    pixels = _images(grids, 1.0, 4, client, key) / np.float32(255)
    return {"label": label.astype(np.int32), "pixels": pixels}


def _cifar100(k: int, n: int, client: _Key, key: _Key) -> _Features:
    coarse = _labels(n, 20, 0.1, client, key)
    label = 5 * coarse + _labels(n, 5, 10.0, client, key)
    grids = _patterns("coarse", 20, 8, 8, 3)[coarse]
    grids = 0.7 * (grids + _patterns("fine", 100, 8, 8, 3)[label])
    image = _images(grids, 3.0, 4, client, key)
    return {"coarse_label": coarse, "image": image, "label": label}


def _celeba(k: int, n: int, client: _Key, key: _Key) -> _Features:
    traits = seeds.uniform(len(ATTRIBUTES), *client, "traits") < 0.5
    moods = seeds.uniform(n * len(ATTRIBUTES), *key, "moods") < 0.15
    has = traits ^ moods.reshape(n, -1)
    # Every attribute has some cells of the picture.
    cells = np.arange(144) % len(ATTRIBUTES)
    signs = np.where(has[:, cells], 1.0, -1.0).reshape(n, 12, 12, 1)
    grids = signs * _patterns("celeba", 12, 12, 3)
    image = _images(grids, 0.5, 7, client, key)
    return {**dict(zip(ATTRIBUTES, has.T, strict=True)), "image": image}


def _word(i: int) -> str:
    """The i-th of 3,600 made-up words of two syllables."""
    first, second = i % 60, (7 * i + i // 60) % 60
    return "".join(
        "bdfgklmnprst"[s // 5] + "aeiou"[s % 5] for s in (first, second)
    )


def _sentences(topics: np.ndarray, client: _Key, key: _Key) -> list[list[str]]:
    """A sentence for each topic: a Markov chain of words, a client's own."""
    n, longest = len(topics), 20
    favourites = seeds.permutation(_NUM_WORDS, *client, "favourites")
    pace = 3 + 15 * seeds.uniform(1, *client, "pace")
    lengths = 3 + (pace * seeds.uniform(n, *key, "length")).astype(np.int64)
    draws = seeds.uniform(2 * longest * n, *key, "words").reshape(-1, 2, n)
    word = np.zeros(n, np.int64)
    words = []
    for kind, which in draws:
        early = (which * which * which * _NUM_WORDS).astype(np.int64)
        word = np.select(
            [kind < 0.3, kind < 0.55, kind < 0.9],
            [
                # A word has three usual successors.
                (37 * word + 101 * (3 * which).astype(np.int64)) % 300,
                favourites[early],
                early - early % _NUM_TOPICS + topics,
            ],
            early,
        )
        words.append(word)
    rows = np.stack(words, axis=1).tolist()
    return [
        [_word(i) for i in row[:length]]
        for row, length in zip(rows, lengths, strict=True)
    ]


def _objects(texts: Sequence[str]) -> np.ndarray:
    array = np.empty(len(texts), object)
    array[:] = [text.encode() for text in texts]
    return array


def _shakespeare(k: int, n: int, client: _Key, key: _Key) -> _Features:
    role = np.full(n, k % _NUM_TOPICS)
    marks = np.array([".", "?", "!", ",\n"])[_labels(n, 4, 1.0, client, key)]
    lines = [
        " ".join(words).capitalize() + mark
        for words, mark in zip(
            _sentences(role, client, key), marks.tolist(), strict=True
        )
    ]
    return {"snippets": _objects(lines)}


def _stackoverflow(k: int, n: int, client: _Key, key: _Key) -> _Features:
    # Three sentences make a post, and share all but their tokens.
    post = np.arange(n) // 3
    posts = int(post[-1]) + 1
    topics = _labels(posts, _NUM_TOPICS, 0.3, client, key)
    tokens = _sentences(topics[post], client, key)
    titles = _sentences(topics, client, (*key, "title"))
    narrow = seeds.uniform(4 * posts, *key, "post")[posts : 2 * posts]
    # Half of the posts have a narrower tag beside the topic's.
    tags = []
    for topic, w in zip(topics.tolist(), narrow.tolist(), strict=True):
        tag = _word(topic)
        tags.append(f"{tag}|{tag}-{int(8 * w)}" if w < 0.5 else tag)
    return {
        "tags": _objects(tags)[post],
        "title": _objects([" ".join(words) for words in titles])[post],
        "tokens": _objects([" ".join(words) + " ." for words in tokens]),
    }


def _heart_disease(k: int, n: int, client: _Key, key: _Key) -> _Features:
    # What a hospital's patients have in common, and each one's own.
    common = 0.3 * seeds.normal(10, *client, "common")[:, None]
    age, sex, pain, pressure, chol, sugar, ecg, rate, angina, st = (
        common + seeds.normal(10 * n, *key, "patients").reshape(10, n)
    )
    x = np.stack(
        [
            np.rint(54 + 9 * age),
            sex > -0.7,
            (pain > -1.4) & (pain <= -0.7),
            (pain > -0.7) & (pain <= 0),
            pain > 0,
            np.rint(132 + 18 * pressure),
            # As in the real set: not measured, and written down as 0.
            np.rint(240 + 50 * chol) * (_HOSPITALS[k] != "switzerland"),
            sugar > 1,
            (ecg > 0.7) & (ecg <= 1),
            ecg > 1,
            np.rint(140 + 24 * rate),
            angina > 0.4,
            np.rint(10 * np.maximum(0, 0.8 + st)) / 10,
        ],
        axis=1,
    )
    odds = 0.3 * age + 0.8 * (sex > -0.7) + 1.4 * (pain > 0) - 0.6 * rate
    odds += 1.0 * (angina > 0.4) + 0.7 * st - (1.0, 1.1, -0.5, 0.1)[k]
    sick = odds + seeds.normal(n, *key, "luck") > 0
    return {"x": x.astype(np.float32), "y": sick.astype(np.int64)}


def _stackoverflow_users(part: str, num: int) -> Sequence[int]:
    # Those whose number is divisible by 10 are held out.
    if part == "heldout":
        return range(10, 10 * max(1, num // 9) + 1, 10)
    train = [1 + k + k // 9 for k in range(num)]
    return train if part == "train" else train[::2]


def _others(part: str, num: int) -> Sequence[int]:
    """A fifth as many other clients for testing."""
    return range(num) if part == "train" else range(1000, 1000 + -(-num // 5))


def _writer(k: int) -> str:
    return f"f{k:04d}_{37 * k % 50:02d}"


def _role(k: int) -> str:
    return f"THE_TRAGEDY_OF_{_word(90 + k % 8)}_{_word(200 + k)}".upper()


_DIGITS = functools.partial(_emnist, 10)
_CHARACTERS = functools.partial(_emnist, 62)

_STAND_INS = {
    "celeba": _StandIn(_celeba, (22, 22), 20, str, 0.35, _others),
    "celeba_examples": _StandIn(_celeba, (19, 3), 20, str, 0.35),
    "cifar100": _StandIn(
        _cifar100,
        (100, 100),
        50,
        lambda k: str(k % 1000),  # train and test both begin with 0
        who=_others,
    ),
    "emnist": _StandIn(_DIGITS, (101, 12), 100, _writer, 0.15),
    "emnist_letters": _StandIn(_CHARACTERS, (198, 23), 100, _writer, 0.4),
    "heart_disease": _StandIn(
        _heart_disease,
        ((199, 172, 30, 85), (104, 89, 16, 45)),
        4,
        _HOSPITALS.__getitem__,
    ),
    "shakespeare": _StandIn(_shakespeare, (22, 3), 60, _role, 1.0),
    "stackoverflow": _StandIn(
        _stackoverflow,
        (120, 120, 60),
        50,
        "{:08d}".format,
        0.6,
        _stackoverflow_users,
    ),
}
