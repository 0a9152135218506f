"""Makes the federated Stack Overflow from Posts.xml of Stack Exchange's dump.

A client is a person, an example a sentence of a question or an answer. Writes
the words' and the tags' counts beside the file. See README.md.
"""

import collections
import html
import json
import re
import sqlite3
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from federated_file import (
    Clients,
    argument_parser,
    finished_files,
    note,
    positive,
    progress,
    run,
    write_splits,
)
from safe_xml import start_tags

from fedlearn.data.formats.format_error import FormatError

_TEST_FROM = "2018-01-01"
_HELD_OUT_EVERY = 10

_BREAK = re.compile(
    r"</?(?:p|br|hr|li|ul|ol|div|pre|blockquote|h[1-6]|table|tr|td|th)\b"
    r"[^<>]*>",
    re.IGNORECASE,
)
_TAG = re.compile(r"<[^<>]*>")
_ADDRESS = re.compile(r"(?:https?|ftp)://[^\s<>\"']*[^\s<>\"'.,:;!?)\]}]")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\s*\n\s*")
_TOKEN = re.compile(r"<URL>|[a-z0-9'-]+|[^\sa-z0-9'-]")
_DATE = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?")
_FEATURES = ("creation_date", "score", "tags", "title", "tokens", "type")
_KINDS = {"1": "question", "2": "answer"}

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE questions (id INTEGER PRIMARY KEY, title TEXT, tags TEXT);
CREATE TABLE posts (
    user INTEGER, id INTEGER, kind TEXT, date TEXT, score INTEGER,
    question INTEGER, size INTEGER, sentences TEXT
);
"""


def tokens(text: str) -> str:
    """Words and signs of plain text, between single spaces.

    In lower case and ASCII; a sign that is not ' or - is a token, and an
    address is `<URL>`.
    """
    text = text.lower().encode("ascii", "ignore").decode()
    return " ".join(_TOKEN.findall(_ADDRESS.sub(" <URL> ", text)))


def sentences(body: str) -> list[str]:
    """The sentences of a post's HTML, as `tokens`.

    A sentence ends with a line or paragraph, or where a full stop, a question
    or an exclamation mark is followed by space.
    """
    text = html.unescape(_TAG.sub("", _BREAK.sub("\n", body)))
    found = (tokens(part) for part in _SENTENCE_END.split(text))
    return [sentence for sentence in found if sentence]


def tag_list(text: str) -> str:
    """`"<c#><.net>"`, or `"|c#|.net|"` of newer dumps, as `"c#|.net"`."""
    return "|".join(tag for tag in re.split(r"[<>|]", text) if tag)


class _Row:
    """The attributes of a `row` element."""

    def __init__(self, cells: Mapping[str, str], path: Path) -> None:
        self._cells = cells
        self._path = path

    def get(self, name: str) -> str:
        return self._cells.get(name, "")

    def text(self, name: str) -> str:
        if name not in self._cells:
            raise self._error(name, "a post without it")
        return self._cells[name]

    def integer(self, name: str) -> int:
        text = self.text(name)
        if not re.fullmatch(r"-?\d{1,18}", text, re.ASCII):
            raise self._error(name, f"{text[:40]!r}, expected an integer")
        return int(text)

    def date(self, name: str) -> str:
        """As in `"2010-01-08 09:34:05 UTC"`."""
        found = _DATE.fullmatch(self.text(name))
        if found is None:
            raise self._error(
                name, f"{self.text(name)[:40]!r}, expected a date and time"
            )
        return f"{found[1]} {found[2]} UTC"

    def _error(self, name: str, what: str) -> FormatError:
        return FormatError(
            f"{self._path}, row {self.get('Id')[:20]!r}: {name}: {what}. "
            "Expected Posts.xml of Stack Exchange's data dump."
        )


def stage(path: Path, connection: sqlite3.Connection) -> None:
    """Puts all posts in tables, since a person's are not beside each other."""
    connection.executescript(_SCHEMA)
    count = 0
    for name, cells in start_tags(path):
        if name != "row":
            continue
        count += 1
        if count % 1_000_000 == 0:
            note(f"{path.name}: {count:,} rows")
        row = _Row(cells, path)
        kind = _KINDS.get(row.text("PostTypeId"))
        if kind is None:
            continue
        number = row.integer("Id")
        question = number
        if kind == "question":
            connection.execute(
                "INSERT OR REPLACE INTO questions VALUES (?, ?, ?)",
                (number, tokens(row.get("Title")), tag_list(row.get("Tags"))),
            )
        else:
            question = row.integer("ParentId")
        # Those who left have no number, and -1 is the site itself.
        if not row.get("OwnerUserId") or row.integer("OwnerUserId") < 1:
            continue
        if found := sentences(row.text("Body")):
            connection.execute(
                "INSERT INTO posts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    row.integer("OwnerUserId"),
                    number,
                    kind,
                    row.date("CreationDate"),
                    row.integer("Score"),
                    question,
                    len(found),
                    "\n".join(found),
                ),
            )
    connection.execute("CREATE INDEX by_user ON posts (user, id)")
    note(f"{path.name}: {count:,} rows in all")


