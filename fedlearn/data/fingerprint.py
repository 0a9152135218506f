"""Whether two data sets hold the same, told without reading all of it."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedlearn.data import element as el
from fedlearn.data.checksum import checksum
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.data.sources import ExampleSplit, Mapped

_NUM_READ = 16


def fingerprint(data: FederatedDataset) -> dict[str, str]:
    """What tells a data set from another of the same clients, as short texts.

    * `clients`: their ids, in order.
    * `sizes`: how many examples each of them has, before a `map`.
    * `examples`: structure, dtypes, shapes and values, by a checksum of 32
      bits a client: of all in memory or in a compact file; of clients that
      are read from other files, or changed by `map`, of 16 that are spread
      over the data set. A `map` that gives other values each time is left out.
    """
    sizes, examples = hashlib.sha256(), hashlib.sha256()
    _add(data._source, data.client_ids, sizes, examples)
    return {
        "clients": ids_digest(data.client_ids),
        "sizes": sizes.hexdigest()[:16],
        "examples": examples.hexdigest()[:16],
    }


def ids_digest(ids: Sequence[str]) -> str:
    """A short text that stands for some ids in their order."""
    text = "\n".join(ids).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:16]


def _add(source: Any, ids: Sequence[str], sizes: Any, examples: Any) -> None:
    if isinstance(source, Mapped):
        _add(source._source, ids, sizes, examples)
        for client_id in _spread(ids):
            once = _told(source.load(client_id))
            if once == _told(source.load(client_id)):
                examples.update(once)
        return
    if isinstance(source, ExampleSplit):
        side = (source._fraction, source._seed, source._first)
        examples.update(repr(side).encode())
        _add(source._source, ids, sizes, examples)
        return
    for client_id in ids:
        sizes.update(b"%d," % source.num_examples(client_id))
    some = _spread(ids)
    for client_id in some[:1]:
        spec = el.map_arrays(_kind, source.load(client_id))
        examples.update(repr(spec).encode())
    known = getattr(source, "checksum_of", None)
    if known is not None:
        for client_id in ids:
            examples.update(b"%d," % known(client_id))
    elif getattr(source, "is_plain", False):
        for client_id in ids:
            examples.update(b"%d," % checksum(source.load(client_id)))
    else:
        for client_id in some:
            examples.update(_told(source.load(client_id)))


def _spread(ids: Sequence[str]) -> list[str]:
    if len(ids) <= _NUM_READ:
        return list(ids)
    places = np.linspace(0, len(ids) - 1, _NUM_READ).astype(int)
    return [ids[i] for i in places.tolist()]


def _told(element: Any) -> bytes:
    """The form of a client's arrays, and their values."""
    spec = el.map_arrays(_kind, element)
    return repr((spec, checksum(element))).encode()


def _kind(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape[1:]}"
