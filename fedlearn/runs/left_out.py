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

    def look(
        self,
        clients: Mapping[str, Any],
        num_rejected: int,
        before: str = "",
        stacklevel: int = 2,
    ) -> None:
        """Looks for the clients of a round whose updates were rejected.

        Warns of the first that are found, after the sentence `before`; of
        that alone if there are none. `stacklevel` is as in `warnings.warn`.
        """
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
        if self._warned or not (known or before):
            return
        self._warned = True
        if known:
            self.tell(before, stacklevel + 1)
        else:
            warnings.warn(
                f"{before}The usual cause is a learning rate that is too high.",
                stacklevel=stacklevel,
            )

    def tell(self, before: str = "", stacklevel: int = 2) -> None:
        """Warns of what was found and not told."""
        new = [i for i in self._found if i not in self._told]
        if not new:
            return
        named = ", ".join(
            f"{i!r} ({self._found[i]})" for i in new[:_MOST_NAMED]
        )
        if len(new) > _MOST_NAMED:
            named += f", and {len(new) - _MOST_NAMED:,} more"
        again = "More clients are" if self._told else "Clients are"
        warnings.warn(
            f"{before}{again} left out of every round that they take part in, "
            "because their data make updates that are not finite: "
            f"{named}. Fill in or drop such values (`dataset.map(fn)`; of "
            "tables, missing='mean').",
            stacklevel=stacklevel,
        )
        self._told.update(new)


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
