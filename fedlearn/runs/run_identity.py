"""What decides a run's numbers, and how two runs differ in it."""

import contextlib
import dis
import functools
import hashlib
import importlib.metadata
import re
import sys
import types
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.data.fingerprint import fingerprint, ids_digest
from fedlearn.keras_model import keras_internals
from fedlearn.runs.schedule import Rounds, Schedule
from fedlearn.samplers.sampler import Sampler

if TYPE_CHECKING:
    from fedlearn.process import LearningProcess

# Code of these is told by their versions.
_LIBRARIES = {
    *sys.stdlib_module_names,
    "fedlearn",
    "jax",
    "keras",
    "ml_dtypes",
    "numpy",
    "tensorflow",
    "torch",
}
_DEEPEST = 16
_CONSTANTS = (
    *(bool, int, float, str, tuple, list, set, frozenset, Mapping),
    *(np.ndarray, keras.Variable, functools.partial),
)
_KEEPS_VARIABLES = (
    keras.Layer,
    keras.metrics.Metric,
    keras.optimizers.Optimizer,
)


def identity(
    process: "LearningProcess",
    data: FederatedDataset,
    sampler: "Sampler | None",
    seed: int,
) -> dict[str, Any]:
    """What must be the same for a resumed run to equal an unbroken one; JSON.

    Not the model's initial weights: a run that goes on takes its weights from
    its checkpoint. Not callbacks and validation data: they are the user's to
    change.

    Code is told as far as it can be: of functions and classes that aren't a
    library's own (a custom loss, a layer), the compiled code, what it refers
    to by name in its module, defaults and closures, with the weights of models
    that aren't trained (a teacher's). What it reads at run time from files or
    through objects with neither `get_config` nor attributes isn't.
    """
    model = process.functional_model.model
    drawn = data.client_ids if sampler is None else sampler.client_ids
    optimizer = getattr(process.client, "optimizer", None) or model.optimizer
    with warnings.catch_warnings():
        # Keras warns where it serialises a lambda; this is never read back.
        warnings.simplefilter("ignore")
        described = {
            "process": describe(type(process)),
            "algorithm": describe(process.algorithm),
            "model": _model(model),
            "compiled": _compiled(model),
            "client": describe(process.client, model),
            "client_optimizer": _optimizer(optimizer, model),
            "server_optimizer": _optimizer(process.server_optimizer, model),
            "aggregator": describe(process.aggregator),
            "broadcast_encoders": describe(process.broadcast_encoders),
            "executor": describe(process.executor),
            "plan": process.executor.plan(process.program),
            "sampler": None if sampler is None else describe(sampler),
            "schedule": _schedule(process.schedule(data, sampler)),
            "privacy": describe(process.privacy),
            "seed": int(seed),
            "backend": keras.backend.backend(),
            "floats": {
                "floatx": keras.config.floatx(),
                "epsilon": keras.config.epsilon(),
            },
            "data": fingerprint(data),
            "drawn_clients": ids_digest(drawn),
        }
    return _without_names(described, model)


def versions() -> dict[str, str]:
    """What may change a run's numbers slightly, and is no reason to refuse."""
    names = ("keras", "numpy", keras.backend.backend())
    found = {name: importlib.metadata.version(name) for name in names}
    import fedlearn

    return {"fedlearn": fedlearn.__version__, **found}


def differences(was: Any, now: Any) -> list[str]:
    """In words, what differs between two identities; nothing if they agree.

    >>> differences({"seed": 0, "client": {"epochs": 1}},
    ...             {"seed": 0, "client": {"epochs": 2}})
    ['client.epochs was 1 and is now 2']
    """
    return list(_differences("", was, now))


def _differences(path: str, was: Any, now: Any) -> Iterator[str]:
    kinds = _kind(was), _kind(now)
    if None not in kinds and kinds[0] != kinds[1]:
        # Of another kind all else is another, too.
        yield f"{path} was {kinds[0]} and is now {kinds[1]}"
    elif isinstance(was, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*was, *now)):
            deeper = f"{path}.{key}" if path else key
            if path == "data" and was.get(key) != now.get(key):
                yield _DATA[key]
            elif key not in was:
                yield f"{deeper} is now {_short(now[key])}, and wasn't there"
            elif key not in now:
                yield f"{deeper} was {_short(was[key])}, and isn't there now"
            else:
                yield from _differences(deeper, was[key], now[key])
    elif (
        isinstance(was, list) and isinstance(now, list) and len(was) == len(now)
    ):
        for i, pair in enumerate(zip(was, now, strict=True)):
            yield from _differences(f"{path}[{i}]", *pair)
    elif was != now and not _other_python(was, now):
        yield f"{path} was {_short(was)} and is now {_short(now)}"


