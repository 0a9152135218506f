"""Random pairs of types, for fedlearn and for federated-language.

Run with federated-language installed, and nothing else of ours, this writes
`federated_language.json`: what it says of them.
"""

import hashlib
import json
import pathlib
import random

COUNT = 2000
ANSWERS = pathlib.Path(__file__).with_name("federated_language.json")
_DTYPES = ("float32", "int32", "bool", "float16", "uint8")


def pairs():
    """`COUNT` pairs of types as plain data, every other one of kin."""
    draw = random.Random(0)
    for i in range(COUNT):
        first = _any_type(draw)
        yield first, _kin(draw, first) if i % 2 else _any_type(draw)


def _any_type(draw):
    kind = draw.choice(("member", "federated", "struct", "function"))
    if kind == "member":
        return _member(draw, 3)
    if kind == "federated":
        return _federated(draw)
    if kind == "struct":
        return _struct(draw, [_federated(draw) for _ in range(2)])
    parameter = None if draw.random() < 0.3 else _member(draw, 2)
    return "function", parameter, _member(draw, 2)


def _federated(draw):
    place = draw.choice(("CLIENTS", "SERVER"))
    return "federated", _member(draw, 2), place, draw.random() < 0.5


def _member(draw, depth):
    kind = draw.choice(("tensor", "struct", "sequence")) if depth else "tensor"
    if kind == "struct":
        count = draw.randrange(4)
        return _struct(draw, [_member(draw, depth - 1) for _ in range(count)])
    if kind == "sequence":
        return "sequence", _tensor(draw)
    return _tensor(draw)


def _tensor(draw):
    shape = [draw.choice((None, 1, 2)) for _ in range(draw.randrange(3))]
    return "tensor", draw.choice(_DTYPES), shape


def _struct(draw, elements):
    if draw.random() < 0.5:
        return "struct", None, elements
    return "struct", draw.sample("abcd", len(elements)), elements


def _kin(draw, t):
    """A type with a few things changed."""
    kind, *parts = t
    if kind == "tensor":
        dtype, shape = parts
        dtype = draw.choice(_DTYPES) if draw.random() < 0.05 else dtype
        return kind, dtype, [draw.choice((s, s, None, 1)) for s in shape]
    if kind == "struct":
        names, elements = parts
        if names and draw.random() < 0.3:
            names = draw.choice((None, names[::-1]))
        elif draw.random() < 0.3:
            names = list("abcd"[: len(elements)])
        return kind, names, [_kin(draw, e) for e in elements]
    if kind == "sequence":
        return kind, _kin(draw, parts[0])
    if kind == "federated":
        member, place, equal = parts
        equal = draw.choice((equal, not equal))
        return kind, _kin(draw, member), place, equal
    parameter, result = parts
    return kind, parameter and _kin(draw, parameter), _kin(draw, result)


def build(t, api):
    """A type of plain data, by a dict of functions."""
    kind, *parts = t
    if kind == "tensor":
        return api["tensor"](*parts)
    if kind == "struct":
        names, elements = parts
        return api["struct"](names, [build(e, api) for e in elements])
    if kind == "function":
        parameter, result = parts
        return api["function"](
            None if parameter is None else build(parameter, api),
            build(result, api),
        )
    return api[kind](build(parts[0], api), *parts[1:])


def federated_language_api():
    import federated_language as fl
    import numpy as np

    places = {"CLIENTS": fl.CLIENTS, "SERVER": fl.SERVER}
    return {
        "tensor": lambda dtype, shape: fl.TensorType(
            np.dtype(dtype).type, shape
        ),
        "struct": lambda names, elements: fl.StructType(
            list(zip(names, elements, strict=True)) if names else elements
        ),
        "sequence": fl.SequenceType,
        "federated": lambda m, p, equal: fl.FederatedType(m, places[p], equal),
        "function": fl.FunctionType,
    }


def answers(api, takes):
    """Texts of all types, and whether each takes the other of its pair."""
    texts, bits = [], ""
    for first, second in pairs():
        a, b = build(first, api), build(second, api)
        texts += [str(a), str(b)]
        bits += "01"[takes(a, b)] + "01"[takes(b, a)]
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    return {"texts": digest, "takes": f"{int(bits, 2):x}"}


if __name__ == "__main__":
    theirs = answers(
        federated_language_api(), lambda a, b: a.is_assignable_from(b)
    )
    ANSWERS.write_text(json.dumps(theirs, indent=1) + "\n")
