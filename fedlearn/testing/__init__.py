"""Batteries that any encoder or aggregator must pass, yours included."""

from fedlearn.testing.aggregator_battery import (
    AGGREGATOR_RULES,
    check_aggregator,
)
from fedlearn.testing.encoder_battery import ENCODER_RULES, check_encoder

__all__ = [
    "AGGREGATOR_RULES",
    "ENCODER_RULES",
    "check_aggregator",
    "check_encoder",
]
__dir__ = __all__.copy  # `dir` shows what is public
