"""Questions and answers about programming, each client a user."""

import collections
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.datasets.stand_ins.counts import check_count, client_size
from fedlearn.datasets.stand_ins.dice import Dice

# Each line: a language or system, its companions, and what is said of them.
_FIELDS = tuple(
    tuple(part.split() for part in line.split(":"))
    for line in (
        "python:pandas numpy django:dataframe column tuple generator import "
        "notebook decorator index array package",
        "javascript:jquery html css:callback button promise selector div "
        "event listener closure page browser",
        "java:spring maven hibernate:class interface bean thread exception "
        "annotation servlet stream builder jar",
        "c++:qt boost templates:pointer header destructor iterator vector "
        "reference compiler lambda linker buffer",
        "sql:mysql postgresql oracle:table join query row primary-key "
        "transaction trigger view cursor subquery",
        "android:kotlin gradle firebase:activity fragment layout emulator "
        "intent adapter screen permission service manifest",
        "c#:linq wpf entity-framework:delegate property namespace assembly "
        "dialog binding window attribute enum list",
        "php:laravel wordpress composer:session form template array route "
        "controller plugin cookie upload request",
        "r:ggplot2 dplyr shiny:plot axis factor legend matrix data-frame "
        "regression histogram facet sample",
        "linux:bash docker ssh:shell process socket container pipe mount "
        "directory terminal daemon log",
        "git:github merge branch:commit repository rebase remote conflict "
        "tag diff submodule patch history",
        "ios:swift xcode cocoa:delegate storyboard simulator gesture label "
        "keychain view-controller optional segue outlet",
    )
)
_VERBS, _ADJECTIVES, _NAME_PARTS = (
    text.split()
    for text in (
        "load update remove parse sort convert install call read write copy "
        "open return print filter replace initialize validate split debug",
        "empty wrong same new second default large missing simple custom old "
        "dynamic hidden static nested broken",
        "my get tmp user file item data count next is on the handle base list "
        "node node2 row total size path id url max",
    )
)
_TITLES = (
    "how to {v} a {w} in {t}",
    "{t} : can not {v} {w} after {w}",
    "why does my {a} {w} not {v}",
    "{v} {w} from another {w} with {s}",
    "difference between {w} and {w} in {t}",
    "{s} {w} error when i {v} the {w}",
)
_ASKING = (
    "i am trying to {v} a {w} in {t} .",
    "i have a {a} {w} and i want to {v} it .",
    "when i {v} the {w} , the {w} is {a} .",
    "how can i {v} the {a} {w} with {s} ?",
    "is there a way to {v} {f} without the {w} ?",
    "i get an error that says {f} is {a} .",
    "here is what i have tried so far :",
    "what am i doing wrong ?",
    "i am new to {t} , so the {w} may be {a} .",
    "it works on my machine , but not on the server .",
    "any help would be appreciated .",
    "the {w} should {v} {d} times , but it doesn't .",
    "do i have to {v} each {w} first ?",
)
_ANSWERING = (
    "you can use {f} to {v} the {w} .",
    "you need to {v} the {w} before the {w} .",
    "the problem is that your {w} is {a} .",
    "try to {v} the {a} {w} instead .",
    "if you use {s} , the {w} will {v} itself .",
    "take a look at the documentation : <URL>",
    "change {f} to {f} and it should work .",
    "in {t} , a {w} is never {a} .",
    "this will {v} every {w} with {d} items .",
    "as far as i know , {s} does not {v} a {w} .",
    "see <URL> for a {a} example .",
    "i hope this helps !",
    "don't {v} the {w} twice , because it is {a} .",
)
_CLOSINGS = (
    "thanks in advance !",
    "cheers .",
    "edit : i found the {w} .",
    "please let me know if you need more code .",
    "good luck with the {w} .",
    "sorry for my english .",
)


class _Field(NamedTuple):
    """A user's interest: a tag, its companions, words, all by preference."""

    tag: str
    companions: list[str]
    words: list[str]


