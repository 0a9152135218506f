import inspect

import pytest

from fedlearn.cli.aggregation import AGGREGATORS
from fedlearn.cli.compression import COMPRESSIONS
from fedlearn.cli.recipe import Named, make, make_all

RECIPES = [
    *((name, COMPRESSIONS) for name in COMPRESSIONS),
    *((name, AGGREGATORS) for name in AGGREGATORS),
]
VALUES = {"fraction": 0.25, "value_range": 1.5, "norm": 3.0, "tau": 2.0}


@pytest.mark.parametrize(("name", "recipes"), RECIPES)
def test_numbers_reach_the_arguments_they_are_for(name, recipes):
    recipe = recipes[name]
    values = {n: VALUES.get(n, 3) for n in recipe.numbers}
    text = ":".join([name, ",".join(map(str, values.values()))]).rstrip(":")
    assert Named(recipes).parse(text) == text
    more = {"clients_per_round": 10} if name == "secure_sum" else {}
    made = make(text, recipes, **more)
    assert type(made).__name__ == recipe.make.split(":")[1]
    for argument, value in {**values, **dict(recipe.options), **more}.items():
        assert getattr(made, argument) == value


@pytest.mark.parametrize(("name", "recipes"), RECIPES)
def test_required_are_those_without_a_default(name, recipes):
    recipe = recipes[name]
    more = {"clients_per_round": 10} if name == "secure_sum" else {}
    values = {n: VALUES.get(n, 3) for n in recipe.numbers}
    texts = [str(v) for v in values.values()][: recipe.num_required]
    made = make(":".join([name, ",".join(texts)]).rstrip(":"), recipes, **more)
    signature = inspect.signature(type(made).__init__).parameters
    needed = recipe.num_required
    # Without a clip nothing else would set the range.
    if name != "secure_sum":
        for i, number in enumerate(recipe.numbers):
            has_none = signature[number].default is inspect.Parameter.empty
            assert has_none == (i < needed)


def test_several_are_a_chain():
    chain = make_all("rotation+uniform:2+huffman", COMPRESSIONS)
    names = ["HadamardRotation", "UniformQuantization", "EntropyCoding"]
    assert [type(link).__name__ for link in chain] == names
    assert chain[1].bits == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("edn", "Did you mean eden?"),
        ("eden:two", "'two' isn't a number. Expected eden[:BITS]."),
        ("eden:1,2", "'eden:1,2' has 2 numbers. Expected eden[:BITS]."),
        ("topk", "'topk' has 0 numbers. Expected topk:FRACTION."),
        ("eden:2+", "there is no ''"),
    ],
)
def test_mistakes(text, message):
    with pytest.raises(ValueError) as error:
        Named(COMPRESSIONS, joined=True).parse(text)
    assert message in str(error.value)


def test_only_some_may_be_joined():
    with pytest.raises(ValueError, match="there is no 'mean"):
        Named(AGGREGATORS).parse("mean+median")
