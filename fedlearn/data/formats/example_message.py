"""`tf.train.Example` messages, read and written without TensorFlow.

The message's class is made at run time from its definition, which is an
interface that stays: `Example{1: Features}`,
`Features{1: map<string, Feature>}`,
`Feature{1: BytesList | 2: FloatList | 3: Int64List}`, each list
`{1: repeated value}`.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

_KINDS = {"bytes_list": object, "float_list": np.float32, "int64_list": int}


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


@functools.cache
def _message_class() -> Any:
    from google.protobuf import (
        descriptor_pb2,
        descriptor_pool,
        message_factory,
    )

    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="fedlearn/example.proto", package="fedlearn", syntax="proto3"
    )

    def add(message: Any, name: str, number: int, **kwargs: Any) -> None:
        kwargs.setdefault("label", field_type.LABEL_OPTIONAL)
        message.field.add(name=name, number=number, **kwargs)

    for name, kind in (
        ("BytesList", field_type.TYPE_BYTES),
        ("FloatList", field_type.TYPE_FLOAT),
        ("Int64List", field_type.TYPE_INT64),
    ):
        message = file.message_type.add(name=name)
        add(message, "value", 1, type=kind, label=field_type.LABEL_REPEATED)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(_KINDS, 1):
        list_type = name.title().replace("_", "")
        add(
            feature,
            name,
            number,
            type=field_type.TYPE_MESSAGE,
            type_name=f".fedlearn.{list_type}",
            oneof_index=0,
        )
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    add(entry, "key", 1, type=field_type.TYPE_STRING)
    add(
        entry,
        "value",
        2,
        type=field_type.TYPE_MESSAGE,
        type_name=".fedlearn.Feature",
    )
    add(
        features,
        "feature",
        1,
        type=field_type.TYPE_MESSAGE,
        label=field_type.LABEL_REPEATED,
        type_name=".fedlearn.Features.FeatureEntry",
    )
    example = file.message_type.add(name="Example")
    add(
        example,
        "features",
        1,
        type=field_type.TYPE_MESSAGE,
        type_name=".fedlearn.Features",
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName("fedlearn.Example")
    )


def decode(
    blobs: Sequence[bytes], features: Mapping[str, Feature]
) -> tuple[dict[str, np.ndarray], dict[str, Feature]]:
    """Some serialized examples as arrays.

    Args:
        blobs: The examples.
        features: What each has to hold; if that is empty, what the first
            holds.

    Returns:
        By name, sorted: `(examples, length)` arrays, `(examples,)` where each
        example has one value, of `float32`, `int64` or objects of type
        `bytes`; and what each example holds.

    Raises:
        BadExampleError: If one is damaged, or holds something else.

    Example:

    >>> blobs = encode({"age": np.array([30, 40])})
    >>> decode(blobs, {})[0]
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
        if not found:
            raise BadExampleError("it has no features", row)
        if not known:
            known = {n: _feature(found[n]) for n in sorted(found)}
        if not columns:
            for name, (kind, length) in known.items():
                shape = (len(blobs), length)
                columns[name] = np.empty(shape, _KINDS[kind])
        if len(found) != len(known) or any(n not in found for n in known):
            raise BadExampleError(
                f"it has the features {sorted(found)}, while those before it "
                f"have {sorted(known)}",
                row,
            )
        for name, (kind, length) in known.items():
            feature = found[name]
            values = getattr(feature, kind).value
            if len(values) != length or feature.WhichOneof("kind") != kind:
                other = _feature(feature)
                raise BadExampleError(
                    f"feature {name!r} has {other.length} values in its "
                    f"{other.kind}, but {length} in the {kind} of those before "
                    "it, so that they cannot be stacked",
                    row,
                )
            # As a list: NumPy's own byte strings drop zeros at their end.
            columns[name][row] = list(values) if kind[0] == "b" else values
    arrays = {n: a[:, 0] if a.shape[1] == 1 else a for n, a in columns.items()}
    return arrays, known


def _feature(feature: Any) -> Feature:
    # One without a kind is a list without values.
    kind = feature.WhichOneof("kind") or "int64_list"
    return Feature(kind, len(getattr(feature, kind).value))


def encode(features: Mapping[str, np.ndarray]) -> list[bytes]:
    """Serialized examples of arrays with one row an example.

    Texts become bytes, floats `float32`, integers and booleans `int64`;
    arrays are flattened.

    Raises:
        ValueError: If an array holds what the format cannot.
    """
    rows: dict[str, tuple[str, list[Any]]] = {}
    for name in sorted(features):
        array = features[name]
        if array.dtype.kind in "OSU":
            kind = "bytes_list"
            cells = [
                v.encode() if isinstance(v, str) else v for v in array.flat
            ]
            array = np.fromiter(cells, object, len(cells)).reshape(array.shape)
        elif array.dtype.kind in "biu":
            kind = "int64_list"
            if array.size and int(array.max()) > np.iinfo(np.int64).max:
                raise ValueError(
                    f"feature {name!r} holds {array.max()}, which int64 "
                    "can't. Divide it, or make it text."
                )
            array = array.astype(np.int64)
        elif array.dtype.kind == "f":
            kind = "float_list"
            with np.errstate(over="ignore"):
                narrow = array.astype(np.float32)
            if (np.isinf(narrow) & ~np.isinf(array)).any():
                raise ValueError(
                    f"feature {name!r} holds a number that float32 can't. "
                    "Divide it first."
                )
            array = narrow
        else:
            raise ValueError(
                f"feature {name!r} has dtype {array.dtype}. Expected numbers "
                "or texts."
            )
        rows[name] = kind, array.reshape(len(array), -1).tolist()
    message_class = _message_class()
    blobs = []
    for row in range(len(next(iter(features.values())))):
        message = message_class()
        for name, (kind, values) in rows.items():
            stored = message.features.feature[name]
            getattr(stored, kind).value.extend(values[row])
            if not values[row]:
                getattr(stored, kind).SetInParent()
        blobs.append(message.SerializeToString(deterministic=True))
    return blobs
