"""Arrays in memory, pooled or a client's own, as clients' examples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedlearn.data import element as el
from fedlearn.data.class_names import (
    categories_of,
    check_class_names,
    is_text,
    number_classes,
)
from fedlearn.data.client_data import read_client_data
from fedlearn.data.client_id import as_client_ids, client_of_rows, ids_array
from fedlearn.data.sources import InMemory, Source, group_rows

Names = tuple[str, ...] | None


def _number_labels(
    elements: Mapping[str, el.Element], class_names: Sequence[str] | None
) -> tuple[dict[str, el.Element], Names]:
    """Elements whose labels are numbers, and the names of the classes."""
    names = check_class_names(class_names)
    numbered = dict(elements)
    labels = {
        i: e[1]
        for i, e in elements.items()
        if isinstance(e, tuple) and len(e) > 1 and isinstance(e[1], np.ndarray)
    }
    if names is None and not any(map(is_text, labels.values())):
        return numbered, None
    if len(labels) < len(elements):
        raise ValueError(
            "There are class names, but not all clients have labels in one "
            "array. Expected (x, y) with an array y."
        )
    whose = [i if len(labels) == 1 else f"Client {i!r}" for i in labels]
    numbers, names = number_classes([*labels.values()], whose, names)
    for client_id, y in zip(labels, numbers, strict=True):
        x, _, *weight = elements[client_id]
        numbered[client_id] = (x, y, *weight)
    return numbered, names


def pooled_examples(
    parts: tuple, who: str, class_names: Sequence[str] | None = None
) -> tuple[el.Element, Names]:
    """Pooled parts, labels as numbers, and the names of their classes."""
    element = el.as_element(parts, who, text_labels=True)
    numbered, names = _number_labels(
        {who: element}, class_names or categories_of(parts[1])
    )
    return numbered[who], names


def read_clients(
    clients: Mapping[Any, Any],
    class_names: Sequence[str] | None = None,
    batched: bool | None = None,
    constructor: str = "from_clients",
) -> tuple[Source, Names]:
    """See `FederatedDataset.from_clients` and `from_tf_datasets`."""
    if not isinstance(clients, Mapping):
        raise TypeError(
            f"{constructor} got a {type(clients).__name__}. Expected a dict "
            "from client id to (x, y), or to a tf.data.Dataset."
        )
    if not clients:
        raise ValueError(
            f"{constructor} got no clients. Expected at least one."
        )
    elements = {
        i: read_client_data(value, f"Client {i!r}", batched, text_labels=True)
        for i, value in zip(
            as_client_ids(clients), clients.values(), strict=True
        )
    }
    numbered, names = _number_labels(elements, class_names)
    for client_id, element in numbered.items():
        el.check_labels(element, f"Client {client_id!r}")
    return InMemory(numbered), names


def read_arrays(
    parts: tuple, client_ids: Any, class_names: Sequence[str] | None
) -> tuple[Source, Names]:
    """See `FederatedDataset.from_arrays`."""
    element, names = pooled_examples(parts, "from_arrays", class_names)
    ids = ids_array(client_ids)
    total = el.num_examples(element)
    if ids.ndim != 1 or len(ids) != total:
        raise ValueError(
            f"client_ids has shape {ids.shape}, but x and y have {total:,} "
            "examples. Expected one id for each example."
        )
    if not total:
        raise ValueError("from_arrays got no examples. Expected some.")
    names_of_rows, codes = client_of_rows(ids)
    source = group_rows(element, codes, names_of_rows)
    for client_id in names_of_rows if el.missing_labels(element) else ():
        el.check_labels(source.load(client_id), f"Client {client_id!r}")
    return source, names
