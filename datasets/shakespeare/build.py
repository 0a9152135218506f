"""Makes the federated Shakespeare from the plays as XML or as plain text.

A client is a role of a play, an example one of its speeches. The last 20 % of
a role's speeches, one at least, are for testing; roles with fewer than two
are left out. See README.md.
"""

import itertools
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from federated_file import (
    Clients,
    argument_parser,
    finished_files,
    note,
    run,
    write_splits,
)
from safe_xml import tree

from fedlearn.data.formats.format_error import FormatError

# The role's name, and what it says.
Speech = tuple[str, str]

_BYLINE = re.compile(r"by william shakespeare", re.IGNORECASE)
_COPYRIGHT = re.compile(r"<<[^<>]*>>")
_NAME = r"([A-Za-z][A-Za-z' ]*)\. +(\S.*)"
_SPEAKER = re.compile("  " + _NAME)
# One of the plays of the 1994 text is set without indents.
_FLUSH_SPEAKER = re.compile(r"([A-Z][A-Z' ]*)\. +(\S.*)")
_DIRECTION = re.compile(
    r"\[|(act|scene|enter|re-enter|exit|exeunt|dramatis)\b", re.IGNORECASE
)
# "Exit" and the like stand at the right of the page.
_AT_THE_RIGHT = re.compile(r" {6,}\S.*")
_RIGHT_COLUMN = 20


def client_id(play: str, role: str) -> str:
    """`("As You Like It", "Le Beau")` gives `"AS_YOU_LIKE_IT_LE_BEAU"`."""
    return re.sub(r"[^A-Z0-9]+", "_", f"{play}_{role}".upper()).strip("_")


def xml_play(path: Path) -> tuple[str, list[Speech]]:
    """Title and speeches of a play in Jon Bosak's markup.

    Who speaks with others has the speech too, each of them. Directions inside
    a line are part of it.
    """
    root = tree(path)
    title = root.findtext("TITLE", "").strip()
    if root.tag != "PLAY" or not title:
        raise FormatError(
            f"{path} is XML of another kind: its root is {root.tag!r}. "
            "Expected a PLAY with a TITLE."
        )
    speeches = []
    for speech in root.iter("SPEECH"):
        lines = ["".join(line.itertext()) for line in speech.iter("LINE")]
        text = "\n".join(line.strip() for line in lines).strip()
        roles = ["".join(s.itertext()).strip() for s in speech.iter("SPEAKER")]
        speeches += [(role, text) for role in dict.fromkeys(roles)]
    return title, speeches


def text_plays(text: str) -> Iterator[tuple[str, list[Speech]]]:
    """Titles and speeches of the plays in a plain text.

    The layout of Project Gutenberg's 1994 edition: a title over "by William
    Shakespeare"; a speaker two spaces in, before a full stop; the speech's
    other lines four spaces in; "THE END".
    """
    lines = _COPYRIGHT.sub("", text).splitlines()
    starts = [k for k, ln in enumerate(lines) if _BYLINE.fullmatch(ln.strip())]
    for start, end in itertools.pairwise([*starts, len(lines)]):
        body = lines[start + 1 : end]
        stops = [k for k, ln in enumerate(body) if ln.strip() == "THE END"]
        body = body[: stops[0]] if stops else body
        yield _title_above(lines[:start]), _text_speeches(body)


def _title_above(lines: list[str]) -> str:
    """The last lines that hang together."""
    stripped = [line.strip() for line in lines]
    while stripped and not stripped[-1]:
        stripped.pop()
    title: list[str] = []
    while stripped and stripped[-1]:
        title.insert(0, stripped.pop())
    return " ".join(title)


def _text_speeches(lines: list[str]) -> list[Speech]:
    indented = any(_speaker(_SPEAKER, line) for line in lines)
    pattern = _SPEAKER if indented else _FLUSH_SPEAKER
    speeches: list[tuple[str, list[str]]] = []
    going_on = False
    for line in lines:
        if found := _speaker(pattern, line):
            speeches.append((found[0], [found[1]]))
            going_on = True
            continue
        words = line.strip()
        indent = len(line) - len(line.lstrip())
        if indented:
            # Headings stand at the margin; directions two spaces in.
            going_on &= not words or indent > 0
            belongs = 4 <= indent < _RIGHT_COLUMN and words[:1] != "["
        else:
            going_on &= bool(words) and not _DIRECTION.match(words)
            belongs = indent == 0
        if going_on and words and belongs:
            speeches[-1][1].append(words)
    return [
        (role, "\n".join(_AT_THE_RIGHT.sub("", s).strip() for s in said))
        for role, said in speeches
    ]


def _speaker(pattern: re.Pattern[str], line: str) -> tuple[str, str] | None:
    found = pattern.fullmatch(line.rstrip())
    if found is None or _DIRECTION.match(found[1]):
        return None
    return found[1].strip(), found[2]


def plays(source: Path) -> Iterator[tuple[str, list[Speech]]]:
    """Titles and speeches of all plays, file by file.

    Args:
        source: A file, or a folder of `.xml` or else of `.txt` files.
    """
    paths = [source]
    if source.is_dir():
        paths = sorted(source.glob("*.xml")) or sorted(source.glob("*.txt"))
    if not paths:
        raise FileNotFoundError(
            f"The folder {source} has no plays. Expected .xml or .txt files."
        )
    for path in paths:
        with open(path, "rb") as file:
            head = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n")
        # Project Gutenberg puts its notes in double brackets.
        if head.startswith(b"<") and not head.startswith(b"<<"):
            yield xml_play(path)
            continue
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise FormatError(f"{path} is not UTF-8: {error}.") from error
        yield from text_plays(text)


def roles(source: Path) -> dict[str, list[bytes]]:
    """The speeches of each role, in their order, by client id."""
    speeches: dict[str, list[bytes]] = {}
    titles = set()
    for title, said in plays(source):
        if title in titles:
            raise FormatError(
                f"{source} has the play {title!r} twice. Remove one of them: "
                "its speeches would be in training and test."
            )
        titles.add(title)
        for role, text in said:
            if role and text:
                name = client_id(title, role)
                speeches.setdefault(name, []).append(text.encode())
    kept = {name: s for name, s in sorted(speeches.items()) if len(s) > 1}
    if not kept:
        raise FormatError(
            f"{source} has no role with two speeches. Expected plays in Jon "
            "Bosak's XML, or in the layout of Project Gutenberg's 1994 text."
        )
    note(f"{len(titles):,} works, {len(kept):,} roles with two speeches")
    return kept


def main(argv: Sequence[str] | None = None) -> None:
    parser = argument_parser(
        __doc__ or "", "--source plays --output shakespeare.sqlite"
    )
    args = parser.parse_args(argv)
    with finished_files(args.output.parent, args.output.name) as folder:
        speeches = roles(args.source)
        ids = list(speeches)[: args.limit]

        def part(is_test: bool) -> Clients:
            def load(role: str) -> dict[str, np.ndarray]:
                said = speeches[role]
                first = len(said) - max(1, len(said) // 5)
                said = said[first:] if is_test else said[:first]
                return {"snippets": np.array(said, object)}

            return Clients(ids, load)

        write_splits(
            folder / args.output.name,
            {"train": part(False), "test": part(True)},
        )


if __name__ == "__main__":
    run(main)
