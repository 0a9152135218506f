"""What a client computes."""

from typing import Any

from fedlearn import serialization
from fedlearn.clients.example_dp import ExampleDP
from fedlearn.clients.local_training import LocalTraining
from fedlearn.names import CLIENTS


def get(identifier: str | LocalTraining, **arguments: Any) -> LocalTraining:
    """What a client computes, from the string that stands for it, or itself.

    Args:
        identifier: `"fedavg"`; or `"fedprox"`, with mu after a colon:
            `"fedprox:0.01"` (0.1 without).
        **arguments: More for the constructor, such as `epochs`.

    Raises:
        ValueError: If there is none of that name, or its numbers are wrong.
        TypeError: If it is neither a string nor a `LocalTraining`.

    Example:

    >>> get("fedprox:0.01", epochs=5).proximal
    0.01
    """
    return serialization.get(
        identifier, CLIENTS, LocalTraining, "client", **arguments
    )


__all__ = ["ExampleDP", "LocalTraining", "get"]
__dir__ = __all__.copy  # `dir` shows what is public
