"""Mistakes on the command line."""


class UsageError(Exception):
    """A command line that can't be honoured; its text is all users see."""
