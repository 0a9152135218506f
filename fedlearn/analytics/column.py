from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from fedlearn.advice.did_you_mean import did_you_mean
from fedlearn.data import element as el
from fedlearn.data.federated_dataset import FederatedDataset

Which = str | int | Callable[[Any], Any] | None
"""Which of a client's arrays: its name, a feature's number, or a function."""

_KINDS = {"numbers": "biuf", "texts": "SUOT", "any": "biufSUOT"}


class Column:
    """One of the arrays that every client has.

    Args:
        data: The clients.
        which: `"x"`, `"y"`, or a key of a dict; the number of a feature, along
            the last axis of `x`; a function from a client's arrays, as stored,
            to an array with a row for each value; None for the only input.
        kind: What it must hold.

    Raises:
        ValueError: If there is no such array, or it holds something else; from
            `read`, if a number isn't finite.
    """

    def __init__(
        self,
        data: FederatedDataset,
        which: Which,
        kind: Literal["numbers", "texts", "any"],
    ):
        self._data, self._which, self._kind = data, which, kind
        first = next(
            (i for i in data.client_ids if data.num_examples(i)),
            data.client_ids[0],
        )
        self._name = self._find(dict(el.named_arrays(data[first])))
        self.shape = self.read(first).shape[1:]
        if 0 in self.shape:
            raise ValueError(
                f"{self._name} has examples of shape {self.shape}: no values."
            )

    def _find(self, arrays: dict[str, np.ndarray]) -> str:
        which = self._which
        if callable(which):
            return getattr(which, "__name__", "column")
        inputs = [n for n in arrays if n.split("[")[0] == "x"] or list(arrays)
        if which is None or isinstance(which, (int, np.integer)):
            if len(inputs) != 1:
                raise ValueError(
                    f"Clients have several arrays, {', '.join(arrays)}. Say "
                    "which: column=<name>."
                )
            return inputs[0]
        for name in (str(which), f"x[{which!r}]"):
            if name in arrays:
                return name
        raise ValueError(
            f"There is no column {which!r}: clients have "
            f"{', '.join(arrays)}.{did_you_mean(str(which), arrays)} A feature "
            "of an array is named by its number, such as column=0."
        )

    def read(self, client_id: str) -> np.ndarray:
        """A client's values: float64 numbers, or texts as they are."""
        element, which = self._data[client_id], self._which
        if callable(which):
            values = np.asarray(which(element))
            shape = getattr(self, "shape", values.shape[1:])
            if not values.ndim or (len(values) and values.shape[1:] != shape):
                raise ValueError(
                    f"{self._name} gave an array of shape {values.shape} for "
                    f"client {client_id!r}. Expected {('n', *shape)}: a row "
                    "for each value, and the same shape for every client."
                )
        else:
            values = dict(el.named_arrays(element))[self._name]
            if which is not None and not isinstance(which, str):
                width = values.shape[-1] if values.ndim > 1 else 0
                if not -width <= which < width:
                    raise ValueError(
                        f"There is no feature {which}: {self._name} has "
                        f"{width} along its last axis."
                    )
                values = values[..., which]
        if not len(values) and self._kind != "any":
            dtype = np.float64 if self._kind == "numbers" else object
            return np.zeros(values.shape, dtype)
        if values.dtype.kind not in _KINDS[self._kind]:
            other = (
                "It is a query about numbers: for texts there are "
                "heavy_hitters, vocabulary, and histogram with `bins` of texts."
                if self._kind == "numbers"
                else "It is a query about texts: for numbers there are mean, "
                "histogram and quantiles."
            )
            raise ValueError(
                f"{self._name} of client {client_id!r} holds {values.dtype}, "
                f"and {self._kind} were expected. {other}"
            )
        if self._kind == "texts" or values.dtype.kind not in "biuf":
            return values
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).sum())
            raise ValueError(
                f"{self._name} of client {client_id!r} has {bad:,} numbers "
                "that are NaN or infinite, which would make the result so. "
                "Drop or fill them, with data.map(...) or "
                "from_csv(missing=...)."
            )
        return values if self._kind == "any" else values.astype(np.float64)