_DATA = {
    "clients": "data: they have other clients, or in another order",
    "sizes": "data: clients have other numbers of examples",
    "examples": "data: the clients' examples are others (values, dtypes or "
    "shapes)",
}


def _kind(described: Any) -> str | None:
    """The name of the class of something that `describe` described."""
    if not isinstance(described, dict):
        return None
    kind = described.get("class")
    return kind["class"] if isinstance(kind, dict) else kind


def _short(value: Any) -> str:
    # Numbers of float32 have seven digits.
    text = f"{value:.7g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 120 else f"{text[:100]} ... {text[-15:]}"


# What things are.


def describe(thing: Any, model: keras.Model | None = None) -> Any:
    """A thing as plain values that are equal for things that do the same.

    `model` is the one that is trained, whose weights aren't told.

    >>> describe(keras.regularizers.L2(0.5))
    {'class': 'L2', 'l2': 0.5}
    """
    return _Description(() if model is None else model.variables).of(thing)


class _Description:
    """Describes one thing and its parts.

    `changing` has the variables that a run changes; others are constants.
    """

    def __init__(self, changing: Iterable[keras.Variable] = ()):
        self._changing = set(map(id, changing))
        self._above: list[int] = []  # ids of what a part belongs to

    def of(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, np.generic):
            return value.item()
        if id(value) in self._above or len(self._above) > _DEEPEST:
            return f"<{type(value).__name__}>"
        self._above.append(id(value))
        try:
            return self._of_parts(value)
        finally:
            self._above.pop()

    def _of_parts(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            if value.get("class_name") == "__lambda__":
                # Keras's form has the line and the file in it. The function
                # itself is told as an attribute of what has it.
                return "<lambda>"
            return {str(k): self.of(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.of(v) for v in value]
        if isinstance(value, (set, frozenset)):
            return sorted(map(self.of, value), key=repr)
        if isinstance(value, keras.Variable):
            if id(value) not in self._changing:
                return _array(value.value)
            return f"<variable {value.dtype} {tuple(value.shape)}>"
        if isinstance(value, np.ndarray) or keras.ops.is_tensor(value):
            return _array(value)
        if isinstance(value, functools.partial):
            parts = (value.func, value.args, value.keywords)
            return {"partial": self.of(parts)}
        if isinstance(value, types.MethodType):
            return self.of((value.__func__, value.__self__))
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, (types.BuiltinFunctionType, types.ModuleType)):
            return value.__name__
        # Compiled by tf.function or jax.jit, or cached.
        for name in ("python_function", "__wrapped__"):
            inner = getattr(value, name, None)
            if isinstance(inner, types.FunctionType):
                return self.of(inner)
        return self._object(value)

    def _function(self, function: types.FunctionType) -> Any:
        if _is_library(function):
            return f"{function.__module__}.{function.__qualname__}"
        code = function.__code__
        used: dict[str, Any] = {}
        for name in sorted(_names(code, "GLOBAL", "NAME")):
            value = function.__globals__.get(name)
            if isinstance(value, types.ModuleType) and not _is_library(value):
                inside = _names(code, "ATTR", "METHOD") & vars(value).keys()
                for part in sorted(inside):
                    if _is_told(vars(value)[part]):
                        used[f"{name}.{part}"] = vars(value)[part]
            elif value is not None and _is_told(value):
                used[name] = value
        given = (function.__defaults__, function.__kwdefaults__)
        parts = {
            "defaults": given if any(given) else None,
            "closure": _closure(function),
            "uses": used,
        }
        return {
            "function": function.__name__,
            "code": _code(code),
            **{name: self.of(part) for name, part in parts.items() if part},
        }

    def _class(self, cls: type) -> Any:
        code = {
            f"{part.__name__}.{name}": self.of(_unwrapped(member))
            for part, name, member in _members(cls)
            if isinstance(_unwrapped(member), types.FunctionType)
            or (not name.startswith("__") and _is_told(member))
        }
        return {"class": cls.__name__, "code": code} if code else cls.__name__

    def _object(self, value: Any) -> Any:
        described: dict[str, Any] = {"class": self._class(type(value))}
        config = None
        if hasattr(value, "get_config"):
            try:
                config = (
                    value.arguments  # whose clients are told as the data's
                    if isinstance(value, Sampler)
                    else value.get_config()
                )
            except Exception:  # Keras raises where it finds no configuration
                config = None
        slots = (
            n
            for _, n, m in _members(type(value))
            if n == "__slots__"
            for n in m
        )
        attributes = {
            **getattr(value, "__dict__", {}),
            **{n: getattr(value, n) for n in slots if hasattr(value, n)},
        }
        used = _used_by(type(value))
        if isinstance(value, keras.Layer):
            variables = set(map(id, value.variables))
            if value.weights and not variables & self._changing:  # a teacher
                described["weights"] = [_array(v.value) for v in value.weights]
            attributes = {
                n: v for n, v in attributes.items() if n not in _of_keras()
            }
        if isinstance(value, _KEEPS_VARIABLES):
            self._changing |= set(map(id, value.variables))
        if config is not None:
            described.update(self.of(config))
            # A configuration names functions; they are told here. Keras's
            # losses leave their arguments out of it (Huber's delta), classes
            # of the user's whatever they like.
            attributes = {
                n: v
                for n, v in attributes.items()
                if _is_own(v)
                or n == "_fn_kwargs"
                or (
                    n in used
                    and not isinstance(v, keras.Layer | keras.Variable)
                )
            }
        elif isinstance(value, keras.Layer):
            attributes = {
                n: v for n, v in attributes.items() if n[0] != "_" or n in used
            }
        elif _is_library(type(value)) and _root(type(value)) != "fedlearn":
            attributes = {}
        if attributes:
            described["holds"] = self.of(attributes)
        return described


def _array(value: Any) -> str:
    array = np.asarray(keras.ops.convert_to_numpy(value))
    if array.dtype.hasobject:  # texts, whose bytes are addresses
        content = repr(array.tolist()).encode()
    else:
        content = np.ascontiguousarray(array).tobytes()
    digest = hashlib.sha256(content)
    return f"<{array.dtype} {array.shape} {digest.hexdigest()[:16]}>"


@functools.cache
def _of_keras() -> frozenset[str]:
    """Attributes that Keras gives a model, and changes while it is used."""
    bare = keras.Model(name="bare")
    bare.compile()
    return frozenset({*vars(bare), "history"})


# Whose code it is.


def _members(cls: type) -> Iterator[tuple[type, str, Any]]:
    """What the user's own classes among its bases define."""
    for part in cls.__mro__:
        if not _is_library(part):
            for name, member in vars(part).items():
                yield part, name, member


def _unwrapped(member: Any) -> Any:
    if isinstance(member, property):
        return member.fget
    return getattr(member, "__func__", member)


def _used_by(cls: type) -> set[str]:
    """What the user's own code of a class calls attributes."""
    functions = (_unwrapped(member) for _, _, member in _members(cls))
    return {
        name
        for function in functions
        if isinstance(function, types.FunctionType)
        for name in _names(function.__code__, "ATTR")
    }


def _closure(function: types.FunctionType) -> dict[str, Any]:
    closure = {}
    cells = function.__closure__ or ()
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
        if name != "__class__":
            with contextlib.suppress(ValueError):  # not yet set
                closure[name] = cell.cell_contents
    return closure


def _is_own(part: Any) -> bool:
    """Whether it is code of the user's, or an object of such a class."""
    part = getattr(part, "__func__", part)
    if isinstance(part, functools.partial):
        return True
    if isinstance(part, (types.FunctionType, type)):
        return not _is_library(part)
    return not _is_library(type(part))


def _is_told(value: Any) -> bool:
    """Whether a global is code or a constant, and no library's."""
    if isinstance(value, (types.ModuleType, types.BuiltinFunctionType)):
        return False
    if isinstance(value, (types.FunctionType, type)):
        return not _is_library(value)
    return (
        isinstance(value, _CONSTANTS)
        or keras.ops.is_tensor(value)
        or hasattr(value, "get_config")
        or not _is_library(type(value))
    )


def _is_library(thing: Any) -> bool:
    return _root(thing) in _LIBRARIES


def _root(thing: Any) -> str:
    name = "__name__" if isinstance(thing, types.ModuleType) else "__module__"
    return (getattr(thing, name, None) or "builtins").split(".")[0]


def _all_code(code: types.CodeType) -> Iterator[types.CodeType]:
    """Code and that of the functions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _all_code(constant)


def _names(code: types.CodeType, *kinds: str) -> set[str]:
    """Names in bytecode of those kinds: `GLOBAL`, `NAME`, `ATTR`, ..."""
    return {
        instruction.argval
        for part in _all_code(code)
        for instruction in dis.get_instructions(part)
        if instruction.opname.endswith(kinds)
    }


def _code(code: types.CodeType) -> str:
    """Bytecode, which lines and files aren't part of."""
    digest = hashlib.sha256()
    for part in _all_code(code):
        digest.update(part.co_code)
        for names in (part.co_names, part.co_varnames, part.co_freevars):
            digest.update(repr(names).encode())
        for constant in part.co_consts:
            if isinstance(constant, frozenset):
                constant = sorted(constant, key=repr)
            if not isinstance(constant, types.CodeType):
                digest.update(repr(constant).encode())
    return f"{sys.implementation.cache_tag} {digest.hexdigest()[:16]}"


def _other_python(was: Any, now: Any) -> bool:
    """Whether both are code, of versions of Python that can't be compared."""
    tags = [
        re.fullmatch(r"([a-z]+-\d+) [0-9a-f]{16}", str(v)) for v in (was, now)
    ]
    return None not in tags and tags[0][1] != tags[1][1]  # type: ignore[index]


# Models and optimizers.


def _schedule(schedule: Schedule) -> Any:
    return "rounds" if type(schedule) is Rounds else describe(schedule)


def _model(model: keras.Model) -> dict[str, Any]:
    layers = keras_internals.layers(model)[1:]
    if type(model) is keras.Sequential:  # whose `layers` leave this out, too
        layers = [
            x for x in layers if not isinstance(x, keras.layers.InputLayer)
        ]
    described: dict[str, Any] = {
        "class": describe(type(model)),
        "variables": [
            f"{v.dtype} {tuple(v.shape)}{'' if v.trainable else ' frozen'}"
            for v in model.variables
        ],
        "layers": {
            f"{i} {type(layer).__name__}": _layer(layer, model)
            for i, layer in enumerate(layers)
        },
    }
    if type(model) is not keras.Sequential:
        described["structure"] = describe(model, model)
    return described


def _layer(layer: keras.Layer, model: keras.Model) -> Any:
    described = describe(layer, model)
    if hasattr(layer, "get_vocabulary"):  # from `adapt`, and no variable
        words = list(map(str, layer.get_vocabulary()))
        described["vocabulary"] = f"{len(words)} words {ids_digest(words)}"
    return described


def _without_names(value: Any, model: keras.Model) -> Any:
    """Without names that Keras makes up, by how many there were before.

    A reference to a layer, `[name, node, tensor]`, has its number instead.
    """
    layers = keras_internals.layers(model)
    numbers = {layer.name: f"layer {i}" for i, layer in enumerate(layers)}
    # A sum of two layers' outputs, say, isn't a layer, but has a name too.
    for layer in layers:
        for i, operation in enumerate(getattr(layer, "operations", ())):
            numbers.setdefault(
                operation.name, f"{numbers[layer.name]}, operation {i}"
            )

    def replaced(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {k: replaced(v, k) for k, v in value.items()}
        if isinstance(value, list):
            if [type(v) for v in value[:3]] == [str, int, int]:
                value = [numbers.get(value[0], value[0]), *value[1:]]
            return [replaced(v) for v in value]
        if key == "name" and isinstance(value, str):
            return numbers.get(value, re.sub(r"_\d+$", "", value))
        return value

    described = replaced(value)
    # A loss and metrics may be given by the names of outputs.
    for name, part in described.get("compiled", {}).items():
        if isinstance(part, dict):
            described["compiled"][name] = {
                numbers.get(k, k): v for k, v in part.items()
            }
    return described


def _compiled(model: keras.Model) -> dict[str, Any]:
    # As it was compiled: strings, functions and objects.
    config = keras_internals.compile_arguments(model)
    names = (
        "loss",
        "loss_weights",
        "metrics",
        "weighted_metrics",
        "auto_scale_loss",
    )
    return {name: describe(config.get(name), model) for name in names}


def _optimizer(
    optimizer: keras.optimizers.Optimizer, model: keras.Model
) -> dict[str, Any]:
    described = describe(optimizer, model)
    if getattr(optimizer, "weight_decay", None):
        described["decays"] = keras_internals.uses_weight_decay(
            optimizer, model.trainable_variables
        )
    return described
