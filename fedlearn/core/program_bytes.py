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
from fedlearn.core.types import (
    CLIENTS,
    SERVER,
    FederatedType,
    FunctionType,
    StructType,
    TensorType,
    tensors,
    to_type,
)
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
        if not isinstance(types[t], FunctionType) or "@" in str(types[t]):
            raise ValueError(f"{name} is no function of arrays")
        if "" not in saved:
            raise ValueError(f"{name} isn't there for a single value")
        data = {key: blobs[i].tobytes() for key, i in saved.items()}
        functions.append(LocalComputation(name, types[t], data))
    parameters = {name: types[t] for name, t in head["parameters"]}
    known: list[TensorType] = []
    places: list[str] = []

    def add(t: Any) -> None:
        known.extend(tensors(t))
        places.extend([t.placement] * (len(known) - len(places)))
        # Few bytes may say that many operators give what has many tensors.
        if len(known) > _MOST_TENSORS:
            raise ValueError(f"it has more than {_MOST_TENSORS:,} tensors")

    for given in parameters.values():
        if not isinstance(given, FederatedType):
            raise ValueError(f"a parameter is {given}, which is nowhere")
        add(given)
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
        _check(op, known, places)
        ops.append(op)
        add(op.type)
    results = tuple(head["results"])
    parts = _federated(types[head["type"]])
    says = [(x.dtype, t.placement) for t in parts for x in tensors(t)]
    gives = [(known[i].dtype, places[i]) for i in results]
    if gives != says or min(results) < 0:
        raise ValueError("it doesn't give what it says")
    return Program(
        head["name"], parameters, tuple(ops), results, types[head["type"]]
    )


def _federated(t: Any) -> list[Any]:
    """The federated values of a result."""
    if isinstance(t, StructType):
        return [part for e in t.elements for part in _federated(e)]
    if not isinstance(t, FederatedType):
        raise ValueError(f"it gives {t}, which is nowhere")
    return [t]


def _check(op: Op, known: list[Any], places: list[str]) -> None:
    """Refuses an operator of what isn't there, or not of its type."""
    there = all(type(i) is int and 0 <= i < len(known) for i in op.inputs)
    if (
        op.kind not in _KINDS
        or not there
        or not isinstance(op.type, FederatedType)
    ):
        raise ValueError(f"there is no such operator: {op.kind}")
    given = [known[i] for i in op.inputs]
    at = [places[i] for i in op.inputs]
    gives, place, count = tensors(op.type), op.type.placement, len(op.outputs)
    constants = [TensorType(c.dtype, c.shape) for c in op.constants]
    takes = [tensors(fn.type.parameter) for fn in op.functions]
    made = [tensors(fn.type.result) for fn in op.functions]
    match op.kind:
        case "federated_value":
            fits = not given and _alike(constants, gives)
        case "federated_eval":
            fits = takes == [[]] and _alike(made[0], gives)
        case "federated_map" | "federated_apply":
            fits = {*at} <= {place} and len(takes) == 1
            fits = fits and _alike(takes[0], given) and _alike(made[0], gives)
            fits = fits and all(map(TensorType.takes, takes[0], given))
        case "federated_broadcast":
            fits = at == [SERVER] * count and place == CLIENTS
            fits = fits and _alike(given, gives)
        case "federated_seeds":
            fits = at == [SERVER] and place == CLIENTS
            fits = fits and given == gives == [TensorType("uint32", (2,))]
        case "federated_select":
            fits = at[:1] == [CLIENTS] and {*at[1:]} == {SERVER}
            number = TensorType("int32")
            wanted = [TensorType("int32", (None,)), number, *given[2:]]
            fits = fits and _alike(given, wanted) and place == CLIENTS
            fits = fits and len(takes) == 1 and len(made[0]) == count
            fits = fits and _alike(takes[0], [*given[2:], number])
        case "federated_aggregate":
            fits = {*at} <= {CLIENTS} and place == SERVER and len(takes) == 3
            fits = fits and _alike(takes[0], [*constants, *given])
            fits = fits and _alike(takes[1], 2 * constants)
            fits = fits and _alike(takes[2], constants)
            fits = fits and _alike(made[2], gives)
            fits = fits and all(_alike(m, constants) for m in made[:2])
        case _:
            fits = {*at} == {CLIENTS} and place == SERVER and not takes
            collects = op.kind == "federated_collect"
            of = [TensorType(t.dtype, t.shape[collects:]) for t in gives]
            weights = given[count:]
            fits = fits and _alike(given[:count], of) and len(weights) < 2
            fits = fits and not any(t.shape for t in weights)
            fits = fits and (not weights or op.kind == "federated_mean")
            secure = op.kind == "federated_secure_sum"
            fits = fits and constants == [TensorType("int64")] * 2 * secure
    if not fits:
        names = (f" of {fn.__name__}" for fn in op.functions[:1])
        raise ValueError(f"{op.kind}{''.join(names)} isn't of its type")


def _alike(some: list[TensorType], others: list[TensorType]) -> bool:
    """Whether dtypes and numbers of dimensions are the same."""
    kinds = ([(t.dtype, len(t.shape)) for t in ts] for ts in (some, others))
    return next(kinds) == next(kinds)
