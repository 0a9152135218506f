import functools
import threading
import time
from collections.abc import Callable


class CompileClock:
    """Adds up the seconds of tracing and compiling in this process.

    Functions are traced when they are first called with new shapes, in the
    middle of a round: without this, the first would look slower than others.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._tracing = False
        # Layers keep in attributes what they are at: threads trace, and try
        # models, one at a time.
        self.lock = threading.RLock()

    def add(self, seconds: float) -> None:
        """Adds what a compiler says that it took, unless it is in a trace."""
        if not self._tracing:
            self.seconds += seconds

    def traces(self, function: Callable) -> Callable:
        """`function` timed, which only runs while it is traced.

        Functions that are traced inside of it count once.
        """

        @functools.wraps(function)
        def timed(*args, **kwargs):
            with self.lock:
                if self._tracing:
                    return function(*args, **kwargs)
                self._tracing = True
                started = time.perf_counter()
                try:
                    return function(*args, **kwargs)
                finally:
                    self._tracing = False
                    self.seconds += time.perf_counter() - started

        return timed


clock = CompileClock()
