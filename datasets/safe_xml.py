"""XML from anywhere: no entities, and no other file is read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

from fedlearn.data.formats.format_error import FormatError

_CHUNK_BYTES = 1 << 16


def _parser(path: Path) -> Any:
    parser = expat.ParserCreate()
    parser.buffer_text = True

    # A few lines of entities that contain entities unpack to gigabytes, and
    # an entity can name another file.
    def refuse(name: str, *_: Any) -> None:
        raise FormatError(
            f"{path}, line {parser.CurrentLineNumber}: the entity {name!r}. "
            "Expected XML without entities of its own."
        )

    parser.EntityDeclHandler = refuse
    parser.SkippedEntityHandler = refuse
    return parser


def _chunks(path: Path, parser: Any) -> Iterator[None]:
    """Has the file parsed, and pauses after each part of it."""
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                parser.Parse(chunk, False)
                yield
        parser.Parse(b"", True)
    except (expat.ExpatError, UnicodeError, LookupError) as error:
        raise FormatError(
            f"{path} is no well-formed XML ({error}). It may be cut short."
        ) from error
    yield


def start_tags(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Name and attributes of each element, as the file is read.

    Raises:
        FormatError: If it is no XML, or defines entities.
    """
    parser = _parser(path)
    found: list[tuple[str, dict[str, str]]] = []
    parser.StartElementHandler = lambda *tag: found.append(tag)
    for _ in _chunks(path, parser):
        yield from found
        found.clear()


def tree(path: Path) -> ElementTree.Element:
    """The root of a file that fits into memory.

    Raises:
        FormatError: If it is no XML, or defines entities.
    """
    parser = _parser(path)
    builder = ElementTree.TreeBuilder()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    for _ in _chunks(path, parser):
        pass
    return builder.close()
