"""What decides a run's numbers, and how two runs differ in it."""

import dis
import functools
import hashlib
import importlib.metadata
import re
import sys
import types
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np

from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.data.fingerprint import fingerprint, ids_digest
from fedlearn.keras_model import keras_internals
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
    """What must be the same for a resumed run to equal an unbroken one.

    Not the model's initial weights: a run that goes on takes its weights from
    its checkpoint, so a script without a seed for Keras may be started again.
    Not callbacks and validation data either: they are the user's to change.

    Code is told as far as it can be: of functions and classes that aren't a
    library's own (a custom loss, a layer), the compiled code, what it refers
    by name in its module, defaults and closures, with the weights of models
    that aren't trained (a teacher's). What it reads at run time from files or
    through objects with neither `get_config` nor attributes isn't.

    Returns:
        Plain values that JSON can hold.
    """
    model = process.functional_model.model
    drawn = data.client_ids if sampler is None else sampler.client_ids
    optimizer = getattr(process.client, "optimizer", None) or model.optimizer
    with warnings.catch_warnings():
        # Keras warns where it serialises a lambda; this is never read back.
        warnings.simplefilter("ignore")
        described = {
            "algorithm": _class_of(process),
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

    Example:

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


class _Way(NamedTuple):
    """How a description came to where it is.

    Attributes:
        changing: Ids of variables that a run changes; others are constants.
        above: Ids of what the thing is a part of.
    """

    changing: frozenset[int] = frozenset()
    above: tuple[int, ...] = ()


def _changing(variables: Iterable[keras.Variable]) -> frozenset[int]:
    return frozenset(map(id, variables))


def describe(thing: Any, model: keras.Model | None = None) -> Any:
    """A thing as plain values that are equal for things that do the same.

    Args:
        thing: What.
        model: The one that is trained, whose weights aren't told.

    Example:

    >>> describe(keras.regularizers.L2(0.5))
    {'class': 'L2', 'l2': 0.5}
    """
    trained = () if model is None else model.variables
    return _plain(thing, _Way(_changing(trained)))


def _plain(value: Any, way: _Way) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if id(value) in way.above or len(way.above) > _DEEPEST:
        return f"<{type(value).__name__}>"
    way = way._replace(above=(*way.above, id(value)))
    if isinstance(value, Mapping):
        if value.get("class_name") == "__lambda__":
            # Keras's form has the line and the file in it. The function
            # itself is told as an attribute of what has it.
            return "<lambda>"
        return {str(k): _plain(v, way) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, way) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(v, way) for v in value), key=repr)
    if isinstance(value, keras.Variable):
        if id(value) not in way.changing:
            return _array(value.value)
        return f"<variable {value.dtype} {tuple(value.shape)}>"
    if isinstance(value, np.ndarray) or keras.ops.is_tensor(value):
        return _array(value)
    if isinstance(value, functools.partial):
        parts = (value.func, value.args, value.keywords)
        return {"partial": _plain(parts, way)}
    if isinstance(value, types.MethodType):
        return _plain((value.__func__, value.__self__), way)
    if isinstance(value, types.FunctionType):
        return _function(value, way)
    if isinstance(value, type):
        return _class(value, way)
    if isinstance(value, (types.BuiltinFunctionType, types.ModuleType)):
        return value.__name__
    # Compiled by tf.function or jax.jit, or cached.
    for name in ("python_function", "__wrapped__"):
        inner = getattr(value, name, None)
        if isinstance(inner, types.FunctionType):
            return _plain(inner, way)
    return _object(value, way)


def _array(value: Any) -> str:
    array = np.asarray(keras.ops.convert_to_numpy(value))
    if array.dtype.hasobject:  # texts, whose bytes are addresses
        content = repr(array.tolist()).encode()
    else:
        content = np.ascontiguousarray(array).tobytes()
    digest = hashlib.sha256(content)
    return f"<{array.dtype} {array.shape} {digest.hexdigest()[:16]}>"


def _class_of(value: Any) -> Any:
    return _class(type(value), _Way())


def _class(cls: type, way: _Way) -> Any:
    code = {
        f"{part.__name__}.{name}": _plain(_unwrapped(member), way)
        for part in cls.__mro__
        if not _is_library(part)
        for name, member in vars(part).items()
        if isinstance(_unwrapped(member), types.FunctionType)
        or (not name.startswith("__") and _is_told(member))
    }
    return {"class": cls.__name__, "code": code} if code else cls.__name__


def _unwrapped(member: Any) -> Any:
    if isinstance(member, property):
        return member.fget
    return getattr(member, "__func__", member)


def _object(value: Any, way: _Way) -> Any:
    described: dict[str, Any] = {"class": _class(type(value), way)}
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
    attributes = {
        **getattr(value, "__dict__", {}),
        **{
            name: getattr(value, name)
            for part in type(value).__mro__
            if not _is_library(part)
            for name in vars(part).get("__slots__", ())
            if hasattr(value, name)
        },
    }
    if isinstance(value, _KEEPS_VARIABLES):
        variables = _changing(value.variables)
        if isinstance(value, keras.Layer):
            if value.weights and not variables & way.changing:  # a teacher
                described["weights"] = [_array(v.value) for v in value.weights]
            attributes = {
                n: v for n, v in attributes.items() if n not in _of_keras()
            }
        way = way._replace(changing=way.changing | variables)
    if config is not None:
        described.update(_plain(config, way))
        # A configuration names functions; they are told here. Keras's losses
        # leave their arguments out of it (Huber's delta), classes of the
        # user's whatever they like.
        used = _used_by(type(value))
        attributes = {
            n: v
            for n, v in attributes.items()
            if _is_own(v)
            or n == "_fn_kwargs"
            or (n in used and not isinstance(v, (keras.Layer, keras.Variable)))
        }
    elif isinstance(value, keras.Layer):
        used = _used_by(type(value))
        attributes = {
            n: v for n, v in attributes.items() if n[0] != "_" or n in used
        }
    elif _is_library(type(value)) and _root(type(value)) != "fedlearn":
        attributes = {}
    if attributes:
        described["holds"] = _plain(attributes, way)
    return described


