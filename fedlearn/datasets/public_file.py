"""The published files of a data set: where they are, and how to get them."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from fedlearn.data.fetching.download import download


@dataclasses.dataclass(frozen=True)
class PublicFile:
    """A file that anybody can fetch.

    Attributes:
        url: Its address.
        sha256: Its checksum; None where the publisher states none.
        size: Its number of bytes; None where it is not known.
    """

    url: str
    sha256: str | None = None
    size: int | None = None

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.url.rsplit("/", 1)[-1]

    def fetch(self, folder: Path) -> Path:
        """The file in `folder`; fetched if it is not there yet."""
        path = folder / self.name
        return download(self.url, path, sha256=self.sha256, size=self.size)


def locate(
    source: str | os.PathLike[str], names: Sequence[str], what: str
) -> Path:
    """The file that a `source` argument means.

    It is a path, or a `file://` address, of a file, or of a folder that holds
    a file of one of `names`, the preferred one first. `what` is the data set,
    for messages. FileNotFoundError if there is nothing there, ValueError for
    an address of another kind.
    """
    text = os.fspath(source)
    scheme, host, address = urlsplit(text)[:3]
    if scheme == "file" and host in ("", "localhost"):
        text = url2pathname(address)
    elif "://" in text:
        raise ValueError(
            f"source is {text!r}. Expected a path, a file:// address, or "
            "'synthetic'; leave it out to fetch the public file."
        )
    path = Path(text).expanduser()
    if path.is_dir():
        found = next((path / n for n in names if (path / n).exists()), None)
        if found is None:
            raise FileNotFoundError(
                f"The folder {path} has no file of {what}. Expected one of "
                f"{', '.join(names)}."
            )
        return found
    if not path.exists():
        raise FileNotFoundError(
            f"There is no file or folder {path}, given as the source of {what}."
        )
    return path


def fingerprint(path: Path) -> str:
    """Tells a file from others and earlier ones, without reading it."""
    stat = path.stat()
    facts = f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}"
    return hashlib.sha256(facts.encode("utf-8", "surrogateescape")).hexdigest()
