"""Lines of made-up plays, each client a role with its own way to speak."""

import numpy as np

from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.datasets.stand_ins.counts import check_count, client_size
from fedlearn.datasets.stand_ins.dice import Dice

_PLAYS = (
    "THE_BEEKEEPER_OF_ARDLEY",
    "LOVE_UPON_THE_LEDGER",
    "THE_TRAGEDY_OF_DUKE_ORSAMOND",
    "A_WINTER_IN_THE_MILL",
    "THE_SECOND_PART_OF_QUEEN_ISAURE",
    "MUCH_RAIN_FOR_LITTLE_CORN",
    "THE_LIGHTHOUSE_AND_THE_FOOL",
    "THE_MERCHANT_OF_SALT",
)

_ROLES = (
    "ORSAMOND",
    "ISAURE",
    "TIBALDO",
    "MARGRET",
    "FIRST_MILLER",
    "LUCASTA",
    "PERRIN",
    "OLD_GRISSEL",
    "CAPTAIN_ROOK",
    "FENELLA",
    "ANSELMO",
    "SECOND_WATCHMAN",
    "DROGO",
    "CHORUS",
    "BEATTIE",
)

_NOUNS, _ADJECTIVES, _VERBS = (
    text.split()
    for text in (
        "heart hand night crown sea sword house love tongue grave star ship "
        "garden horse bread candle shadow letter wind rose wolf harvest winter "
        "mirror bell river tower lamb snow feather hammer anchor lantern honey "
        "thunder orchard needle falcon salt chimney",
        "sweet cold false gentle bitter proud quiet merry heavy golden hollow "
        "honest weary foolish ancient bright wicked patient broken noble muddy "
        "silver drowsy stubborn",
        "love fear seek curse keep lose bury praise follow break sing forgive "
        "steal mend forget hold sell trust burn weigh guard borrow measure "
        "wake",
    )
)
_PEOPLE, _OATHS, _PLACES, _TIMES = (
    text.split("|")
    for text in (
        "my lord|good sir|my lady|cousin|old friend|boy|your grace|master "
        "miller|sweet maid|brother|neighbour|you rogue",
        "By my beard|Upon my soul|By all the bells|Alack|Now mark me|In sooth|"
        "Hark|By salt and bread|Come, come|Why then|O heavens|Marry",
        "in the mill|by the river|at the gate|under the hill|upon the sea|in "
        "Ardley|before the throne|behind the church|on the road to court|in my "
        "father's house|at the salt market|below the stairs",
        "tonight|at dawn|before the moon is up|ere long|these seven years|when "
        "the bell tolls|on Sunday|till I am old|now|after supper",
    )
)

# In braces: a noun, adjective, verb, person, oath, place or time.
_CLAUSES = (
    "I {v} the {a} {n}",
    "thou art a {a} {n}",
    "the {n} is {a} {t}",
    "no {n} shall {v} me {p}",
    "we must {v} our {n} {p}",
    "I saw thy {n} {p}",
    "give me thy {n} and I will {v} it {t}",
    "a {a} {n} is worth a {a} {n}",
    "let the {n} {v} the {n}",
    "they say the {n} will {v} {t}",
    "my {n} is as {a} as any {n} {p}",
    "she did {v} him {p} {t}",
    "'tis a {a} thing to {v} a {n}",
    "there came a {n} {p}",
)
_QUESTIONS = (
    "who shall {v} the {n} {t}",
    "where is thy {n}",
    "dost thou {v} my {a} {n}",
    "what {n} is this {p}",
    "why must I {v} a {n} {t}",
    "hast thou no {n} to {v}",
)
_JOINTS = ("and", "but", "for", "yet", "so", "till")


class _Role:
    """Which words a role prefers, and how its sentences run."""

    def __init__(self, k: int, seed: int) -> None:
        dice = Dice(seed, "shakespeare", "role", k)
        self.words = {
            # What comes early in its list, a role says often.
            "n": dice.shuffled(_NOUNS)[:16],
            "a": dice.shuffled(_ADJECTIVES)[:8],
            "v": dice.shuffled(_VERBS)[:10],
            "p": dice.shuffled(_PLACES)[:5],
            "t": dice.shuffled(_TIMES)[:4],
        }
        self.clauses = dice.shuffled(_CLAUSES)[:7]
        self.questions = dice.shuffled(_QUESTIONS)[:3]
        self.people = dice.shuffled(_PEOPLE)[:3]
        self.oaths = dice.shuffled(_OATHS)[:2]
        self.asks = 0.4 * dice.throw()
        self.swears = 0.5 * dice.throw()
        self.shouts = 0.6 * dice.small()
        self.addresses = 0.5 * dice.throw()
        self.runs_on = 0.7 * dice.throw()
        self.sentences = 1 + 4 * dice.throw()
        # Verse begins a line at each clause; prose breaks it when it is full.
        self.verse = dice.throw() < 0.5


