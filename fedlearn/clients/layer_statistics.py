"""What becomes of statistics that layers change while they train."""

from typing import Any, Literal

import keras
from keras import ops

from fedlearn.aggregators.aggregator import Aggregator
from fedlearn.aggregators.median import Median
from fedlearn.aggregators.robust_rule import RobustRule, num_counted
from fedlearn.encoders.encoder import Noise
from fedlearn.encoders.fixed_point import FixedPoint
from fedlearn.encoders.local_gaussian_noise import LocalGaussianNoise
from fedlearn.keras_model import variable_roles
from fedlearn.keras_model.functional_model import Arrays

Choice = Literal["average", "local", "frozen"]
"""See `fedlearn.LocalTraining`."""


def check(
    aggregator: Aggregator, model: keras.Model, positions: tuple[int, ...]
) -> None:
    """Raises ValueError where an aggregator can't average statistics.

    Statistics are sent as they are: no encoder knows which of the numbers is
    a variance. So they would tell what noise or a secure sum is there to
    hide, and pass by a rule that bounds what a client does to a sum.
    """
    if not positions:
        return
    links = getattr(aggregator, "encoders", ())
    if aggregator.noise is not None or any(
        isinstance(link, (Noise, LocalGaussianNoise)) for link in links
    ):
        why = "they would be exact beside updates with noise"
    elif any(isinstance(link, FixedPoint) for link in links):
        why = "they would be sent openly beside a secure sum"
    elif isinstance(aggregator, RobustRule) and aggregator.reduction == "sum":
        why = (
            "nothing would bound what one client does to their sum (rules "
            "that see all updates side by side take their median)"
        )
    else:
        return
    layers = variable_roles.layers_with(model, positions)
    names = ", ".join(
        sorted({f"{layer.name!r} ({type(layer).__name__})" for layer in layers})
    )
    raise ValueError(
        f"The statistics of the layers {names} can't be averaged with "
        f"{type(aggregator).__name__}: {why}. Use "
        "LocalTraining(statistics='frozen'), which leaves them as they are "
        "and uses them in training too; or statistics='local', which keeps "
        "each client's own at the client; or GroupNormalization, which has "
        "none."
    )


def summand(values: Arrays, weight: Any, stacked: bool = False) -> Any:
    """What a client adds to the sum: its statistics times its weight.

    Not what changed: a variance that is a sum of changes can end below zero
    through rounding, and a mean of variances can't.
    """
    if not values:
        return ()
    wide = [ops.cast(v, _wide(v.dtype)) for v in values]
    if not stacked:
        wide = [v * ops.cast(weight, v.dtype) for v in wide]
    return {"value": wide, "weight": weight}


def average(
    total: Any, before: Arrays, stacked: bool = False, num_required: int = 1
) -> Arrays:
    """The weighted mean of clients' statistics, of the sum of their summands.

    Of a stack, for robust rules, the median of each number, which fewer than
    half of the clients can't move beyond what the others sent. `before` where
    fewer than `num_required` clients count.
    """
    if not before:
        return []
    weight = total["weight"]
    if stacked:
        values = Median().aggregate(total["value"], weight)
        enough = num_counted(weight) >= num_required
    else:
        divisor = ops.maximum(weight, 1e-30)
        values = [v / ops.cast(divisor, v.dtype) for v in total["value"]]
        enough = weight > 0
    return [
        ops.where(enough, ops.cast(v, b.dtype), b)
        for v, b in zip(values, before, strict=True)
    ]


def _wide(dtype: Any) -> str:
    """A dtype in which examples times a statistic don't overflow."""
    return keras.backend.result_type(
        keras.backend.standardize_dtype(dtype), "float32"
    )
