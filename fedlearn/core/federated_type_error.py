import os
import sys
from typing import Any

_HERE = os.path.dirname(__file__)


class FederatedTypeError(TypeError):
    """A computation that can't be, with the user's file and line."""

    def __init__(self, message: str):
        super().__init__(f"{message}\n  at {users_line()}")


def users_line() -> str:
    """The file and line outside of this package that is running."""
    frame: Any = sys._getframe(1)
    while frame and os.path.dirname(frame.f_code.co_filename) == _HERE:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""
