"""What configured objects have in common: a config, a repr, equality."""

import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, TypeVar

from fedlearn.names import Name, normal, read, usages

_T = TypeVar("_T")


class Configurable:
    """An object that is what its constructor was given.

    A subclass keeps each argument as an attribute of the same name, as with
    scikit-learn's estimators. It then has a config, prints as the call that
    makes it, equals others of its type and config, and goes through
    `keras.saving.serialize_keras_object`, whatever it contains.

    What a subclass hands on to its base class by `**` is part of it, but for
    what it sets there by itself, which `sets` names.

    Subclasses are registered with Keras by themselves, under their package's
    or module's name. To read a config in another process, import the module
    that defines the class first.

    Example:

    >>> import keras
    >>> class Halve(Configurable):
    ...     def __init__(self, times=1):
    ...         self.times = times
    >>> config = keras.saving.serialize_keras_object(Halve(times=2))
    >>> keras.saving.deserialize_keras_object(config)
    Halve(times=2)
    """

    sets: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _unregistered.append(cls)
        _register()

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor by name, as they are."""
        _register()
        config = {}
        for name in _arguments(type(self)):
            if not hasattr(self, name):
                kind = type(self).__name__
                raise TypeError(
                    f"{kind} takes `{name}`, but has no attribute of that "
                    f"name. Write self.{name} = {name} in its __init__, or a "
                    "`get_config` that returns all of its arguments."
                )
            config[name] = getattr(self, name)
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The object that `get_config` described, or Keras's form of it."""
        return cls(**{name: revived(value) for name, value in config.items()})

    def __repr__(self) -> str:
        try:
            config = self.get_config()
        except TypeError:
            return f"{type(self).__name__}(...)"
        defaults = {n: p.default for n, p in _arguments(type(self)).items()}
        arguments = ", ".join(
            f"{name}={shown(value)}"
            for name, value in config.items()
            if not _is_same(value, defaults.get(name, inspect.Parameter.empty))
        )
        return f"{type(self).__name__}({arguments})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return _comparable(serialized(self)) == _comparable(serialized(other))

    def __hash__(self) -> int:
        return hash(type(self))


def serialized(thing: Any) -> Any:
    """`keras.saving.serialize_keras_object`."""
    import keras

    _register()
    return keras.saving.serialize_keras_object(thing)


def revived(value: Any) -> Any:
    """What `serialized` described; what isn't such a description, as it is."""
    if type(value) in (list, tuple):  # not of a NamedTuple
        return type(value)(map(revived, value))
    if not isinstance(value, dict):
        return value
    if "class_name" not in value:
        return {key: revived(part) for key, part in value.items()}
    import keras

    for module in _own_modules(value):
        importlib.import_module(module)
    _register()
    return keras.saving.deserialize_keras_object(value)


def get(
    identifier: Any,
    names: Mapping[str, Name],
    kind: type,
    argument: str,
    **arguments: Any,
) -> Any:
    """What the `get` of a package does, given `argument`'s name for errors."""
    if isinstance(identifier, dict):
        identifier = revived(identifier)
    if isinstance(identifier, kind):
        if arguments:
            raise TypeError(
                f"{', '.join(arguments)} goes with the name of an object. "
                f"Received the object itself: {identifier!r}."
            )
        return identifier
    if isinstance(identifier, str):
        return make(identifier, names, argument, **arguments)
    hint = ""
    if isinstance(identifier, type) and issubclass(identifier, kind):
        hint = f" Make an instance of it: {identifier.__name__}(...)."
    package = ".".join(kind.__module__.split(".")[:2])
    raise TypeError(
        f"`{argument}` must be a {package}.{kind.__name__}, or a string: "
        f"{usages(names)}. Received: {identifier!r}.{hint}"
    )


def getter(
    names: Mapping[str, Name],
    kind: type[_T],
    argument: str,
    call: str,
    result: str,
) -> Callable[..., _T]:
    """The `get` of a package, with an example of a call and its result."""

    def get_one(identifier: Any, **arguments: Any) -> _T:
        return get(identifier, names, kind, argument, **arguments)

    article = "An" if argument[0] in "aeiou" else "A"
    known = textwrap.fill(
        usages(names) + ".",
        79,
        initial_indent=" " * 12,
        subsequent_indent=" " * 12,
        break_on_hyphens=False,
    )
    get_one.__name__ = get_one.__qualname__ = "get"
    get_one.__doc__ = f"""{article} {argument}, from what stands for it.

    Args:
        identifier: A name, and after a colon its numbers; a config, as
            `keras.saving.serialize_keras_object` makes it; or itself. Names:
{known}
        **arguments: With a name, more for the constructor.

    Raises:
        ValueError: If there is none of that name, or its numbers are wrong.
        TypeError: If it is something else.

    Example:

    >>> {call}
    {result}
    """
    return get_one


