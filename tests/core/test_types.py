import json

import numpy as np
import pytest

import fedlearn as fl
from fedlearn.core import (
    CLIENTS,
    SERVER,
    FederatedType,
    FunctionType,
    SequenceType,
    StructType,
    TensorType,
    to_type,
)
from tests.core import random_types

pytestmark = pytest.mark.backend_free

OURS = {
    "tensor": TensorType,
    "struct": lambda names, elements: StructType(
        dict(zip(names, elements, strict=True)) if names else elements
    ),
    "sequence": SequenceType,
    "federated": FederatedType,
    "function": FunctionType,
}


def test_two_thousand_pairs_are_as_federated_language_has_them():
    expected = json.loads(random_types.ANSWERS.read_text("utf-8"))
    found = random_types.answers(OURS, lambda a, b: a.takes(b))
    assert found == expected


def test_the_answers_are_those_of_federated_language():
    pytest.importorskip(
        "federated_language",
        reason="federated-language isn't installed: pip install '.[oracle]'",
    )
    theirs = random_types.federated_language_api()
    for pair in random_types.pairs():
        a, b = (random_types.build(t, OURS) for t in pair)
        c, d = (random_types.build(t, theirs) for t in pair)
        assert (str(a), str(b)) == (str(c), str(d))
        assert a.takes(b) == c.is_assignable_from(d), (a, b)
        assert b.takes(a) == d.is_assignable_from(c), (b, a)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("float32", "float32"),
        (np.int32, "int32"),
        (("bfloat16", ("n", None, 3)), "bfloat16[n,?,3]"),
        (np.zeros((2, 3), "int8"), "int8[2,3]"),
        ([True, 1, 1.0], "<bool,int32,float32>"),
        ([("float32", [2]), ("int32", "float32")], None),
        ({"x": ["float32"], "y": {"z": "bool"}}, "<x=<float32>,y=<z=bool>>"),
        (SequenceType({"x": "float32"}), "<x=float32>*"),
        (FederatedType("int32", CLIENTS, True), "int32@CLIENTS"),
        (FunctionType(None, "int32"), "( -> int32)"),
    ],
)
def test_text(spec, text):
    text = text or "<float32[2],<int32,float32>>"
    assert str(to_type(spec)) == text
    assert to_type(spec) == to_type(spec)


def test_a_data_set_stands_for_the_sequences_of_its_clients():
    ds = fl.FederatedDataset.from_clients(
        {"a": (np.zeros((3, 2), "float32"), np.zeros(3, "int32"))}
    )
    assert str(to_type(ds)) == "{<float32[2],int32>*}@CLIENTS"


@pytest.mark.parametrize(
    ("takes", "shapes"),
    [
        (True, [("n",), ("n",), (3,), (3,)]),
        (False, [("n",), ("n",), (3,), (4,)]),
        (True, [("n",), ("m",), (3,), (4,)]),
        (True, [("n",), ("n",), ("k",), ("k",)]),
        (False, [("n",), ("n",), ("k",), ("j",)]),
        (True, [("n",), ("n",), (None,), (3,)]),
        (False, [(3,), (3,), ("n",), (3,)]),
        (False, [(3,), (3,), (None,), (3,)]),
        (True, [(None,), (None,), (3,), ("n",)]),
    ],
)
def test_a_name_is_one_length(takes, shapes):
    a, b, c, d = (TensorType("float32", s) for s in shapes)
    assert StructType([a, b]).takes(StructType([c, d])) == takes


def test_the_difference_names_the_element():
    a = to_type({"x": ["int32", {"y": ("float32", (2,))}]})
    b = to_type({"x": ["int32", {"y": ("float32", (3,))}]})
    assert a.difference(b) == (
        " in `x[1].y`:\n  expected  float32[2]\n  received  float32[3]"
    )
    named = to_type({"x": "int32"}).difference(to_type({"z": "int32"}))
    assert named == (" in `x`:\n  expected  an element of x\n  received  z")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: TensorType("no"),
        lambda: TensorType("str"),
        lambda: TensorType("float32", ("no name",)),
        lambda: FederatedType("float32", "clients"),
        lambda: FederatedType(FederatedType("float32", SERVER), SERVER),
    ],
)
def test_what_is_no_type(wrong):
    with pytest.raises((TypeError, ValueError)):
        wrong()


def test_a_text_stands_for_its_type():
    for pair in random_types.pairs():
        for t in (random_types.build(x, OURS) for x in pair):
            again = to_type(str(t))
            assert again == t
            assert again.takes(t)
            assert t.takes(again)
    assert to_type("<a/b=float32[n,?]>*").element.names == ("a/b",)


@pytest.mark.parametrize(
    "text",
    [
        *("", "<", "<a=>", "float32[", "{float32}", "int32@", "int32 x", "no"),
        *("<a=int32,bool>", "int32[-1]", "(int32"),
    ],
)
def test_a_text_that_is_no_type(text):
    with pytest.raises((TypeError, ValueError)):
        to_type(text)
