import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What every query tells besides its numbers.

    Attributes:
        error: How far the numbers may be off, in their shape or one for all:
            the standard deviation of the noise, unless the query says that it
            is something else; 0.0 where they are exact.
        epsilon: Of the guarantee for a client; None where there is none.
        delta: Of the guarantee.
        num_clients: How many clients were asked.
        bytes_up: What all of them sent, in bytes, as encoded.
    """

    error: Any
    epsilon: float | None
    delta: float | None
    num_clients: int
    bytes_up: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate(Result):
    """A `Result` with one `value`: a float, or a float64 array."""

    value: Any
