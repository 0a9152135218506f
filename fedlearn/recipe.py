"""Objects that strings stand for, with numbers: `eden:2`, `krum:2,5`."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

from fedlearn.advice.did_you_mean import did_you_mean


class Recipe(NamedTuple):
    """What one of the names stands for.

    Attributes:
        make: The class, as `module:name`.
        numbers: Names of the arguments that numbers are for, in order.
        num_required: How many of them have no default.
        options: Its other arguments.
    """

    make: str
    numbers: tuple[str, ...] = ()
    num_required: int = 0
    options: tuple[tuple[str, Any], ...] = ()

    def usage(self, name: str) -> str:
        """How it is written, for the help and for errors.

        Example:

        >>> Recipe("m:C", ("rate", "size"), num_required=1).usage("c")
        'c:RATE[,SIZE]'
        """
        needed, other = (
            [n.upper() for n in numbers]
            for numbers in (
                self.numbers[: self.num_required],
                self.numbers[self.num_required :],
            )
        )
        text = name + (":" + ",".join(needed) if needed else "")
        for i, number in enumerate(other):
            text += f"[{':' if not needed and not i else ','}{number}"
        return text + "]" * len(other)


def usages(recipes: Mapping[str, Recipe]) -> str:
    """How all of them are written, for the help."""
    return ", ".join(r.usage(name) for name, r in recipes.items())


def get(
    identifier: Any,
    recipes: Mapping[str, Recipe],
    kind: type,
    argument: str,
    **arguments: Any,
) -> Any:
    """An object from the string that stands for it, or the object itself.

    Args:
        identifier: A string or an instance of `kind`.
        recipes: By name.
        kind: The class of all of them.
        argument: What it is given as, for errors.
        **arguments: As for `make`.

    Raises:
        ValueError: If no object has that name, or its numbers are wrong.
        TypeError: If it is something else.
    """
    if isinstance(identifier, kind):
        if arguments:
            raise TypeError(
                f"{', '.join(arguments)} goes with the name of an object. "
                f"Received the object itself: {identifier!r}."
            )
        return identifier
    if isinstance(identifier, str):
        return make(identifier, recipes, **arguments)
    hint = ""
    if isinstance(identifier, type) and issubclass(identifier, kind):
        hint = f" Make an instance of it: {identifier.__name__}(...)."
    raise TypeError(
        f"`{argument}` must be a {kind.__module__.split('.')[0]}."
        f"{kind.__module__.split('.')[1]}.{kind.__name__}, or a string: "
        f"{usages(recipes)}. Received: {identifier!r}.{hint}"
    )


def make(text: str, recipes: Mapping[str, Recipe], **arguments: Any) -> Any:
    """The object that a string stands for.

    Args:
        text: Its name, with its numbers.
        recipes: By name.
        **arguments: More for the constructor, whose errors are raised as
            they are.

    Raises:
        ValueError: If there is no such name, or its numbers are wrong.

    Example:

    >>> encoder = make("eden:2", {"eden": Recipe("fedlearn.encoders:Eden",
    ...                                          ("bits",))})
    >>> encoder.bits
    2
    """
    text = normal(text)
    recipe, numbers = read(text, recipes)
    module, name = recipe.make.split(":")
    cls = getattr(importlib.import_module(module), name)
    numbered = dict(zip(recipe.numbers, numbers, strict=False))
    given = {**dict(recipe.options), **numbered, **arguments}
    lacking = [
        argument.name
        for argument in inspect.signature(cls).parameters.values()
        if argument.default is argument.empty
        and argument.kind
        in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY)
        and argument.name not in given
    ]
    if lacking:
        written = ", ".join(f"{k}={v!r}" for k, v in given.items())
        more = ", ".join(f"{a}=..." for a in lacking)
        raise ValueError(
            f"{text!r} needs {' and '.join(lacking)} too. Give the object: "
            f"{name}({f'{written}, ' if written else ''}{more})."
        )
    return cls(**given)


def make_all(text: str, recipes: Mapping[str, Recipe]) -> list[Any]:
    """The objects of a string that joins several with `+`."""
    return [make(part, recipes) for part in normal(text).split("+")]


def normal(text: str) -> str:
    """A string without capitals and spaces."""
    return text.lower().replace(" ", "")


def read(
    text: str, recipes: Mapping[str, Recipe]
) -> tuple[Recipe, list[float]]:
    """Which recipe a string names, and with which numbers.

    Raises:
        ValueError: If there is no such name, or its numbers are wrong.
    """
    name, colon, rest = text.partition(":")
    if name not in recipes:
        raise ValueError(
            f"there is no {name!r}. Expected {usages(recipes)}."
            + did_you_mean(name, recipes)
        )
    recipe = recipes[name]
    texts = rest.split(",") if colon else []
    if not recipe.num_required <= len(texts) <= len(recipe.numbers):
        raise ValueError(
            f"{text!r} has {len(texts)} numbers. Expected {recipe.usage(name)}."
        )
    return recipe, [_number(t, recipe.usage(name)) for t in texts]


def _number(text: str, usage: str) -> float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"{text!r} isn't a number. Expected {usage}."
        ) from None
