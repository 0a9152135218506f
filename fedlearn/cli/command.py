"""What `main` has to know about a command."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from absl import flags


class Group(NamedTuple):
    """Flags that the help shows together.

    Attributes:
        title: Of the group.
        names: Of its flags, without dashes, in order.
    """

    title: str
    names: tuple[str, ...]


class Command(NamedTuple):
    """A command of `fedlearn`.

    Attributes:
        name: The word on the command line.
        summary: One line, for the list of commands.
        description: A paragraph or more, for the command's own help.
        arguments: Names of the arguments besides flags; those that may be
            left out are in brackets and come last.
        define: Defines the flags and says how they are grouped.
        examples: Pairs of a command line and what it does.
        main: Runs it, with the flags' values and the arguments; returns the
            exit code, or None for 0.
    """

    name: str
    summary: str
    description: str
    arguments: tuple[str, ...]
    define: Callable[[flags.FlagValues], Sequence[Group]]
    examples: tuple[tuple[str, str], ...]
    main: Callable[[flags.FlagValues, Sequence[str]], int | None]


class Values:
    """Flags' values by attribute, and which of them were given.

    Example:

    >>> values = Values({"rounds": 50, "seed": 1}, given={"seed"})
    >>> values.rounds, "rounds" in values.given
    (50, False)
    """

    def __init__(self, values: dict[str, Any], given: set[str]):
        self.__dict__.update(values)
        self.given = given

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"There is no flag {name!r}.")
