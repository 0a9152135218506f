"""Clients that are read one by one, each when it is asked for."""

import abc
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fedlearn.data import element as el
from fedlearn.data.formats.format_error import FormatError


def checked_ids(ids: Iterable[Any], path: Path) -> tuple[str, ...]:
    """The ids that a file lists, sorted; a `FormatError` for odd ones."""
    seen: set[str] = set()
    for client_id in ids:
        wrong = None
        if not isinstance(client_id, str):
            wrong = f"is of type {type(client_id).__name__}, and no text"
        elif not client_id:
            wrong = "is the empty string"
        elif client_id in seen:
            wrong = "is there twice"
        elif any("\ud800" <= c <= "\udfff" for c in client_id):
            # How Python shows bytes that are no UTF-8.
            wrong = "is not UTF-8"
        if wrong:
            raise FormatError(f"{path}: the client id {client_id!r} {wrong}.")
        seen.add(client_id)
    if not seen:
        raise FormatError(f"{path} has no clients. Expected at least one.")
    return tuple(sorted(seen))


class OneByOne(abc.ABC):
    """A source that reads a client when it is asked for, and forgets it.

    It keeps no file open, so that it can be pickled, and read by threads and
    forked processes.
    """

    def __init__(self, path: Path, client_ids: tuple[str, ...]) -> None:
        self.client_ids = client_ids
        self._path = path

    @abc.abstractmethod
    def num_examples(self, client_id: str) -> int:
        """How many examples a client has."""

    @abc.abstractmethod
    def _read(self, client_id: str) -> el.Element:
        """One client's arrays, checked on their own."""

    @functools.cached_property
    def _reference(self) -> tuple[str, Any]:
        """The first client with examples, and the spec that all must have."""
        first = next(
            (i for i in self.client_ids if self.num_examples(i)),
            self.client_ids[0],
        )
        return first, el.spec_of(self._read(first))

    def load(self, client_id: str) -> el.Element:
        element = self._read(client_id)
        other, spec = self._reference
        if not el.num_examples(element):
            # Writers lose the shape of an array without rows.
            return el.read_only(el.empty_like(spec))
        who = f"Client {client_id!r}"
        try:
            # Another width of integers, floats or texts stays: what all have
            # in common, only reading all would tell.
            el.common_spec(el.spec_of(element), who, spec, f"client {other!r}")
        except ValueError as error:
            raise FormatError(f"{self._path}: {error}") from error
        return el.read_only(element)
