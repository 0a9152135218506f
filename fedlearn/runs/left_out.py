import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedlearn.data import element as el

_MOST_NAMED = 5


class LeftOut:
    """Finds clients whose examples have NaN or infinity, and says so once.

    Only clients of rounds in which updates were rejected are looked at, each
    once: they have been read for the round anyway.
    """

    def __init__(self) -> None:
        self._looked: set[str] = set()
        self._found: dict[str, str] = {}
        self._told: set[str] = set()
        self._warned = False

    def look(self, clients: Mapping[str, Any], num_rejected: int) -> bool:
        """Whether a round has such clients; looks if updates were rejected."""
        known = sum(client_id in self._found for client_id in clients)
        for client_id in clients:
            if known >= num_rejected:
                break
            if client_id in self._looked:
                continue
            self._looked.add(client_id)
            reason = _not_finite(clients[client_id])
            if reason:
                self._found[client_id] = reason
                known += 1
        return known > 0

    def tell(
        self, stacklevel: int, more: bool = False, before: str = ""
    ) -> None:
        """Warns of what was found and not told, after the sentence `before`.

        Unless `more`, only the first time. `stacklevel` counts from the
        caller.
        """
        new = [i for i in self._found if i not in self._told]
        if not new or (self._told and not more):
            return
        named = ", ".join(f"{i!r} ({self._found[i]})" for i in new[:5])
        if len(new) > _MOST_NAMED:
            named += f", and {len(new) - _MOST_NAMED:,} more"
        again = "More clients are" if self._told else "Clients are"
        warnings.warn(
            f"{before}{again} left out of every round that they take part in, "
            "because their data make updates that are not finite: "
            f"{named}. Fill in or drop such values (`dataset.map(fn)`; of "
            "tables, missing='mean').",
            stacklevel=stacklevel + 1,
        )
        self._told.update(new)

    def tell_once(self, text: str, stacklevel: int) -> None:
        """Warns of what may have another cause, the first time only."""
        if not self._warned:
            self._warned = True
            warnings.warn(text, stacklevel=stacklevel + 1)


def _not_finite(element: el.Element) -> str:
    """Where a client's arrays are not finite; "" if they are."""
    found = []
    for name, array in el.named_arrays(element):
        # bfloat16 and its kin have kind "V".
        if array.dtype.kind not in "fV" or not array.size:
            continue
        values = array.astype(np.float32) if array.dtype.kind == "V" else array
        rows = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
        count = int(rows.sum())
        if count:
            kind = "NaN" if np.isnan(values).any() else "infinity"
            found.append(f"{name}: {kind} in {count:,} of {len(rows):,}")
    return "; ".join(found)
