"""`tf.train.Example` messages, read and written without TensorFlow."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

_DTYPES = {"bytes_list": object, "float_list": np.float32, "int64_list": int}


class Feature(NamedTuple):
    """What every example holds under a name.

    Attributes:
        kind: `"bytes_list"`, `"float_list"` or `"int64_list"`.
        length: How many values.
    """

    kind: str
    length: int


class BadExampleError(ValueError):
    """An example that cannot be read, or is unlike those before it.

    Attributes:
        row: Which one.
    """

    def __init__(self, why: str, row: int) -> None:
        super().__init__(why)
        self.row = row


def _message(name: str, *fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    numbered = [
        {"number": number, "label": "LABEL_OPTIONAL", **field}
        for number, field in enumerate(fields, 1)
    ]
    return {"name": name, "field": numbered, **more}


def _field(name: str, kind: str, repeated: bool = False) -> dict[str, Any]:
    field = {"name": name, "type": f"TYPE_{kind}"}
    if kind not in ("BYTES", "FLOAT", "INT64", "STRING"):
        field = {"name": name, "type": "TYPE_MESSAGE", "typeName": f".x.{kind}"}
    return field | ({"label": "LABEL_REPEATED"} if repeated else {})


@functools.cache
def _message_class() -> Any:
    """The message's class, made from its definition, which never changes."""
    from google.protobuf import (
        descriptor_pb2,
        descriptor_pool,
        json_format,
        message_factory,
    )

    kinds = [
        _field("bytes_list", "BytesList"),
        _field("float_list", "FloatList"),
        _field("int64_list", "Int64List"),
    ]
    entry = _message(
        "FeatureEntry",
        _field("key", "STRING"),
        _field("value", "Feature"),
        options={"mapEntry": True},
    )
    messages = [
        _message("BytesList", _field("value", "BYTES", repeated=True)),
        _message("FloatList", _field("value", "FLOAT", repeated=True)),
        _message("Int64List", _field("value", "INT64", repeated=True)),
        _message(
            "Feature",
            *(kind | {"oneofIndex": 0} for kind in kinds),
            oneofDecl=[{"name": "kind"}],
        ),
        _message(
            "Features",
            _field("feature", "Features.FeatureEntry", repeated=True),
            nestedType=[entry],
        ),
        _message("Example", _field("features", "Features")),
    ]
    definition = {"name": "x", "package": "x", "syntax": "proto3"}
    pool = descriptor_pool.DescriptorPool()
    pool.Add(
        json_format.ParseDict(
            definition | {"messageType": messages},
            descriptor_pb2.FileDescriptorProto(),
        )
    )
    descriptor = pool.FindMessageTypeByName("x.Example")
    return message_factory.GetMessageClass(descriptor)


def decode(
    blobs: Sequence[bytes], features: Mapping[str, Feature]
) -> tuple[dict[str, np.ndarray], dict[str, Feature]]:
    """Some serialized examples as arrays, and what each of them holds.

    By name, sorted: `(examples, length)` arrays, `(examples,)` where each
    example has one value, of `float32`, `int64` or objects of type `bytes`.
    Each has to hold `features`, or what the first holds if they are empty.

    >>> decode(encode({"age": np.array([30, 40])}), {})[0]
    {'age': array([30, 40])}
    """
    from google.protobuf.message import DecodeError

    parse = _message_class().FromString
    known = dict(features)
    columns: dict[str, np.ndarray] = {}
    for row, blob in enumerate(blobs):
        try:
            found = parse(blob).features.feature
        except (DecodeError, TypeError) as error:
            raise BadExampleError(str(error), row) from error
        known = known or _features(found)
        fits = len(found) == len(known) > 0
        for name, (kind, length) in known.items():
            # Of another kind, this list is empty.
            values = getattr(found[name], kind).value
            if not fits or len(values) != length:
                break
            if name not in columns:
                columns[name] = np.empty((len(blobs), length), _DTYPES[kind])
            # As a list: NumPy's own byte strings drop zeros at their end.
            columns[name][row] = list(values) if kind[0] == "b" else values
        else:
            if fits:
                continue
        # Parsed again: looking for a feature has made it.
        holds = _features(parse(blob).features.feature) or "no features"
        raise BadExampleError(
            f"it holds {holds}, but those before it {known}, so that they "
            "can't be stacked",
            row,
        )
    arrays = {n: a[:, 0] if a.shape[1] == 1 else a for n, a in columns.items()}
    return arrays, known


def _features(found: Any) -> dict[str, Feature]:
    features = {}
    for name in sorted(found):
        # One without a kind is a list without values.
        kind = found[name].WhichOneof("kind") or "int64_list"
        length = len(getattr(found[name], kind).value)
        features[name] = Feature(kind, length)
    return features


def encode(features: Mapping[str, np.ndarray]) -> list[bytes]:
    """Serialized examples of arrays with one row an example.

    Texts become bytes, floats `float32`, integers and booleans `int64`;
    arrays are flattened.
    """
    message_class = _message_class()
    count = len(next(iter(features.values())))
    messages = [message_class() for _ in range(count)]
    for name, array in features.items():
        kind, values = _plain(name, array)
        for message, row in zip(messages, values, strict=True):
            feature = message.features.feature[name]
            getattr(feature, kind).SetInParent()
            getattr(feature, kind).value.extend(np.ravel(row).tolist())
    return [m.SerializeToString(deterministic=True) for m in messages]


def _plain(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """The kind of list, and the array as one of its dtype."""
    if array.dtype.kind in "OSU":
        texts = np.empty(array.shape, object)
        texts.reshape(-1)[:] = [
            v.encode() if isinstance(v, str) else v for v in array.flat
        ]
        return "bytes_list", texts
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
