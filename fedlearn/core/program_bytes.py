"""A program as bytes, without Python in them.

After eight bytes, `FLCORE1` and a line feed, and the SHA-256 of the rest, a
message of `fedlearn.messages.wire`: JSON with texts of types, functions and
operators, which refer to each other by number, and then the functions'
artifacts and constants as arrays.
"""

import hashlib
import json
from typing import Any

import numpy as np

from fedlearn.core.aggregates import AGGREGATES
from fedlearn.core.local_computation import LocalComputation, form
from fedlearn.core.map_sum import artifacts
from fedlearn.core.program import Op, Program
from fedlearn.core.types import FederatedType, TensorType, tensors, to_type
from fedlearn.data.formats.format_error import FormatError
from fedlearn.messages import wire

_MAGIC = b"FLCORE1\n"
_START = len(_MAGIC) + 32
_MOST_TENSORS = 10**6
_KINDS = {
    *AGGREGATES,
    *("federated_value", "federated_eval", "federated_broadcast"),
    *("federated_map", "federated_apply", "federated_select"),
    "federated_seeds",
}


def encode(program: Program, ours: bool = False) -> bytes:
    """A program's bytes; a ValueError if a function does more than compute.

    Those that are `ours` go to a process that trusts this one, for `unpack`.
    """
    blobs: list[np.ndarray] = []
    types: dict[str, int] = {}
    functions: dict[LocalComputation, dict[str, int]] = {}

    def blob(array: Any) -> int:
        blobs.append(np.asarray(array))
        return len(blobs) - 1

    def type_(t: Any) -> int:
        return types.setdefault(str(t), len(types))

    for fn, key in artifacts(program):
        saved = functions.setdefault(fn, {})
        if key not in saved:
            data = fn.artifact(key)
            form.check(data, ours)
            saved[key] = blob(np.frombuffer(data, np.uint8))
    head = {
        "form": form.NAME,
        "name": program.name,
        "functions": [
            (fn.__name__, type_(fn.type), saved)
            for fn, saved in functions.items()
        ],
        "parameters": [(n, type_(t)) for n, t in program.parameters.items()],
        "ops": [
            (
                op.kind,
                [list(functions).index(fn) for fn in op.functions],
                op.inputs,
                [blob(c) for c in op.constants],
                type_(op.type),
                op.source,
            )
            for op in program.ops
        ],
        "results": program.results,
        "type": type_(program.type),
        "types": list(types),
    }
    text = json.dumps(head, separators=(",", ":")).encode()
    body = wire.pack((np.frombuffer(text, np.uint8), tuple(blobs)))
    return _MAGIC + hashlib.sha256(body).digest() + body


def decode(data: bytes, name: str = "these bytes") -> Program:
    """The program of some bytes, which may come from a stranger.

    Raises:
        FormatError: If they are no program, or one of the other backend, or
            if a function does more than compute.
    """
    body = data[_START:]
    if not data.startswith(_MAGIC):
        raise FormatError(f"No computation that this fedlearn reads: {name}.")
    if hashlib.sha256(body).digest() != data[len(_MAGIC) : _START]:
        raise FormatError(f"Damaged, or cut short: {name}.")
    try:
        program = unpack(data)
        functions = (fn for op in program.ops for fn in op.functions)
        blobs = [b for fn in {*functions} for b in fn.artifacts.values()]
        if blobs:
            form.screen(blobs)
        for blob in blobs:
            form.check(blob)
        return program
    except Exception as error:  # whatever the backends make of bytes
        raise FormatError(f"No computation, {error!s:.300}: {name}.") from error


def unpack(data: bytes) -> Program:
    """The program of what `encode` gave, and nobody else."""
    text, blobs = wire.unpack(data[_START:])
    return _program(json.loads(text.tobytes()), blobs)


def _program(head: dict[str, Any], blobs: Any) -> Program:
    if head["form"] != form.NAME:
        raise ValueError(
            f"its functions are {head['form']} and Keras's backend runs "
            f"{form.NAME} (KERAS_BACKEND chooses it)"
        )
    types: list[Any] = [to_type(text) for text in head["types"]]
    functions = []
    for name, t, saved in head["functions"]:
        data = {key: blobs[i].tobytes() for key, i in saved.items()}
        functions.append(LocalComputation(name, types[t], data))
    parameters = {name: types[t] for name, t in head["parameters"]}
    known: list[TensorType] = []
    for given in parameters.values():
        _add(known, given)
    ops = []
    for kind, fns, inputs, constants, t, source in head["ops"]:
        op = Op(
            kind,
            tuple(functions[i] for i in fns),
            tuple(inputs),
            tuple(blobs[i] for i in constants),
            types[t],
            len(known),
            source,
        )
        _check(op, known)
        ops.append(op)
        _add(known, op.type)
    results = tuple(head["results"])
    of_type = [x.dtype for x in tensors(types[head["type"]])]
    if [known[i].dtype for i in results] != of_type or min(results) < 0:
        raise ValueError("it doesn't give what it says")
    return Program(
        head["name"], parameters, tuple(ops), results, types[head["type"]]
    )


def _add(known: list[TensorType], t: Any) -> None:
    # Few bytes may say that many operators give what has many tensors.
    known += tensors(t)
    if len(known) > _MOST_TENSORS:
        raise ValueError(f"it has more than {_MOST_TENSORS:,} tensors")


def _check(op: Op, known: list[Any]) -> None:
    """Refuses an operator of what isn't there, or not of its type."""
    there = all(type(i) is int and 0 <= i < len(known) for i in op.inputs)
    if (
        op.kind not in _KINDS
        or not there
        or not isinstance(op.type, FederatedType)
    ):
        raise ValueError(f"there is no such operator: {op.kind}")
    if op.kind in ("federated_map", "federated_apply", "federated_eval"):
        (fn,) = op.functions
        takes, gives = tensors(fn.type.parameter), tensors(fn.type.result)
        fits = len(takes) == len(op.inputs) and len(gives) == len(op.outputs)
        given = [known[i] for i in op.inputs]
        if not fits or not all(map(TensorType.takes, takes, given)):
            raise ValueError(f"{fn.__name__} doesn't fit {op.kind}")
