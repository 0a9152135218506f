"""What there is to know about a data set before using it."""

import dataclasses
import textwrap

from fedlearn.datasets.public_file import PublicFile


@dataclasses.dataclass(frozen=True)
class Card:
    """A data set's facts.

    Attributes:
        name: As in `fl.datasets.<name>`.
        title: A line that says what the data are.
        clients: What a client is.
        splits: `(part, clients, examples)` of each part.
        x: What an example's input is.
        y: What is to be predicted.
        licence: On what terms the data may be used.
        citation: What to cite.
        quirks: What surprises people.
        files: What is fetched; empty if nothing is.
        disk_bytes: What the data take in the cache, all in all; None if
            unknown.
    """

    name: str
    title: str
    clients: str
    splits: tuple[tuple[str, int, int], ...]
    x: str
    y: str
    licence: str
    citation: str
    quirks: tuple[str, ...] = ()
    files: tuple[PublicFile, ...] = ()
    disk_bytes: int | None = None

    def lines(self) -> list[str]:
        """The facts as lines of text of at most 80 characters, mostly.

        Example:

        >>> from fedlearn.datasets import digits
        >>> digits.CARD.lines()[0]
        'digits: handwritten digits of 8 x 8 pixels'
        """
        entries = [("clients", self.clients)]
        for part, clients, examples in self.splits:
            plural = "" if clients == 1 else "s"
            size = f"{clients:,} client{plural}, {examples:,} examples"
            entries.append(("part", f"{part}: {size}"))
        entries += [("x", self.x), ("y", self.y)]
        entries += [("note", quirk) for quirk in self.quirks]
        entries += [("licence", self.licence), ("cite", self.citation)]
        for file in self.files:
            size = "" if file.size is None else f" ({file.size:,} bytes)"
            entries.append(("file", file.url + size))
            if file.sha256:
                entries.append(("", f"SHA-256 {file.sha256}"))
        if self.disk_bytes is not None:
            size = f"{self.disk_bytes / 1e6:,.0f} MB, unpacked"
            entries.append(("disk", size))
        lines = [f"{self.name}: {self.title}"]
        for name, text in entries:
            lines += textwrap.wrap(
                text,
                80,
                initial_indent=f"  {name:<10}",
                subsequent_indent=" " * 12,
                break_long_words=False,
                break_on_hyphens=False,
            )
        return lines
