"""What there is to know about a data set before using it."""

import dataclasses

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
        import textwrap

        def entry(name: str, text: str) -> list[str]:
            return textwrap.wrap(
                text,
                80,
                initial_indent=f"  {name:<10}",
                subsequent_indent=" " * 12,
                break_long_words=False,
                break_on_hyphens=False,
            )

        lines = [f"{self.name}: {self.title}"]
        lines += entry("clients", self.clients)
        for part, clients, examples in self.splits:
            plural = "" if clients == 1 else "s"
            size = f"{clients:,} client{plural}, {examples:,} examples"
            lines += entry("part", f"{part}: {size}")
        lines += entry("x", self.x) + entry("y", self.y)
        for quirk in self.quirks:
            lines += entry("note", quirk)
        lines += entry("licence", self.licence)
        lines += entry("cite", self.citation)
        for file in self.files:
            size = "" if file.size is None else f" ({file.size:,} bytes)"
            lines += entry("file", file.url + size)
            if file.sha256:
                lines += entry("", f"SHA-256 {file.sha256}")
        if self.disk_bytes is not None:
            lines += entry("disk", f"{self.disk_bytes / 1e6:,.0f} MB, unpacked")
        return lines
