"""What decides a run's numbers, and how two runs differ in it."""

import contextlib
import functools
import hashlib
import importlib.metadata
import inspect
import json
import re
import sys
import types
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.data.fingerprint import fingerprint, ids_digest
from fedlearn.keras_model import keras_internals
from fedlearn.runs.schedule import Rounds
from fedlearn.samplers.sampler import Sampler

if TYPE_CHECKING:
    from fedlearn.clients.program import ClientProgram
    from fedlearn.conditions.conditions import Conditions
    from fedlearn.process import LearningProcess

# Of the description: those of two formats can't be compared.
_FORMAT = 2
# Code of these is told by their versions.
_LIBRARIES = {
    *sys.stdlib_module_names,
    *["fedlearn", "jax", "keras", "ml_dtypes", "numpy", "tensorflow", "torch"],
}
_CONSTANTS = (
    *(bool, int, float, str, tuple, list, set, frozenset, dict),
    *(np.ndarray, functools.partial, keras.losses.Loss),
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
    conditions: "Conditions | None" = None,
) -> dict[str, Any]:
    """What must be the same for a resumed run to equal an unbroken one; JSON.

    Configurations of all parts, and of the user's own functions and classes
    (a custom loss, a layer) the compiled code, with defaults, closures, and
    the constants and the code that it refers to by name: in its module, in
    others of the user's, or as attributes of its object.

    Not told is what code finds at run time in any other way: through lists or
    objects of objects, `__slots__`, files; values of Keras variables, such as
    a teacher's weights; how layers are connected where one of them has no
    `get_config`. Nor are the initial weights, which the checkpoint has, and
    callbacks and validation data, which are the user's to change.
    """
    drawn = data.client_ids if sampler is None else sampler.client_ids
    schedule = process.schedule(data, sampler)
    parts = {
        "format": _FORMAT,
        "process": type(process),
        **process.identity_parts(),
        "sampler": sampler,
        "schedule": "rounds" if type(schedule) is Rounds else schedule,
        "conditions": conditions,
        "seed": int(seed),
        "backend": keras.backend.backend(),
        "floats": [keras.config.floatx(), keras.config.epsilon()],
        "data": fingerprint(data),
        "drawn_clients": ids_digest(drawn),
    }
    return describe(parts)


def of_process(process: "LearningProcess") -> dict[str, Any]:
    """What decides a process's rounds, not yet described."""
    model = process.functional_model.model
    optimizer = getattr(process.client, "optimizer", None) or model.optimizer
    return {
        "algorithm": process.algorithm,
        **_model_parts(model),
        "client_optimizer": optimizer,
        "client": process.client,
        "decays": getattr(optimizer, "weight_decay", None)
        and keras_internals.uses_weight_decay(
            optimizer, model.trainable_variables
        ),
        "server_optimizer": process.server_optimizer,
        "aggregator": process.aggregator,
        "broadcast_encoders": process.broadcast_encoders,
        # Not who and how many run clients, but in which way.
        "executor": process.executor.in_one_process,
        "plan": process.executor.in_one_process.plan(process.program),
        "threads": process.executor.threads,
        "privacy": process.privacy,
    }


def of_model(model: keras.Model) -> dict[str, Any]:
    """What decides a model's metrics, but weights and their initializers.

    A model whose code refers to variables beside its own is like no other.
    """

    def without_initializers(value: Any) -> Any:
        if isinstance(value, list):
            return list(map(without_initializers, value))
        if not isinstance(value, dict):
            return value
        return {
            key: without_initializers(part)
            for key, part in value.items()
            if not key.endswith("initializer")
        }

    described = without_initializers(describe(_model_parts(model)))
    if '"outside"' in json.dumps(described):
        described["outside"] = id(model)
    return described


def of_program(program: "ClientProgram") -> dict[str, Any]:
    """What decides a client's round, but weights."""
    model = program.model.model
    return describe(
        {
            **_model_parts(model),
            "optimizer": model.optimizer,
            "client": program.trainer.config,
            "aggregator": program.aggregator,
            "algorithm": program.trainer.algorithm,
        }
    )


def versions() -> dict[str, str]:
    """What may change a run's numbers slightly, and is no reason to refuse."""
    names = ("keras", "numpy", keras.backend.backend())
    found = {name: importlib.metadata.version(name) for name in names}
    import fedlearn

    return {"fedlearn": fedlearn.__version__, **found}


