"""`tf.train.Example` messages, read and written without TensorFlow."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedlearn.data import element as el

_DTYPES = {"bytes_list": object, "float_list": np.float32, "int64_list": int}


class Feature(NamedTuple):
    """What every example holds under a name: a list."""

    kind: str
    length: int


# A message's fields in the order of their numbers; * for those that repeat.
# An interface that stays.
_DEFINITION = {
    "BytesList": {"value": "BYTES*"},
    "FloatList": {"value": "FLOAT*"},
    "Int64List": {"value": "INT64*"},
    "Feature": {
        "bytes_list": "BytesList",
        "float_list": "FloatList",
        "int64_list": "Int64List",
    },
    "Entry": {"key": "STRING", "value": "Feature"},
    "Features": {"feature": "Entry*"},  # a map is nothing else in bytes
    "Example": {"features": "Features"},
}


@functools.cache
def _message_class() -> Any:
    from google.protobuf import (
        descriptor_pb2,
        descriptor_pool,
        message_factory,
    )

    file = descriptor_pb2.FileDescriptorProto(
        name="example", package="x", syntax="proto3"
    )
    for message, fields in _DEFINITION.items():
        added = file.message_type.add(name=message)
        for number, (name, kind) in enumerate(fields.items(), 1):
            field = added.field.add(name=name, number=number)
            field.label = (
                field.LABEL_REPEATED if "*" in kind else field.LABEL_OPTIONAL
            )
            kind = kind.rstrip("*")
            if kind in _DEFINITION:
                field.type, field.type_name = field.TYPE_MESSAGE, f".x.{kind}"
            else:
                field.type = getattr(field, f"TYPE_{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName("x.Example")
    return message_factory.GetMessageClass(descriptor)


def decode(
    rows: Sequence[tuple[str, bytes]], features: Mapping[str, Feature]
) -> tuple[dict[str, np.ndarray], dict[str, Feature]]:
    """Clients' serialized examples as arrays, and what each of them holds.

    `(examples, length)` arrays by name, or `(examples,)` of one value each.
    Each has to hold `features`, or what the first holds if they are empty.

    >>> (blob,) = encode({"age": np.array([30])})
    >>> decode([("ann", blob)], {})[0]
    {'age': array([30])}
    """
    from google.protobuf.message import DecodeError

    parse = _message_class().FromString
    known = dict(features)
    columns: dict[str, np.ndarray] = {}
    for row, (client_id, blob) in enumerate(rows):
        bad = f"an example of client {client_id!r} cannot be read: "
        try:
            entries = parse(blob).features.feature
        except (DecodeError, TypeError) as error:
            raise ValueError(f"{bad}{error}") from error
        found = {entry.key: entry.value for entry in entries}
        known = known or _features(found)
        fits = found.keys() == known.keys() and bool(found)
        for name, (kind, length) in known.items() if fits else ():
            # Of another kind, this list is empty.
            values = getattr(found[name], kind).value
            fits = fits and len(values) == length
            if not fits:
                break
            if name not in columns:
                columns[name] = np.empty((len(rows), length), _DTYPES[kind])
            # As a list: NumPy's own byte strings drop zeros at their end.
            columns[name][row] = list(values) if kind[0] == "b" else values
        if not fits:
            raise ValueError(
                f"{bad}it holds {_features(found) or 'no features'}, but those "
                f"before it {known}, so that they can't be stacked"
            )
    arrays = {n: a[:, 0] if a.shape[1] == 1 else a for n, a in columns.items()}
    return arrays, known


def _features(found: Mapping[str, Any]) -> dict[str, Feature]:
    features = {}
    for name in sorted(found):
        # One without a kind is a list without values.
        kinds = [kind for kind in _DTYPES if found[name].HasField(kind)]
        kind = kinds[-1] if kinds else "int64_list"
        length = len(getattr(found[name], kind).value)
        features[name] = Feature(kind, length)
    return features


def encode(features: Mapping[str, np.ndarray]) -> list[bytes]:
    """Serialized examples of arrays with one row an example."""
    message_class = _message_class()
    count = len(next(iter(features.values())))
    messages = [message_class() for _ in range(count)]
    for name in sorted(features):
        kind, values = _plain(name, features[name])
        for message, row in zip(messages, values, strict=True):
            entry = message.features.feature.add(key=name)
            getattr(entry.value, kind).SetInParent()
            getattr(entry.value, kind).value.extend(np.ravel(row).tolist())
    return [message.SerializeToString() for message in messages]


def _plain(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """The kind of list, and the array as one of its dtype."""
    if array.dtype.kind in "OSU":
        return "bytes_list", el.encoded(array)
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            narrow = array.astype(np.float32)
        is_held = np.isinf(narrow) == np.isinf(array)
        kind = "float_list"
    elif array.dtype.kind in "biu":
        narrow = array.astype(np.int64)
        is_held = (narrow < 0) == (array < 0)
        kind = "int64_list"
    else:
        raise ValueError(
            f"feature {name!r} has dtype {array.dtype}. Expected numbers or "
            "texts."
        )
    if not is_held.all():
        raise ValueError(
            f"feature {name!r} holds {array[~is_held].flat[0]}, which "
            f"{narrow.dtype} can't. Divide it first."
        )
    return kind, narrow
