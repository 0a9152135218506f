import copy
from typing import Any, Self

import keras

from fedlearn.serialization import Configurable


class Buildable(Configurable):
    """A configuration that is built for values of certain shapes.

    As a Keras layer, but for one thing: what is built is another object, so
    that a configuration can be used in several places.

    Attributes:
        spec: Shapes and dtypes of the value, once it is built.
    """

    spec: list[keras.KerasTensor]

    def build(self, spec: list[keras.KerasTensor]) -> Self:
        """This one for values of a spec; itself it stays as it is."""
        built = copy.copy(self)
        built.spec = list(spec)
        return built

    def __getattr__(self, name: str) -> Any:
        kind = type(self).__name__
        if name == "spec":
            raise AttributeError(
                f"This {kind} knows no shapes: it isn't built. Use "
                "`.build(spec)`, where `spec` is a keras.KerasTensor for each "
                "array of an update; that of a process is "
                "`process.aggregator`."
            )
        raise AttributeError(f"{kind!r} object has no attribute {name!r}")
