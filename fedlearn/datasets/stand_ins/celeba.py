"""Painted portraits with 40 attributes, each client one person."""

from typing import Any

import numpy as np

from fedlearn import seeds
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.datasets.stand_ins.counts import check_count, client_size
from fedlearn.datasets.stand_ins.faces import paint_faces

ATTRIBUTES = (
    "five_o_clock_shadow",
    "arched_eyebrows",
    "attractive",
    "bags_under_eyes",
    "bald",
    "bangs",
    "big_lips",
    "big_nose",
    "black_hair",
    "blond_hair",
    "blurry",
    "brown_hair",
    "bushy_eyebrows",
    "chubby",
    "double_chin",
    "eyeglasses",
    "goatee",
    "gray_hair",
    "heavy_makeup",
    "high_cheekbones",
    "male",
    "mouth_slightly_open",
    "mustache",
    "narrow_eyes",
    "no_beard",
    "oval_face",
    "pale_skin",
    "pointy_nose",
    "receding_hairline",
    "rosy_cheeks",
    "sideburns",
    "smiling",
    "straight_hair",
    "wavy_hair",
    "wearing_earrings",
    "wearing_hat",
    "wearing_lipstick",
    "wearing_necklace",
    "wearing_necktie",
    "young",
)

# How many people have what stays with a person: women, men.
_OF_PERSON = {
    "arched_eyebrows": (0.4, 0.05),
    "bags_under_eyes": (0.12, 0.3),
    "bangs": (0.22, 0.06),
    "big_lips": (0.3, 0.15),
    "big_nose": (0.1, 0.35),
    "bushy_eyebrows": (0.05, 0.25),
    "chubby": (0.04, 0.1),
    "narrow_eyes": (0.11, 0.11),
    "oval_face": (0.3, 0.2),
    "pale_skin": (0.06, 0.03),
    "pointy_nose": (0.3, 0.2),
    "straight_hair": (0.2, 0.2),
    "young": (0.85, 0.65),
}

# How often a picture shows what changes from one to the next.
_OF_PICTURE = {
    "blurry": (0.05, 0.05),
    "eyeglasses": (0.1, 0.25),
    "heavy_makeup": (0.6, 0.0),
    "mouth_slightly_open": (0.4, 0.4),
    "rosy_cheeks": (0.12, 0.0),
    "smiling": (0.52, 0.42),
    "wearing_earrings": (0.3, 0.02),
    "wearing_hat": (0.03, 0.08),
    "wearing_lipstick": (0.75, 0.0),
    "wearing_necklace": (0.2, 0.0),
    "wearing_necktie": (0.0, 0.17),
}


