"""How objects print: as the call that makes them."""

import inspect
from typing import Any

import keras


def call(thing: Any) -> str:
    """The call that makes an object, without arguments at their defaults.

    Args:
        thing: Has its constructor's arguments in `get_config`, or as
            attributes.

    Example:

    >>> from fedlearn import LocalTraining
    >>> LocalTraining("sgd", epochs=5)
    LocalTraining(optimizer=SGD(learning_rate=0.01), epochs=5)
    """
    config = thing.get_config() if hasattr(thing, "get_config") else {}
    parameters = inspect.signature(type(thing)).parameters
    arguments = []
    for name, parameter in parameters.items():
        value = config.get(name)
        if name not in config or isinstance(value, dict):  # serialised
            value = getattr(thing, name, parameter.default)
        if value is parameter.default or (
            type(value) is type(parameter.default)
            and value == parameter.default
        ):
            continue
        arguments.append(f"{name}={shown(value)}")
    return f"{type(thing).__name__}({', '.join(arguments)})"


def shown(value: Any) -> str:
    """As `repr`, with Keras's optimizers and models by what they are.

    Example:

    >>> shown(keras.optimizers.Adam(0.5))
    'Adam(learning_rate=0.5)'
    """
    if isinstance(value, keras.optimizers.Optimizer):
        return _optimizer(value)
    if isinstance(value, keras.Model):
        return (
            f"{type(value).__name__} {value.name!r} "
            f"({value.count_params():,} parameters)"
        )
    return repr(value)


def _optimizer(optimizer: keras.optimizers.Optimizer) -> str:
    config = optimizer.get_config()
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        return f"{type(optimizer).__name__}({_optimizer(inner)})"
    rate = config.get("learning_rate")
    if isinstance(rate, dict):
        rate = rate.get("class_name", rate)
    elif isinstance(rate, float):
        rate = float(f"{rate:.6g}")  # float32 has no more
    parts = {"learning_rate": rate}
    if config.get("momentum"):
        parts["momentum"] = config["momentum"]
    arguments = ", ".join(f"{n}={v}" for n, v in parts.items())
    return f"{type(optimizer).__name__}({arguments})"
