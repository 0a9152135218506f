import os
import sys
import sysconfig
from typing import Any

_PATHS = sysconfig.get_paths()
_LIBRARIES = (
    os.path.join(os.path.dirname(os.path.dirname(__file__)), ""),
    *(_PATHS[key] for key in ("stdlib", "purelib", "platlib")),
)


class FederatedTypeError(TypeError):
    """A computation that can't be, with the user's file and line."""

    def __init__(self, message: str):
        super().__init__(f"{message}\n  at {users_line()}")


def users_line() -> str:
    """The file and line of what is running that is no library."""
    frame: Any = sys._getframe(1)
    while frame and frame.f_code.co_filename.startswith(_LIBRARIES):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""