def differences(was: Any, now: Any, path: str = "") -> list[str]:
    """In words, what differs between two identities; nothing if they agree.

    >>> differences({"seed": 0, "client": {"epochs": 1}},
    ...             {"seed": 0, "client": {"epochs": 2}})
    ['client.epochs was 1 and is now 2']
    """
    if was == now:
        return []
    if path in _DATA:
        return [f"data: {_DATA[path]}"]
    if isinstance(was, dict) and isinstance(now, dict):
        if was.get("format") != now.get("format"):
            return ["another version of fedlearn wrote it, in other words"]
        # Of another class all else is another, too.
        if was.get("class") == now.get("class"):
            return [
                text
                for key in dict.fromkeys((*was, *now))
                for text in differences(
                    was.get(key), now.get(key), f"{path}.{key}".lstrip(".")
                )
            ]
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        return [
            text
            for i, (a, b) in enumerate(zip(was, now, strict=True))
            for text in differences(a, b, f"{path}[{i}]")
        ]
    if path.endswith(".bytecode") and was and now:
        # Those of two versions of Python can't be compared.
        same = was.split()[0] == now.split()[0]
        return [f"{path} is other code"] if same else []
    return [f"{path} was {_short(was)} and is now {_short(now)}"]


_DATA = {
    "data.clients": "they have other clients, or in another order",
    "data.sizes": "clients have other numbers of examples",
    "data.examples": "the clients' examples are others (values, dtypes or "
    "shapes)",
}


def _short(value: Any) -> str:
    if isinstance(value, dict) and "class" in value:
        value = value["class"]
    # Numbers of float32 have seven digits.
    text = f"{value:.7g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 120 else f"{text[:100]} ... {text[-15:]}"


def describe(thing: Any) -> Any:
    """A thing as plain values that are equal for things that do the same.

    >>> describe(keras.regularizers.L2(0.5))
    {'class': 'L2', 'l2': 0.5}
    """
    with warnings.catch_warnings():
        # Keras warns where it serialises a lambda; this is never read back.
        warnings.simplefilter("ignore")
        return _Description().of(thing)


class _Description:
    """Describes things and their parts, each function and object once."""

    def __init__(self) -> None:
        self._told: dict[int, Any] = {}  # the things, so that ids stay theirs

    def of(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, keras.Variable):
            return f"<variable {value.dtype} {tuple(value.shape)}>"
        if isinstance(value, np.ndarray) or keras.ops.is_tensor(value):
            return _array(value)
        if id(value) in self._told and not isinstance(value, tuple):
            return f"<{getattr(value, '__name__', type(value).__name__)}>"
        self._told[id(value)] = value
        if isinstance(value, Mapping):
            if value.get("class_name") == "__lambda__" or (
                value.keys() == {"value"}
            ):
                # Keras's form has the line and the file in it. The function
                # itself is told as an attribute of what has it.
                return "<lambda>"
            return {
                # Without the number by which Keras makes a name unique.
                str(k): re.sub(r"_\d+$", "", v)
                if k == "name" and isinstance(v, str)
                else self.of(v)
                for k, v in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.of(v) for v in value]
        if isinstance(value, (set, frozenset)):
            return sorted(map(self.of, value), key=repr)
        if isinstance(value, functools.partial):
            return self.of([value.func, value.args, value.keywords])
        if isinstance(value, types.MethodType):
            return self.of([value.__func__, value.__self__])
        function = inspect.unwrap(value)  # compiled, or cached
        if isinstance(function, types.FunctionType):
            return self._function(function)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, types.BuiltinFunctionType):
            return value.__name__
        return self._object(value)

    def _function(self, function: types.FunctionType) -> Any:
        if not _is_own(function):
            return f"{function.__module__}.{function.__qualname__}"
        bytecode, names = _code(function.__code__)
        space = function.__globals__
        for module in [space[name] for name in names if name in space]:
            if isinstance(module, types.ModuleType) and _is_own(module):
                space = {**vars(module), **space}
        closure = {}
        cells = function.__closure__ or ()
        free = function.__code__.co_freevars
        for name, cell in zip(free, cells, strict=True):
            with contextlib.suppress(ValueError):  # not yet set
                closure[name] = cell.cell_contents
        given = (function.__defaults__ or (), function.__kwdefaults__ or {})
        parts = {
            "defaults": [*given[0], *given[1].items()],
            "closure": _told_of(closure, closure),
            "uses": _told_of(space, names),
            "outside": [*_outside(closure, closure), *_outside(space, names)],
        }
        return {
            "function": function.__name__,
            "bytecode": bytecode,
            **{name: self.of(part) for name, part in parts.items() if part},
        }

    def _class(self, cls: type) -> dict[str, Any]:
        code = _members(cls)
        return {
            "class": cls.__name__,
            **({"code": self.of(code)} if code else {}),
        }

    def _object(self, value: Any) -> dict[str, Any]:
        attributes = getattr(value, "__dict__", {})
        described = self._class(type(value))
        if hasattr(value, "get_config"):
            described.update(self.of(_config(value)))
            # It names functions, and often doesn't say all that methods use.
            used: set[str] = set()
            for member in _members(type(value)).values():
                if isinstance(member, types.FunctionType):
                    used |= _code(member.__code__)[1]
            attributes = {
                name: part
                for name, part in attributes.items()
                if name in used
                or (_is_own(part) and not isinstance(value, keras.Model))
            }
        parts: dict[str, Any] = {"holds": _told_of(attributes, attributes)}
        if not isinstance(value, _KEEPS_VARIABLES):
            parts["outside"] = _outside(attributes, attributes)
        return {
            **described,
            **{name: self.of(part) for name, part in parts.items() if part},
        }