def draw_client(
    k: int, num_examples: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """The portraits of one person.

    The shape of the face, skin and hair are the person's; smile, glasses and
    what is worn come and go, more often with some people than with others;
    pose, light and background are those of each picture. All attributes but
    `attractive` and `young` can be seen, `male` by hair, jaw and beard.

    Args:
        k: Which person.
        num_examples: How many portraits.
        seed: An integer.

    Returns:
        By name: `image`, `(n, 84, 84, 3)` `int64` from 0 to 255, and each of
        `ATTRIBUTES`, `(n,)` `bool`.

    Raises:
        ValueError: If `num_examples` is not positive.

    Example:

    >>> person = draw_client(0, num_examples=2)
    >>> person["image"].shape, person["smiling"].dtype
    ((2, 84, 84, 3), dtype('bool'))
    """
    return _widened(_draw_bytes(k, num_examples, seed))


def draw(
    num_clients: int = 20, split_by: str = "clients", seed: int = 0
) -> dict[str, FederatedDataset]:
    """People with some 21 portraits each, at least 5.

    Args:
        num_clients: Number of people in `train`.
        split_by: `"clients"`, for a ninth as many other people in `test`; or
            `"examples"`, for the same people with 11 % of their portraits.
        seed: An integer.

    Returns:
        `train` and `test`. Images are kept as bytes, and made `int64` when
        they are read.

    Raises:
        ValueError: If `num_clients` is not positive, or `split_by` is
            neither.

    Example:

    >>> {part: len(data) for part, data in draw(num_clients=2).items()}
    {'train': 2, 'test': 1}
    """
    check_count("num_clients", num_clients)
    if split_by == "examples":
        train, test = _people(range(num_clients), seed).split_examples(
            0.886, seed
        )
        return {"train": train, "test": test}
    if split_by != "clients":
        raise ValueError(
            f"split_by is {split_by!r}. Expected 'clients' or 'examples'."
        )
    total = num_clients + max(1, num_clients // 9)
    return {
        "train": _people(range(num_clients), seed),
        "test": _people(range(num_clients, total), seed),
    }


def _people(which: range, seed: int) -> FederatedDataset:
    people = {}
    for k in sorted(which, key=str):
        size = client_size(22, 0.35, 5, 35, seed, "celeba", "size", k)
        people[str(k)] = _draw_bytes(k, size, seed)
    return FederatedDataset.from_clients(people).map(_widened, same_length=True)


def _widened(stored: dict[str, Any]) -> dict[str, np.ndarray]:
    return {**stored, "image": stored["image"].astype(np.int64)}


def _draw_bytes(k: int, num_examples: int, seed: int) -> dict[str, np.ndarray]:
    check_count("num_examples", num_examples)
    who = (seed, "celeba", "person", k)
    shot = (seed, "celeba", "portrait", k)
    flags = _draw_flags(num_examples, who, shot)
    image = paint_faces(flags, who, shot)
    return dict(sorted({**flags, "image": image}.items()))


def _draw_flags(
    n: int, who: tuple[seeds.Key, ...], shot: tuple[seeds.Key, ...]
) -> dict[str, np.ndarray]:
    """The attributes: those of the person, then those of each picture."""
    chance = dict(
        zip(
            (*ATTRIBUTES, "beard", "hair", "tie"),
            seeds.uniform(len(ATTRIBUTES) + 3, *who).tolist(),
            strict=True,
        )
    )
    male = chance["male"] < 0.42
    person = {
        name: chance[name] < shares[male] for name, shares in _OF_PERSON.items()
    }
    old = not person["young"]
    person["male"] = male
    person["bald"] = male and chance["bald"] < (0.2 if old else 0.04)
    person["receding_hairline"] = male and chance["receding_hairline"] < 0.2
    person["bangs"] &= not (person["bald"] or person["receding_hairline"])
    person["double_chin"] = person["chubby"] and chance["double_chin"] < 0.6
    person["wavy_hair"] = (
        not person["straight_hair"] and chance["wavy_hair"] < 0.55 - 0.3 * male
    )
    person["attractive"] = chance["attractive"] < (0.2 if old else 0.7)
    person.update(_hair_colour(chance["hair"], old, person["bald"]))
    person.update(_beard(chance["beard"], male))
    for name in ("straight_hair", "wavy_hair"):
        person[name] &= not person["bald"]
    flags = {name: np.full(n, value) for name, value in person.items()}

    throws = seeds.uniform(len(_OF_PICTURE) * n, *shot).reshape(-1, n)
    for throw, (name, shares) in zip(throws, _OF_PICTURE.items(), strict=True):
        # Half of it is up to the person.
        share = shares[male]
        often = share * (0.5 + chance[name])
        if name == "eyeglasses":
            often = 0.9 if chance[name] < share / 2 else share / 2
        flags[name] = throw < often
    flags["high_cheekbones"] = flags["smiling"] & (
        chance["high_cheekbones"] < 0.8
    )
    return flags


def _hair_colour(chance: float, old: bool, bald: bool) -> dict[str, bool]:
    names = ("black_hair", "brown_hair", "blond_hair", "gray_hair")
    # The rest has hair of another colour.
    bounds = (0.2, 0.35, 0.45, 0.95) if old else (0.35, 0.65, 0.9, 0.9)
    at = sum(chance >= bound for bound in bounds)
    return {name: i == at and not bald for i, name in enumerate(names)}


def _beard(chance: float, male: bool) -> dict[str, bool]:
    return {
        "no_beard": not male or chance < 0.55,
        "five_o_clock_shadow": male and 0.55 <= chance < 0.7,
        "goatee": male and 0.7 <= chance < 0.82,
        "mustache": male and (0.76 <= chance < 0.88 or chance >= 0.97),
        "sideburns": male and chance >= 0.85,
    }
