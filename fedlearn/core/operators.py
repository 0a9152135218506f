"""The operators of the language, by TensorFlow Federated's names."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from fedlearn import checks
from fedlearn.core.federated_type_error import FederatedTypeError
from fedlearn.core.local_computation import (
    LocalComputation,
    check_dtypes,
    trace,
)
from fedlearn.core.structure import flatten
from fedlearn.core.types import (
    CLIENTS,
    SERVER,
    FederatedType,
    SequenceType,
    StructType,
    TensorType,
    Type,
    sized,
    tensors,
    to_type,
)
from fedlearn.core.value import Value, emit, federated

Function = LocalComputation | Callable[..., Any]
_SEED = TensorType("uint32", (2,))


def federated_value(value: Any, placement: str) -> Value:
    """`T, P -> T@P`: a constant, the same at all clients."""
    constants, t = _constant(value, "federated_value")
    equal = FederatedType(t, placement, all_equal=True)
    return emit("federated_value", equal, constants=constants)


def federated_eval(fn: Function, placement: str) -> Value:
    """`( -> T), P -> T@P`: what a function without parameters gives."""
    local, result = _local(fn, None, "federated_eval")
    equal = FederatedType(result, placement, all_equal=True)
    return emit("federated_eval", equal, functions=[local])


def federated_broadcast(value: Any) -> Value:
    """`T@SERVER -> T@CLIENTS`: sends all clients the same."""
    given, t = federated(value, "value", "federated_broadcast", SERVER)
    sent = FederatedType(t.member, CLIENTS, all_equal=True)
    return emit("federated_broadcast", sent, given)


def federated_map(fn: Function, value: Any) -> Value:
    """`(T -> U), {T}@P -> {U}@P`: a function of each value by itself.

    Args:
        fn: A local computation; or a plain function, which becomes one here,
            of one parameter or of one for each element of the value.
        value: A federated value, or a structure of some in one place.
    """
    return _map("federated_map", fn, value)


def federated_apply(fn: Function, value: Any) -> Value:
    """`(T -> U), T@SERVER -> U@SERVER`: `federated_map` at the server."""
    return _map("federated_apply", fn, value, SERVER)


def federated_zip(value: Any) -> Value:
    """`<{A}@P,{B}@P> -> {<A,B>}@P`: values in one place as one."""
    return federated(value, "value", "federated_zip")[0]


def federated_sum(value: Any) -> Value:
    """`{T}@CLIENTS -> T@SERVER`, of numbers."""
    return _aggregate("federated_sum", value, "iufcV", "numbers")


def federated_min(value: Any) -> Value:
    """`{T}@CLIENTS -> T@SERVER`: the least, each coordinate by itself."""
    return _aggregate("federated_min", value, "iufV", "real numbers")


def federated_max(value: Any) -> Value:
    """`{T}@CLIENTS -> T@SERVER`: the largest, each coordinate by itself."""
    return _aggregate("federated_max", value, "iufV", "real numbers")


def federated_mean(value: Any, weight: Any = None) -> Value:
    """`{T}@CLIENTS, {W}@CLIENTS -> T@SERVER`, of floating-point numbers.

    Args:
        value: What to average.
        weight: A number of each client; None for equal weights. A client of
            weight 0 doesn't count, even with a NaN; where all are 0 so is the
            mean. (Nothing else is left out: other than
            `fedlearn.aggregators.Mean`, it takes a NaN that counts.)
    """
    weights = []
    if weight is not None:
        given, t = federated(weight, "weight", "federated_mean", CLIENTS)
        one = isinstance(t.member, TensorType) and not t.member.shape
        if not one or tensors(t)[0].dtype.kind not in "iufV":
            raise FederatedTypeError(
                "`weight` of federated_mean must be one number of each "
                f"client. Received: {t}."
            )
        weights = [given]
    what = "floating-point numbers (cast integers in a map)"
    return _aggregate("federated_mean", value, "fcV", what, *weights)


def federated_secure_sum(
    value: Any, max_input: int, modulus_bits: int = 31
) -> Value:
    """`{T}@CLIENTS -> T@SERVER`, of integers, modulo a power of two.

    The arithmetic of secure aggregation (Bonawitz et al. 2017, "Practical
    secure aggregation for privacy-preserving machine learning"), without the
    cryptography that hides single numbers. A sum that reaches the modulus
    `2**modulus_bits` wraps.

    Args:
        value: Integers of at least 32 bits.
        max_input: The largest number of a client: 0 to this it is clipped to.
        modulus_bits: Of the sum, at most 31.
    """
    checks.whole("modulus_bits", modulus_bits, most=31)
    checks.whole("max_input", max_input, most=2**modulus_bits - 1)
    return _aggregate(
        "federated_secure_sum",
        value,
        "iu",
        "integers of at least 32 bits (quantize in a map)",
        constants=[np.int64(max_input), np.int64(2**modulus_bits - 1)],
        least=4,
    )


def federated_aggregate(
    value: Any,
    zero: Any,
    accumulate: Function,
    merge: Function,
    report: Function,
) -> Value:
    """`{T}@CLIENTS -> R@SERVER`: a sum of one's own.

    Args:
        value: What to aggregate.
        zero: Arrays, of a type `U`: the total of no clients.
        accumulate: `(<U,T> -> U)`: a total with one client more.
        merge: `(<U,U> -> U)`: the total of two; in which order clients are
            added up is left open.
        report: `(U -> R)`, at the server.
    """
    name = "federated_aggregate"
    given, t = federated(value, "value", name, CLIENTS)
    constants, total = _constant(zero, name)
    locals_ = [
        _local(accumulate, StructType([total, t.member]), name),
        _local(merge, StructType([total, total]), name),
        _local(report, total, name),
    ]
    for fn, gives in locals_[:2]:
        difference = total.difference(gives)
        if difference:
            raise FederatedTypeError(
                f"`{fn.__name__}` of {name} must give what `zero` is, and "
                f"differs{difference}"
            )
    functions = [fn for fn, _ in locals_]
    result = FederatedType(locals_[2][1], SERVER)
    return emit(name, result, given, functions=functions, constants=constants)


def federated_collect(value: Any) -> Value:
    """`{T}@CLIENTS -> T*@SERVER`: what every client has, in their order."""
    return _aggregate(
        "federated_collect", value, "biufcV", "arrays", result=SequenceType
    )


def federated_select(
    client_keys: Any, max_key: Any, server_val: Any, select_fn: Function
) -> Value:
    """`{int32[k]}@CLIENTS, int32@SERVER, T@SERVER -> {U*}@CLIENTS`.

    Sends each client the parts of a server's value that it asks for.

    Args:
        client_keys: As many integers at each client.
        max_key: Keys are 0 up to this number, included; others are clipped.
        server_val: What parts are taken of.
        select_fn: `(<T,int32> -> U)`: the part of a key.
    """
    name = "federated_select"
    keys, t = federated(client_keys, "client_keys", name, CLIENTS)
    most, most_type = federated(max_key, "max_key", name, SERVER)
    source, of = federated(server_val, "server_val", name, SERVER)
    key = TensorType("int32")
    if not TensorType("int32", (None,)).takes(t.member) or (
        most_type.member != key
    ):
        raise FederatedTypeError(
            f"{name} takes {{int32[k]}}@CLIENTS and int32@SERVER. Received: "
            f"{t} and {most_type}."
        )
    local, part = _local(select_fn, StructType([of.member, key]), name)
    result = FederatedType(SequenceType(part), CLIENTS, t.all_equal)
    return emit(name, result, keys, most, source, functions=[local])


def federated_seeds(seed: Any) -> Value:
    """`uint32[2]@SERVER -> {uint32[2]}@CLIENTS`: a seed for each client.

    A local computation has no generator of its own. Client `i` gets what
    Threefry (Salmon et al. 2011) makes of the counter `i` by the seed as key:
    the same on every machine.
    """
    given, t = federated(seed, "seed", "federated_seeds", SERVER)
    if t.member != _SEED:
        raise FederatedTypeError(
            f"`seed` of federated_seeds must be {_SEED}@SERVER. Received: {t}."
        )
    return emit("federated_seeds", FederatedType(_SEED, CLIENTS), given)


def _map(
    name: str, fn: Function, value: Any, place: str | None = None
) -> Value:
    given, t = federated(value, "value", name, place)
    local, gives = _local(fn, t.member, name)
    result = FederatedType(gives, t.placement, t.all_equal)
    return emit(name, result, given, functions=[local])


def _aggregate(
    name: str,
    value: Any,
    kinds: str,
    what: str,
    *more: Value,
    constants: Any = (),
    least: int = 0,
    result: Callable[[Type], Type] = lambda member: member,
) -> Value:
    """An operator to the server, of numbers of some kinds."""
    given, t = federated(value, "value", name, CLIENTS)
    for x in tensors(t):
        if not all(isinstance(s, int) for s in x.shape):
            what = "arrays that have one shape at all clients"
        elif x.dtype.kind in kinds and x.dtype.itemsize >= least:
            continue
        raise FederatedTypeError(
            f"{name} is of {what}. Received: {t}, with {x} in it."
        )
    at_server = FederatedType(result(t.member), SERVER)
    return emit(name, at_server, given, *more, constants=constants)


def _constant(value: Any, name: str) -> tuple[list[np.ndarray], Type]:
    if isinstance(value, (str, bytes)):
        raise FederatedTypeError(
            f"{name} takes numbers or arrays. Received: {value!r}."
        )
    try:
        t = to_type(value)
        # Copies: what is given may be changed later.
        constants = [np.array(x) for x in flatten(value, t, name)]
    except TypeError as error:
        raise FederatedTypeError(
            f"{name} takes numbers or arrays: {error}"
        ) from error
    check_dtypes(t)
    return constants, t


def _local(
    fn: Function, member: Type | None, name: str
) -> tuple[LocalComputation, Type]:
    """A function as a local computation that takes a type; what it gives."""
    called = getattr(fn, "__name__", repr(fn))
    given = member or StructType([])
    if not isinstance(fn, LocalComputation):
        if not callable(fn) or hasattr(fn, "program"):
            raise FederatedTypeError(
                f"{name} takes a local computation or a plain function. "
                f"Received: {fn!r}."
            )
        count = len(inspect.signature(fn).parameters)
        inner = getattr(given, "element", given)  # spread over stacked ones too
        if count not in ((1, len(inner.parts) or 1) if member else (0,)):
            raise FederatedTypeError(
                f"`{called}` has {count} parameters; {name} gives it {given}."
            )
        fn = trace(fn, member, spread=count != 1)
    sizes: dict[str, Any] = {}
    takes = fn.type.parameter or StructType([])
    if difference := takes.difference(given, sizes):
        raise FederatedTypeError(
            f"`{called}` doesn't take what {name} gives it{difference}"
        )
    return fn, sized(fn.type.result, sizes)
