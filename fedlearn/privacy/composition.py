from typing import Any, Literal, NamedTuple

from fedlearn.privacy.require_dp_accounting import require_dp_accounting

Neighbouring = Literal["add-or-remove-one", "replace-one", "zero-out"]


class Composition(NamedTuple):
    """One event, released some times, and which data sets it tells apart.

    Attributes:
        event: A `dp_accounting.DpEvent`.
        times: How many times it happened.
        neighbouring: Two data sets are neighbours if they differ in one
            client: `"add-or-remove-one"`: it is in only one of them;
            `"replace-one"`: in both, with other data; `"zero-out"`: in both,
            in one of them with data that add nothing to any sum.
        orders: At which orders the event's Rényi divergence is known.
    """

    event: Any
    times: int
    neighbouring: Neighbouring
    orders: Literal["all", "integers"] = "all"

    def dp_event(self) -> Any:
        """All of it as one `dp_accounting.DpEvent`."""
        dp = require_dp_accounting()
        return dp.SelfComposedDpEvent(self.event, self.times)