def _model_parts(model: keras.Model) -> dict[str, Any]:
    return {
        "variables": [
            f"{v.dtype} {tuple(v.shape)}{'' if v.trainable else ' frozen'}"
            for v in model.variables
        ],
        "layers": {
            f"{i} {type(layer).__name__}": layer
            for i, layer in enumerate(
                x
                for x in keras_internals.layers(model)[1:]
                if not isinstance(x, keras.layers.InputLayer)
            )
        },
        "model": model,
        "compiled": _compiled(model),
    }


def _compiled(model: keras.Model) -> dict[str, Any]:
    arguments = keras_internals.compile_arguments(model)
    names = ("loss", "loss_weights", "metrics", "weighted_metrics")
    outputs = {
        name: f"output {i}"
        for i, name in enumerate(getattr(model, "output_names", ()))
    }
    return {
        name: {outputs.get(k, k): v for k, v in part.items()}
        if isinstance(part := arguments.get(name), dict)
        else part
        for name in (*names, "auto_scale_loss")
    }


def _config(value: Any) -> dict[str, Any]:
    try:
        if isinstance(value, Sampler):
            return value.arguments  # its clients are told as the data's
        config = dict(value.get_config())
        if isinstance(value, keras.Layer):
            config.pop("name", None)
        if hasattr(value, "get_vocabulary"):  # from `adapt`, and no variable
            config["vocabulary"] = ids_digest(
                list(map(str, value.get_vocabulary()))
            )
    except Exception:  # Keras raises where it finds no configuration
        return {}
    if isinstance(value, keras.Model) and "layers" in config:
        # These are told one by one; here, how they are connected.
        links: list[Any] = [
            [layer["class_name"], layer.get("inbound_nodes")]
            for layer in config.pop("layers")
        ]
        links += [config.pop("input_layers", 0), config.pop("output_layers", 0)]
        text = json.dumps(links)
        for i, operation in enumerate(getattr(value, "operations", ())):
            text = text.replace(f'"{operation.name}"', f"{i}")
        config["connections"] = ids_digest([text])
    # Keras's losses leave their arguments out (Huber's delta).
    return {**config, **keras_internals.function_arguments(value)}


def _array(value: Any) -> str:
    array = np.asarray(keras.ops.convert_to_numpy(value))
    if array.dtype.hasobject:  # texts, whose bytes are addresses
        content = repr(array.tolist()).encode()
    else:
        content = np.ascontiguousarray(array).tobytes()
    digest = hashlib.sha256(content)
    return f"<{array.dtype} {array.shape} {digest.hexdigest()[:16]}>"


def _members(cls: type) -> dict[str, Any]:
    """What the user's own classes among its bases define."""
    found = {}
    for part in filter(_is_own, cls.__mro__):
        for name, member in vars(part).items():
            member = getattr(
                member, "fget", getattr(member, "__func__", member)
            )
            member = inspect.unwrap(member)
            if isinstance(member, types.FunctionType) or (
                not name.startswith("__") and _is_told(member)
            ):
                found[f"{part.__name__}.{name}"] = member
    return found


def _told_of(space: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {n: space[n] for n in sorted(names) if _is_told(space.get(n))}


def _outside(space: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Of what values aren't told: variables, and layers for their weights."""
    kinds = (keras.Variable, keras.Layer)
    return [n for n in sorted(names) if isinstance(space.get(n), kinds)]


def _is_told(value: Any) -> bool:
    """Whether it is code of the user's, or a constant."""
    return (
        isinstance(value, _CONSTANTS)
        or keras.ops.is_tensor(value)
        or (_is_own(value) and not isinstance(value, types.ModuleType))
    )


def _is_own(thing: Any) -> bool:
    """Whether code is of no library, or an object of such a class."""
    thing = getattr(thing, "__func__", inspect.unwrap(thing))
    if isinstance(thing, types.ModuleType):
        module = thing.__name__
    else:
        if not isinstance(thing, (types.FunctionType, type)):
            thing = type(thing)
        module = thing.__module__
    return (module or "builtins").split(".")[0] not in _LIBRARIES


def _code(code: types.CodeType) -> tuple[str, set[str]]:
    """A digest that lines and files aren't part of, and the names in it."""
    digest, parts = hashlib.sha256(), [code]
    names: set[str] = set()
    for part in parts:  # which grows by the functions inside
        names.update(part.co_names)
        digest.update(part.co_code + repr(part.co_names).encode())
        for constant in part.co_consts:
            if isinstance(constant, types.CodeType):
                parts.append(constant)
            else:
                if isinstance(constant, frozenset):
                    constant = sorted(constant, key=repr)
                digest.update(repr(constant).encode())
    return f"{sys.implementation.cache_tag} {digest.hexdigest()[:16]}", names
