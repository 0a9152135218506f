import math
from typing import Any, Literal, get_args

from keras import ops

from fedlearn import checks
from fedlearn.encoders import flat_vector, norms
from fedlearn.encoders.encoder import Encoder, Updated, Value

Kind = Literal["global", "per_layer", "l1", "linf"]


class Clip(Encoder):
    """Updates of at most a given norm.

    `"global"` scales the whole update so that its L2 norm is at most `norm`,
    as in McMahan et al. 2018, "Learning differentially private recurrent
    language models", section 2.3. `"per_layer"` does so with each of the `m`
    arrays by itself, with `norm / sqrt(m)`: the L2 norm of all is at most
    `norm` again. `"l1"` scales the whole update to an L1 norm of at most
    `norm`, which its L2 norm can't exceed. `"linf"` cuts each number off at
    `norm`: then the L2 norm of `d` numbers is at most `norm * sqrt(d)`.

    An update that isn't finite goes through unchanged, for the client to be
    left out.

    Metrics: `clipped_share`, that of clients from whose updates something was
    cut off, without noise.

    Args:
        norm: The largest norm, positive.
        kind: Which norm.

    Raises:
        ValueError: If `norm` isn't a positive number, or `kind` is unknown.

    Example:

    >>> value, stats = Clip(1.0).encode([ops.array([3.0, 4.0])], (), None)
    >>> [round(float(v), 6) for v in value[0]]
    [0.6, 0.8]
    """

    bound = "sets"

    def __init__(self, norm: float, kind: Kind = "global"):
        norms.check_bound("norm", norm)
        self.norm = norm
        self.kind = checks.one_of("kind", kind, get_args(Kind))

    def encode(self, value: Value, params: Any, seed: Any) -> tuple[Any, Any]:
        if self.kind == "per_layer":
            bound = self.norm / math.sqrt(max(len(value), 1))
            clipped, dtype = [], norms.wide_dtype(value)
            largest = ops.zeros((), dtype)
            for v in value:
                length = norms.l2([v])
                clipped += norms.scale_down([v], length, bound)
                largest = ops.maximum(largest, ops.cast(length, dtype))
        elif self.kind == "linf":
            bound, largest = self.norm, norms.linf(value)
            clipped = [_cut_off(v, bound, largest) for v in value]
        else:
            bound = self.norm
            largest = (norms.l1 if self.kind == "l1" else norms.l2)(value)
            clipped = norms.scale_down(value, largest, bound)
        above = ops.cast(largest > bound, "float32")
        return clipped, {"clipped": above, "unchanged": 1 - above}

    def update(self, state: Any, stats: Any, noise: Any) -> Updated:
        count = ops.maximum(stats["clipped"] + stats["unchanged"], 1.0)
        return state, {"clipped_share": stats["clipped"] / count}

    def sensitivity(self, bound: Any, params: Any) -> Any:
        own = self.norm
        if self.kind == "linf":
            own *= math.sqrt(flat_vector.size(self.spec))
        return smaller(bound, own)


def smaller(a: Any, b: Any) -> Any:
    """The smaller of two bounds, each a float or a float32 scalar."""
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return min(a, b)
    return ops.minimum(a, b)


def _cut_off(v: Any, bound: float, largest: Any) -> Any:
    # Not `ops.clip`, which need not let NaN through.
    above = ops.logical_and(ops.abs(v) > bound, ops.isfinite(largest))
    return ops.where(above, ops.sign(v) * bound, v)
