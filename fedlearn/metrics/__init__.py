"""Merging Keras metrics over clients, and their statistics per client."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedlearn.metrics.masked_accuracy import MaskedAccuracy

__all__ = ["MaskedAccuracy"]
__dir__ = __all__.copy  # `dir` shows what is public


def __getattr__(name: str) -> Any:
    # On first use: `per_client` beside it is of use without Keras.
    if name == "MaskedAccuracy":
        from fedlearn.metrics.masked_accuracy import MaskedAccuracy

        return MaskedAccuracy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}.")
