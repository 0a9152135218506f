"""Objects that flags name, with numbers: `eden:2`, `krum:2,5`."""

import importlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from absl import flags

from fedlearn.cli.errors import did_you_mean


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


class Named(flags.ArgumentParser):
    """One of some recipes by its name, with its numbers.

    Args:
        recipes: By name.
        joined: Whether several may be joined with `+`.

    Example:

    >>> recipes = {"eden": Recipe("fedlearn.encoders:Eden", ("bits",))}
    >>> Named(recipes).parse("EDEN:2")
    'eden:2'
    >>> Named(recipes).parse("edn:2")
    Traceback (most recent call last):
    ValueError: there is no 'edn'. Expected eden[:BITS]. Did you mean eden?
    """

    def __init__(self, recipes: Mapping[str, Recipe], joined: bool = False):
        self._recipes = recipes
        self._joined = joined

    def parse(self, argument):
        text = str(argument).lower().replace(" ", "")
        for part in _parts(text) if self._joined else [text]:
            _read(part, self._recipes)
        return text

    def flag_type(self):
        return "string"


def usages(recipes: Mapping[str, Recipe]) -> str:
    """How all of them are written, for the help."""
    return ", ".join(r.usage(name) for name, r in recipes.items())


def make(text: str, recipes: Mapping[str, Recipe], **arguments: Any) -> Any:
    """The object that a flag's value names.

    Args:
        text: As `Named` parsed it.
        recipes: By name.
        **arguments: More for the constructor, whose errors are raised as
            they are.

    Example:

    >>> encoder = make("eden:2", {"eden": Recipe("fedlearn.encoders:Eden",
    ...                                          ("bits",))})
    >>> encoder.bits
    2
    """
    recipe, numbers = _read(text, recipes)
    module, name = recipe.make.split(":")
    numbered = dict(zip(recipe.numbers, numbers, strict=False))
    return getattr(importlib.import_module(module), name)(
        **dict(recipe.options), **numbered, **arguments
    )


def make_all(text: str, recipes: Mapping[str, Recipe]) -> list[Any]:
    """The objects of a value that may be joined with `+`."""
    return [make(part, recipes) for part in _parts(text)]


def _parts(text: str) -> Iterable[str]:
    return text.split("+")


def _read(
    text: str, recipes: Mapping[str, Recipe]
) -> tuple[Recipe, list[float]]:
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
