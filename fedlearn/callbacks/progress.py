import sys
import time
from collections.abc import Mapping
from typing import Any

import keras

from fedlearn.backend.compile_clock import clock

_HIDDEN = (
    *("num_clients", "num_examples", "num_rejected", "bytes_"),
    *("num_asked", "num_dropped", "num_late", "num_abandoned", "wasted_"),
)


class Progress(keras.callbacks.Callback):
    """One bar over all rounds: metrics, seconds per round, time left.

    Args:
        verbose: 1 for a bar that moves, 2 for a line after each round, with
            the round's seconds, its evaluation included. What went into
            tracing and compiling, as in the first round and wherever shapes
            are new, is told apart, as "+ 3.2 s to compile". (On TensorFlow
            a graph is also optimised when it first runs, which counts as
            running: its first round takes a little longer.)

    `fit` adds it for `verbose=1` and `verbose=2`.
    """

    def __init__(self, verbose: int = 1):
        super().__init__()
        self.verbose = verbose

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._rounds = self.params["epochs"]
        self._first = self.params.get("initial_epoch", 0)
        self._bar = keras.utils.Progbar(
            self._rounds - self._first,
            verbose=1,
            # Where a line can't be rewritten, one every few seconds is enough.
            interval=0.1 if _rewrites_lines() else 5,
            unit_name="round",
        )
        self._last: tuple[int, list] | None = None

    def on_epoch_begin(
        self, epoch: int, logs: Mapping[str, Any] | None = None
    ) -> None:
        del epoch, logs
        self._started = time.perf_counter()
        self._compiled = clock.seconds

    def on_epoch_end(
        self, epoch: int, logs: Mapping[str, Any] | None = None
    ) -> None:
        shown = [
            (name, value)
            for name, value in (logs or {}).items()
            if not name.startswith(_HIDDEN)
        ]
        rejected = (logs or {}).get("num_rejected", 0)
        if rejected:
            shown.append(("num_rejected", rejected))
        done = epoch + 1 - self._first
        if self.verbose == 2:
            compiling = clock.seconds - self._compiled
            seconds = time.perf_counter() - self._started - compiling
            took = f"{max(seconds, 0):.3g} s/round"
            if compiling >= 0.05:
                took += f" + {compiling:.2g} s to compile"
            text = " - ".join(f"{n}: {v:.4g}" for n, v in shown)
            print(
                f"Round {epoch + 1}/{self._rounds} - {took} - {text}",
                flush=True,
            )
            return
        self._bar.stateful_metrics = {name for name, _ in shown}
        self._last = (done, shown)
        self._bar.update(done, shown)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        # Stopped early: end the line with what was reached.
        if (
            self.verbose == 1
            and self._last is not None
            and self._last[0] < self._rounds - self._first
        ):
            self._bar.update(*self._last, finalize=True)


def _rewrites_lines() -> bool:
    return sys.stdout.isatty() or "ipykernel" in sys.modules