@functools.cache
def _of_keras() -> frozenset[str]:
    """Attributes that Keras gives a model, and changes while it is used."""
    bare = keras.Model(name="bare")
    bare.compile()
    return frozenset({*vars(bare), "history"})


def _used_by(cls: type) -> set[str]:
    """What the user's own code of a class calls attributes."""
    functions = [
        _unwrapped(member)
        for part in cls.__mro__
        if not _is_library(part)
        for member in vars(part).values()
    ]
    return {
        name
        for function in functions
        if isinstance(function, types.FunctionType)
        for name in _names(function.__code__, "ATTR")
    }


def _is_own(part: Any) -> bool:
    """Whether it is code of the user's, or an object of such a class."""
    if isinstance(part, functools.partial):
        return True
    if isinstance(part, types.MethodType):
        part = part.__func__
    if isinstance(part, (types.FunctionType, type)):
        return not _is_library(part)
    return not _is_library(type(part))


def _is_library(thing: Any) -> bool:
    return _root(thing) in _LIBRARIES


def _root(thing: Any) -> str:
    name = "__name__" if isinstance(thing, types.ModuleType) else "__module__"
    return (getattr(thing, name, None) or "builtins").split(".")[0]


def _function(function: types.FunctionType, way: _Way) -> Any:
    if _is_library(function):
        return f"{function.__module__}.{function.__qualname__}"
    described: dict[str, Any] = {
        "function": function.__name__,
        "code": _code(function.__code__),
    }
    given = (function.__defaults__, function.__kwdefaults__)
    if any(given):
        described["defaults"] = _plain(given, way)
    cells = {}
    for name, cell in zip(
        function.__code__.co_freevars, function.__closure__ or (), strict=True
    ):
        try:
            cells[name] = cell.cell_contents
        except ValueError:  # not yet set
            continue
    cells.pop("__class__", None)
    if cells:
        described["closure"] = _plain(cells, way)
    used: dict[str, Any] = {}
    attributes = _names(function.__code__, "ATTR", "METHOD")
    for name in sorted(_names(function.__code__, "GLOBAL", "NAME")):
        value = function.__globals__.get(name)
        if isinstance(value, types.ModuleType) and not _is_library(value):
            for part in sorted(attributes & vars(value).keys()):
                if _is_told(vars(value)[part]):
                    used[f"{name}.{part}"] = vars(value)[part]
        elif value is not None and _is_told(value):
            used[name] = value
    if used:
        described["uses"] = _plain(used, way)
    return described


def _is_told(value: Any) -> bool:
    """Whether a global is code or a constant, and no library's."""
    if isinstance(value, (types.FunctionType, type)):
        return not _is_library(value)
    if isinstance(value, (types.ModuleType, types.BuiltinFunctionType)):
        return False
    return (
        isinstance(value, _CONSTANTS)
        or keras.ops.is_tensor(value)
        or hasattr(value, "get_config")
        or not _is_library(type(value))
    )


def _names(code: types.CodeType, *kinds: str) -> set[str]:
    """Names in bytecode of those kinds: `GLOBAL`, `NAME`, `ATTR`, ..."""
    names = {
        instruction.argval
        for instruction in dis.get_instructions(code)
        if instruction.opname.endswith(kinds)
    }
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant, *kinds)
    return names


def _code(code: types.CodeType) -> str:
    """Bytecode, which lines and files aren't part of."""
    digest = hashlib.sha256()

    def add(code: types.CodeType) -> None:
        digest.update(code.co_code)
        for names in (code.co_names, code.co_varnames, code.co_freevars):
            digest.update(repr(names).encode())
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                add(constant)
            elif isinstance(constant, frozenset):
                digest.update(repr(sorted(constant, key=repr)).encode())
            else:
                digest.update(repr(constant).encode())

    add(code)
    return f"{sys.implementation.cache_tag} {digest.hexdigest()[:16]}"


def _other_python(was: Any, now: Any) -> bool:
    """Whether both are code, of versions of Python that can't be compared."""
    tags = [
        re.fullmatch(r"([a-z]+-\d+) [0-9a-f]{16}", str(v)) for v in (was, now)
    ]
    return None not in tags and tags[0][1] != tags[1][1]  # type: ignore[index]


# Models and optimizers.


def _model(model: keras.Model) -> dict[str, Any]:
    layers = keras_internals.layers(model)[1:]
    if type(model) is keras.Sequential:  # whose `layers` leave this out, too
        layers = [
            x for x in layers if not isinstance(x, keras.layers.InputLayer)
        ]
    described: dict[str, Any] = {
        "class": _class_of(model),
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

    Layers have their number where a configuration refers to them, which it
    does as `[name, node, tensor]`.
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
