"""A component made again from its config."""

from collections.abc import Sequence
from typing import Any

from fedlearn.testing.rule import Broken


def twin(component: Any, attributes: Sequence[str]) -> Any:
    """`from_config(get_config())`, which must be equal as far as is told.

    Args:
        component: An encoder or an aggregator.
        attributes: Names of attributes that must be the same.

    Raises:
        Broken: If the type, the config or an attribute is another.
    """
    config = component.get_config()
    other = type(component).from_config(config)
    if type(other) is not type(component):
        raise Broken(f"`from_config` makes a {type(other).__name__} of it.")
    if other.get_config() != config:
        raise Broken(
            f"Its config is {config}, and that of from_config(get_config()) "
            f"is {other.get_config()}."
        )
    for name in attributes:
        found, known = getattr(other, name), getattr(component, name)
        if found != known:
            raise Broken(
                f"`{name}` is {known!r}, and that of from_config(get_config()) "
                f"{found!r}."
            )
    return other