def _users(
    connection: sqlite3.Connection, min_sentences: int
) -> Iterator[tuple[int, int, int]]:
    """Number, sentences before 2018 and from then on of each person kept."""
    yield from connection.execute(
        "SELECT user, SUM(size * (date < ?1)), SUM(size * (date >= ?1)) "
        "FROM posts GROUP BY user HAVING SUM(size) >= ?2 ORDER BY user",
        (_TEST_FROM, min_sentences),
    )


def splits(
    connection: sqlite3.Connection, min_sentences: int, limit: int | None
) -> dict[str, Clients]:
    """The clients of the three splits.

    Ids are the people's numbers with leading zeros, to sort as numbers do.
    """
    users: dict[str, list[str]] = {"train": [], "heldout": [], "test": []}
    for user, before, after in _users(connection, min_sentences):
        if user % _HELD_OUT_EVERY == 0:
            users["heldout"].append(f"{user:08d}")
            continue
        if before:
            users["train"].append(f"{user:08d}")
        if after:
            users["test"].append(f"{user:08d}")
    dates = {
        "train": ("", _TEST_FROM),
        "heldout": ("", "9999"),
        "test": (_TEST_FROM, "9999"),
    }

    def clients(split: str) -> Clients:
        def load(name: str) -> dict[str, np.ndarray]:
            return _examples(connection, int(name), *dates[split])

        return Clients(users[split][:limit], load)

    return {split: clients(split) for split in users}


def _examples(
    connection: sqlite3.Connection, user: int, start: str, end: str
) -> dict[str, np.ndarray]:
    columns: dict[str, list[Any]] = {name: [] for name in _FEATURES}
    for date, score, tags, title, text, kind in connection.execute(
        "SELECT date, score, COALESCE(tags, ''), COALESCE(title, ''), "
        "sentences, kind FROM posts LEFT JOIN questions ON question = "
        "questions.id WHERE user = ? AND date >= ? AND date < ? "
        "ORDER BY posts.id",
        (user, start, end),
    ):
        for sentence in text.split("\n"):
            row = (date, score, tags, title, sentence, kind)
            for column, cell in zip(columns.values(), row, strict=True):
                column.append(cell.encode() if isinstance(cell, str) else cell)
    return {
        name: np.array(column, np.int64 if name == "score" else object)
        for name, column in columns.items()
    }


def user_counts(
    train: Clients,
) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """How many people use each word and each tag; most used first."""
    words: collections.Counter[str] = collections.Counter()
    tags: collections.Counter[str] = collections.Counter()
    for user in progress(train.ids, "counts"):
        examples = train[user]
        words.update(_distinct(examples["tokens"].tolist(), b" "))
        tags.update(_distinct(examples["tags"].tolist(), b"|"))
    return _by_count(words), _by_count(tags)


def _distinct(texts: Iterable[bytes], separator: bytes) -> set[str]:
    pieces = separator.join(set(texts)).split(separator)
    return {piece.decode() for piece in pieces if piece}


def _by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argument_parser(
        __doc__ or "", "--source Posts.xml --output stackoverflow.sqlite"
    )
    parser.add_argument(
        "--min-sentences",
        type=positive,
        default=100,
        help="what a person must have written, in all; 100",
    )
    args = parser.parse_args(argv)
    source = args.source
    if source.is_dir():
        source /= "Posts.xml"
    with (
        finished_files(args.output.parent, args.output.name) as folder,
        tempfile.TemporaryDirectory(dir=args.output.parent) as scratch,
    ):
        connection = sqlite3.connect(Path(scratch, "posts.sqlite"))
        try:
            stage(source, connection)
            parts = splits(connection, args.min_sentences, args.limit)
            write_splits(folder / args.output.name, parts)
            words, tags = user_counts(parts["train"])
        finally:
            connection.close()
        with open(
            folder / "stackoverflow.word_count", "w", encoding="utf-8"
        ) as file:
            file.writelines(f"{word} {count}\n" for word, count in words)
        with open(
            folder / "stackoverflow.tag_count", "w", encoding="utf-8"
        ) as file:
            json.dump(dict(tags), file)


if __name__ == "__main__":
    run(main)
