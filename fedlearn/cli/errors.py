"""Mistakes on the command line."""

import difflib
from collections.abc import Iterable


class UsageError(Exception):
    """A command line that can't be honoured; its text is all users see."""


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """`" Did you mean ...?"` for the nearest known name, or `""`.

    Args:
        name: What was typed.
        known: What there is.
        prefix: Put before the name, such as `"--"`.

    Example:

    >>> did_you_mean("fedadm", ["fedavg", "fedadam"])
    ' Did you mean fedadam?'
    >>> did_you_mean("xyzzy", ["fedavg", "fedadam"])
    ''
    """
    lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.55)
    if not near:
        # A word and what it is short for are far apart in letters.
        near = [k for k in lower if len(name) > 1 and k.startswith(name)][:1]
    return f" Did you mean {prefix}{lower[near[0]]}?" if near else ""
