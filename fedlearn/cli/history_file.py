"""The metrics of a run as a file that grows while it trains."""

import time
from typing import Any

import keras

from fedlearn.cli.run_folder import RunFolder

_INTERVAL = 5.0  # seconds


class HistoryFile(keras.callbacks.Callback):
    """Writes `history.csv` every few seconds, one round behind.

    Args:
        folder: Where to.
        validation_freq: As in `fit`.
    """

    def __init__(self, folder: RunFolder, validation_freq: int):
        super().__init__()
        self._folder = folder
        self._frequency = validation_freq
        # As text, so that the checkpoint, which keeps the numbers of
        # callbacks, doesn't keep a clock.
        self._written = str(time.monotonic())

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        del epoch, logs
        if time.monotonic() - float(self._written) >= _INTERVAL:
            self.write()

    def write(self) -> None:
        """Writes all rounds so far."""
        history = getattr(self.model, "history", None)
        if history is not None and history.history:
            self._folder.write_history(rows(history.history, self._frequency))
        self._written = str(time.monotonic())


def rows(
    history: dict[str, list[float]], validation_freq: int
) -> list[dict[str, float]]:
    """A dict a round, from a list a metric as Keras keeps them.

    Args:
        history: Metrics of training are of every round; those of validation
            of every `validation_freq`-th.
        validation_freq: As in `fit`.

    Example:

    >>> rows({"loss": [3.0, 2.0], "val_loss": [2.5]}, validation_freq=2)
    [{'round': 1, 'loss': 3.0}, {'round': 2, 'loss': 2.0, 'val_loss': 2.5}]
    """
    length = max(map(len, history.values()), default=0)
    table: list[dict[str, float]] = [{"round": i + 1} for i in range(length)]
    for name, values in history.items():
        every = validation_freq if name.startswith("val_") else 1
        for i, value in enumerate(values):
            table[(i + 1) * every - 1][name] = value
    return table