class _User:
    """What a user writes about, and how."""

    def __init__(self, user: int, seed: int) -> None:
        dice = Dice(seed, "stackoverflow", "user", user)
        self.fields = [
            _Field(tag[0], dice.shuffled(companions), dice.shuffled(words))
            for tag, companions, words in dice.shuffled(_FIELDS)[:3]
        ]
        self.verbs = dice.shuffled(_VERBS)[:12]
        self.adjectives = dice.shuffled(_ADJECTIVES)[:9]
        self.asking = dice.shuffled(_ASKING)
        self.answering = dice.shuffled(_ANSWERING)
        self.titles = dice.shuffled(_TITLES)
        self.closing = dice.pick(_CLOSINGS)
        self.closes = 0.4 * dice.throw()
        self.asks = dice.throw()
        self.length = 1 + 5 * dice.throw()
        self.joint = dice.pick(("_", ".", ""))


def client_id(user: int) -> str:
    """The name of a user.

    Example:

    >>> client_id(12)
    '00000012'
    """
    return f"{user:08d}"


def draw_client(
    user: int, num_examples: int, part: str = "train", seed: int = 0
) -> dict[str, np.ndarray]:
    """The sentences of one user in one part of the data.

    A user has three fields, the first the dearest, whose tags decide most
    nouns, and prefers some words and phrases. Sentences of one post follow
    each other and share all but the tokens.

    Args:
        user: Which user.
        num_examples: How many sentences.
        part: `"train"`, posts before 2018; `"test"`, posts after; or
            `"heldout"`, of any time.
        seed: An integer.

    Returns:
        Arrays of shape `(n,)`: `score` is `int64`; the others are object
        arrays of `bytes`. `creation_date` (`b"2010-01-08 09:34:05 UTC"`),
        `tags` (joined by `|`), `title`, `tokens` (one sentence in lower
        case, tokens separated by spaces), `type` (`b"question"` or
        `b"answer"`).

    Raises:
        ValueError: If `num_examples` is not positive, or there is no such
            part.

    Example:

    >>> user = draw_client(1, num_examples=3)
    >>> sorted(user)
    ['creation_date', 'score', 'tags', 'title', 'tokens', 'type']
    """
    check_count("num_examples", num_examples)
    years = {
        "train": range(2009, 2018),
        "heldout": range(2009, 2020),
        "test": range(2018, 2020),
    }
    if part not in years:
        raise ValueError(
            f"part is {part!r}. Expected 'train', 'heldout' or 'test'."
        )
    dice = Dice(seed, "stackoverflow", part, user)
    sentences = _sentences(_User(user, seed), years[part], dice)
    rows = [next(sentences) for _ in range(num_examples)]
    columns: dict[str, np.ndarray] = {}
    for name in sorted(rows[0]):
        if name == "score":
            columns[name] = np.array([row[name] for row in rows], np.int64)
        else:
            columns[name] = np.empty(num_examples, object)
            columns[name][:] = [str(row[name]).encode() for row in rows]
    return columns