def client_id(k: int) -> str:
    """The name of role `k`: a play and who speaks in it.

    Example:

    >>> client_id(0)
    'THE_BEEKEEPER_OF_ARDLEY_ORSAMOND'
    """
    # 8 plays and 15 roles have no common divisor: 120 different pairs.
    again, pair = divmod(k, len(_PLAYS) * len(_ROLES))
    name = f"{_PLAYS[pair % len(_PLAYS)]}_{_ROLES[pair % len(_ROLES)]}"
    return f"{name}_{again + 1}" if again else name


def draw_client(
    k: int, num_examples: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """The snippets of one role.

    A grammar makes the sentences. A role draws on its own part of the words
    and kinds of sentence, prefers some of them, and asks, swears, shouts and
    breaks its lines as often as suits it.

    Args:
        k: Which role.
        num_examples: How many snippets.
        seed: An integer.

    Returns:
        `snippets`, `(n,)` object array of `bytes`: some ten to a few
        hundred of the characters in
        `fedlearn.datasets.shakespeare.VOCABULARY`, newlines among them.

    Raises:
        ValueError: If `num_examples` is not positive.

    Example:

    >>> role = draw_client(0, num_examples=4)
    >>> role["snippets"].shape, type(role["snippets"][0])
    ((4,), <class 'bytes'>)
    """
    check_count("num_examples", num_examples)
    role = _Role(k, seed)
    dice = Dice(seed, "shakespeare", "text", k)
    snippets = np.empty(num_examples, object)
    for i in range(num_examples):
        snippets[i] = _snippet(role, dice).encode("ascii")
    return {"snippets": snippets}


def draw(num_clients: int = 60, seed: int = 0) -> dict[str, FederatedDataset]:
    """Roles, each with about an eighth of its snippets for testing.

    Args:
        num_clients: Number of roles.
        seed: An integer.

    Returns:
        `train` and `test`, of the same clients, sorted by name: about 22 and
        3 snippets each, but spread widely.

    Raises:
        ValueError: If `num_clients` is not positive.

    Example:

    >>> parts = draw(num_clients=3)
    >>> parts["train"].client_ids == parts["test"].client_ids
    True
    """
    check_count("num_clients", num_clients)
    roles = {}
    for k in range(num_clients):
        size = client_size(26, 1.0, 2, 200, seed, "shakespeare", "size", k)
        roles[client_id(k)] = draw_client(k, size, seed)
    both = FederatedDataset.from_clients(dict(sorted(roles.items())))
    train, test = both.split_examples(0.872, seed)
    return {"train": train, "test": test}


def _snippet(role: _Role, dice: Dice) -> str:
    count = 1 + int(role.sentences * dice.throw())
    lines: list[str] = []
    for _ in range(count):
        clauses = _sentence(role, dice)
        if role.verse:
            lines += clauses
        else:
            lines.append(" ".join(clauses))
    return "\n".join(lines) if role.verse else _broken(" ".join(lines))


def _sentence(role: _Role, dice: Dice) -> list[str]:
    """The clauses of a sentence, with the marks that end them."""
    asks = dice.throw() < role.asks
    start = dice.pick_early(role.questions if asks else role.clauses)
    clauses = [_filled(start, role, dice)]
    if dice.throw() < role.swears:
        clauses[0] = f"{dice.pick_early(role.oaths)}, {clauses[0]}"
    if dice.throw() < role.addresses:
        clauses[0] += f", {dice.pick_early(role.people)}"
    while not asks and len(clauses) < 4 and dice.throw() < role.runs_on:
        more = _filled(dice.pick_early(role.clauses), role, dice)
        clauses[-1] += dice.pick_early((",", ";"))
        clauses.append(f"{dice.pick(_JOINTS)} {more}")
    shouts = dice.throw() < role.shouts
    clauses[-1] += "?" if asks else "!" if shouts else "."
    first = clauses[0]
    # A letter may follow an apostrophe, as in 'Tis.
    at = 1 if first[0] == "'" else 0
    clauses[0] = first[:at] + first[at].upper() + first[at + 1 :]
    return clauses


def _filled(form: str, role: _Role, dice: Dice) -> str:
    parts = form.split("{")
    text = parts[0]
    for part in parts[1:]:
        word = dice.pick_early(role.words[part[0]])
        if word[0] in "aeiou" and (text == "a " or text.endswith(" a ")):
            text = f"{text[:-1]}n "
        text += word + part[2:]
    return text


def _broken(text: str) -> str:
    """Prose with a new line where one gets longer than 60 characters."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > 60:
            lines.append(word)
        else:
            lines[-1] += (" " if lines[-1] else "") + word
    return "\n".join(lines)