def make(
    text: str, names: Mapping[str, Name], argument: str, **arguments: Any
) -> Any:
    """The object that a string stands for, such as `"eden:2"`."""
    text = normal(text)
    try:
        name, numbers = read(text, names)
    except ValueError as error:
        raise ValueError(f"`{argument}`: {error}") from None
    module, kind = name.makes.split(":")
    cls = getattr(importlib.import_module(module), kind)
    given = {**name.options, **numbers, **arguments}
    more = [
        name
        for name, argument in _arguments(cls).items()
        if argument.default is argument.empty and name not in given
    ]
    if more:
        call = [f"{k}={v!r}" for k, v in given.items()]
        call += [f"{k}=..." for k in more]
        raise ValueError(
            f"{text!r} needs {' and '.join(more)} too. Give the object: "
            f"{kind}({', '.join(call)})."
        )
    return cls(**given)


def shown(value: Any) -> str:
    """As `repr`, with Keras's optimizers and models by what they are.

    >>> import keras
    >>> shown(keras.optimizers.SGD(0.5, momentum=0.9))
    'SGD(learning_rate=0.5, momentum=0.9)'
    """
    import keras

    if isinstance(value, keras.Model):
        return (
            f"{type(value).__name__} {value.name!r} "
            f"({value.count_params():,} parameters)"
        )
    if not isinstance(value, keras.optimizers.Optimizer):
        return repr(value)
    if inner := getattr(value, "inner_optimizer", None):
        return f"{type(value).__name__}({shown(inner)})"
    config = value.get_config()
    rate = config.get("learning_rate")
    if isinstance(rate, dict):
        rate = rate.get("class_name", rate)
    elif isinstance(rate, float):
        rate = float(f"{rate:.6g}")  # float32 has no more
    text = f"{type(value).__name__}(learning_rate={rate}"
    if momentum := config.get("momentum"):
        text += f", momentum={momentum}"
    return text + ")"


def _arguments(cls: type) -> dict[str, inspect.Parameter]:
    """A constructor's, with those that `**` hands on to its base class."""
    found: dict[str, inspect.Parameter] = {}
    hidden: set[str] = set()
    for part in cls.__mro__:
        if "__init__" not in vars(part):
            continue
        init = inspect.signature(vars(part)["__init__"])
        _, *parameters = init.parameters.values()
        for one in parameters:
            named = one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
            if named and one.name not in hidden:
                found.setdefault(one.name, one)
        hidden.update(vars(part).get("sets", ()))
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            break
    return found


def _comparable(config: Any) -> Any:
    """A description without what may differ between equal objects."""
    if isinstance(config, (list, tuple)):  # JSON makes lists of tuples
        return [_comparable(part) for part in config]
    if not isinstance(config, dict):
        return config
    kind = str(config.get("class_name")).lower()
    found = {str(key): _comparable(part) for key, part in config.items()}
    inner = found.get("config")
    if isinstance(inner, dict):
        name = str(inner.get("name")).replace("_", "").rstrip("0123456789")
        if name == kind:  # Keras numbers those that weren't given a name
            found["config"] = {**inner, "name": None}
    return found


def _is_same(value: Any, default: Any) -> bool:
    return value is default or (
        type(value) is type(default) and bool(value == default)
    )


# Classes that Keras wasn't told of: samplers are used without it too.
_unregistered: list[type] = []


def _register() -> None:
    if "keras" not in sys.modules:
        return
    import keras

    while _unregistered:
        cls = _unregistered.pop()
        package = cls.__module__
        if package.startswith("fedlearn."):
            package = ".".join(package.split(".")[:2])
        keras.saving.register_keras_serializable(package)(cls)


def _own_modules(config: Any) -> Iterator[str]:
    """Modules of fedlearn whose classes a config names."""
    if isinstance(config, dict):
        module = config.get("module")
        if isinstance(module, str) and module.startswith("fedlearn."):
            yield module
        config = list(config.values())
    if isinstance(config, (list, tuple)):
        for part in config:
            yield from _own_modules(part)
