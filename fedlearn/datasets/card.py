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
        facts: What a client is, the parts with their numbers of clients and
            examples, `x` and `y`, what surprises people, on what terms the
            data may be used, what to cite, and what they take on disk.
        files: What is fetched; empty if nothing is.
    """

    name: str
    title: str
    facts: str
    files: tuple[PublicFile, ...] = ()

    def lines(self) -> list[str]:
        """The facts as lines of text of at most 80 characters, mostly.

        Example:

        >>> from fedlearn.datasets import digits
        >>> digits.CARD.lines()[0]
        'digits: handwritten digits of 8 x 8 pixels'
        """
        lines = textwrap.dedent(self.facts).strip().splitlines()
        for file in self.files:
            lines.append(f"file      {file.url}")
            if file.size is not None:
                lines.append(f"          {file.size:,} bytes")
            if file.sha256:
                lines.append(f"          SHA-256 {file.sha256}")
        return [f"{self.name}: {self.title}", *(f"  {line}" for line in lines)]