def draw(num_clients: int = 50, seed: int = 0) -> dict[str, FederatedDataset]:
    """Users, as the real set divides them.

    Args:
        num_clients: Number of users in `train`.
        seed: An integer.

    Returns:
        `train`, posts before 2018; `test`, later posts of about half of
        these users; and `heldout`, a ninth as many other users: those whose
        number is divisible by 10.

    Raises:
        ValueError: If `num_clients` is not positive.

    Example:

    >>> parts = draw(num_clients=9)
    >>> {name: len(data) for name, data in parts.items()}
    {'train': 9, 'heldout': 1, 'test': 5}
    """
    check_count("num_clients", num_clients)
    train = _train_users(num_clients)
    heldout = [10 * (i + 1) for i in range(max(1, num_clients // 9))]
    return {
        "train": _part(train, "train", seed),
        "heldout": _part(heldout, "heldout", seed),
        "test": _part(train[::2], "test", seed),
    }


def word_counts(num_clients: int = 50, seed: int = 0) -> dict[str, int]:
    """How many users of `train` have each word.

    Args:
        num_clients: As for `draw`.
        seed: As for `draw`.

    Returns:
        Counts by token, the commonest first, ties by the alphabet.

    Raises:
        ValueError: If `num_clients` is not positive.

    Example:

    >>> next(iter(word_counts(num_clients=5).values()))
    5
    """
    return _user_counts("tokens", " ", num_clients, seed)


def tag_counts(num_clients: int = 50, seed: int = 0) -> dict[str, int]:
    """How many users of `train` have each tag.

    Args:
        num_clients: As for `draw`.
        seed: As for `draw`.

    Returns:
        Counts by tag, the commonest first, ties by the alphabet.

    Raises:
        ValueError: If `num_clients` is not positive.

    Example:

    >>> max(tag_counts(num_clients=5).values()) <= 5
    True
    """
    return _user_counts("tags", "|", num_clients, seed)


def _train_users(num_clients: int) -> list[int]:
    # 1..9, 11..19, ...: every tenth is held out.
    return [1 + k + k // 9 for k in range(num_clients)]


def _part(users: list[int], part: str, seed: int) -> FederatedDataset:
    return FederatedDataset.from_clients(
        {client_id(u): _client_of(u, part, seed) for u in users}
    )


def _client_of(user: int, part: str, seed: int) -> dict[str, np.ndarray]:
    mean = 60 if part == "test" else 120
    key = (seed, "stackoverflow", "size", part, user)
    return draw_client(user, client_size(mean, 0.6, 20, 800, *key), part, seed)


def _user_counts(
    feature: str, separator: str, num_clients: int, seed: int
) -> dict[str, int]:
    check_count("num_clients", num_clients)
    counts: collections.Counter[str] = collections.Counter()
    for user in _train_users(num_clients):
        texts = _client_of(user, "train", seed)[feature]
        joined = separator.encode().join(texts).decode()
        counts.update(set(joined.split(separator)))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _sentences(
    user: _User, years: range, dice: Dice
) -> Iterator[dict[str, object]]:
    """Post after post, sentence after sentence, without end."""
    while True:
        field = dice.pick_early(user.fields)
        asks = dice.throw() < user.asks
        num_companions = dice.below(3)
        post: dict[str, object] = {
            "creation_date": _date(years, dice),
            "score": int(20 * dice.small() * dice.throw()) - 1,
            "tags": "|".join([field.tag, *field.companions[:num_companions]]),
            "title": _filled(dice.pick_early(user.titles), field, user, dice),
            "type": "question" if asks else "answer",
        }
        forms = user.asking if asks else user.answering
        for _ in range(1 + int(user.length * dice.throw())):
            form = dice.pick_early(forms)
            yield {**post, "tokens": _filled(form, field, user, dice)}
        if dice.throw() < user.closes:
            yield {**post, "tokens": _filled(user.closing, field, user, dice)}


def _date(years: range, dice: Dice) -> str:
    day = f"{dice.pick(years)}-{1 + dice.below(12):02d}"
    time = f"{dice.below(24):02d}:{dice.below(60):02d}:{dice.below(60):02d}"
    return f"{day}-{1 + dice.below(28):02d} {time} UTC"


def _filled(form: str, field: _Field, user: _User, dice: Dice) -> str:
    parts = form.split("{")
    text = parts[0]
    for part in parts[1:]:
        word = _word(part[0], field, user, dice)
        if word[0] in "aeiou" and (text == "a " or text.endswith(" a ")):
            text = f"{text[:-1]}n "
        text += word + part[2:]
    return text


def _word(kind: str, field: _Field, user: _User, dice: Dice) -> str:
    """A tag, its companion, a word, verb, adjective, digit or identifier."""
    if kind == "t":
        return field.tag
    if kind == "s":
        return dice.pick_early(field.companions)
    if kind == "w":
        return dice.pick_early(field.words)
    if kind == "v":
        return dice.pick_early(user.verbs)
    if kind == "a":
        return dice.pick_early(user.adjectives)
    if kind == "d":
        return str(2 + dice.below(99))
    # Names of one's own: the long tail of words that few users have.
    return f"{dice.pick(_NAME_PARTS)}{user.joint}{dice.pick(_NAME_PARTS)}"
