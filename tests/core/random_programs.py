"""Random programs of all operators, for federated-language to judge.

    python -m tests.core.random_programs ORACLE

writes `federated_language_programs.json`. ORACLE is the Python of an
environment with federated-language; it needs nothing of ours.
"""

import hashlib
import inspect
import json
import pathlib
import pickle
import random
import subprocess
import sys

COUNT = 300
ANSWERS = pathlib.Path(__file__).with_name("federated_language_programs.json")


def programs():
    """`COUNT` pairs of a computation's bytes and its type there."""
    return [
        (made.to_federated_language(), _type_there(made))
        for made in map(computation, range(COUNT))
    ]


def judge(data):
    """The type that federated-language gives a program; else an error."""
    import federated_language
    from federated_language.proto import computation_pb2

    parsed = computation_pb2.Computation.FromString(data)
    framework = federated_language.framework
    block = framework.ComputationBuildingBlock.from_proto(parsed)
    framework.check_has_unique_names(block)
    framework.check_contains_no_unbound_references(block)
    for proto in (parsed, block.to_proto()):  # nothing in it that it ignores
        assert proto.SerializeToString(deterministic=True) == data
    return str(block.type_signature)


def digests(texts, written):
    return {
        "types": hashlib.sha256("\n".join(texts).encode()).hexdigest(),
        "bytes": [hashlib.sha256(data).hexdigest()[:8] for data in written],
    }


def computation(seed):
    """A random one, whose functions have no contents."""
    from fedlearn import core

    draw = random.Random(seed)
    places = [draw.choice((core.CLIENTS, core.SERVER)) for _ in range(3)]
    places = [core.CLIENTS, *places[: draw.randrange(4)]]
    parameters = {
        name: core.FederatedType(_member(draw), place)
        for name, place in zip("abcd", places, strict=False)
    }

    def body(*values):
        values = list(values)
        for _ in range(draw.randrange(1, 9)):
            operator = draw.choice(_OPERATORS)
            try:
                values.append(operator(draw, values))
            except core.FederatedTypeError:
                continue  # not of such a type, or no value in that place
        # What is equal at all clients may be said to differ.
        shown = [v for v in values if not str(v.type).endswith("}@CLIENTS")]
        shown = [v for v in shown if f"@{core.CLIENTS}" not in str(v.type)]
        shown += [v for v in values if str(v.type).startswith("{")]
        return _packed(draw, draw.sample(shown, min(2, len(shown))))

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    body.__signature__ = inspect.Signature(
        [inspect.Parameter(name, kind) for name in parameters]
    )
    return core.federated_computation(*parameters.values())(body)


def _type_there(made):
    from fedlearn import core

    parameters = dict(made.program.parameters)
    for i, op in enumerate(made.program.ops, 1):
        if op.kind == "federated_seeds":
            parameters[f"seeds_of_{i}"] = op.type
    takes = list(parameters.values())
    takes = parameters if len(takes) > 1 else takes[0]
    text = str(core.FunctionType(takes, made.type.result))
    return text.replace("[n", "[?")


def _member(draw, depth=2):
    from fedlearn import core

    kind = draw.choice(("tensor", "struct", "sequence")) if depth else "tensor"
    if kind == "struct":
        elements = [_member(draw, depth - 1) for _ in range(draw.randrange(4))]
        if draw.random() < 0.5:
            elements = dict(zip("xyz", elements, strict=False))
        return core.StructType(elements or [_tensor(draw)])
    if kind == "sequence":
        parts = draw.choice((["x"], ["x", "y"]))
        return core.SequenceType({name: _tensor(draw) for name in parts})
    return core.to_type(_tensor(draw))


def _tensor(draw):
    dtype = draw.choice(("float32", "int32", "bool", "float16", "uint8"))
    shape = draw.choice(([], [2], [1, 3], [None], ["n"], ["n", 2]))
    return dtype, shape


def _packed(draw, values):
    if len(values) == 1 and draw.random() < 0.7:
        return values[0]
    if draw.random() < 0.5:
        return dict(zip("pqrs", values, strict=False))
    return draw.choice((list(values), [list(values)]))


def _picked(draw, values, place):
    """Some values in one place, or parts of them, packed anew."""
    from fedlearn import core

    found = []
    for value in draw.sample(values, len(values)):
        while len(tuple(_elements(value))) and draw.random() < 0.5:
            value = draw.choice(list(_elements(value)))
        if f"@{place}" in str(value.type) and "<" not in str(value.type)[:1]:
            found.append(value)
    if not found:
        raise core.FederatedTypeError("nothing there")
    return _packed(draw, found[: draw.randrange(1, 4)])


def _elements(value):
    from fedlearn import core

    member = getattr(value.type, "member", None)
    return value if isinstance(member, core.StructType) else ()


def _local(takes, gives):
    """A local computation without contents, so that none is traced."""
    from fedlearn import core
    from fedlearn.core.types import tensors

    t = core.FunctionType(takes, gives)
    names = [
        [f"{side}{i}:0" for i in range(len(tensors(of)))]
        for side, of in (("in", t.parameter), ("out", t.result))
    ]
    head = json.dumps(names).encode()
    graph = b"\x22\x02\x08\x01"  # of no operations
    data = len(head).to_bytes(4, "little") + head + graph
    return core.LocalComputation("work", t, {"": data})


def _mapped(draw, values, place, gives=None):
    from fedlearn import core
    from fedlearn.core.value import federated

    value = _picked(draw, values, place)
    takes = federated(value, "value", "map")[1].member
    bare = isinstance(takes, core.StructType) and not takes.names
    if bare and draw.random() < 0.5:  # a function of several parameters
        takes = dict(zip("uvw", takes.elements, strict=False))
    fn = _local(takes, gives or _member(draw))
    return core.federated_map(fn, value)


def _numbers(draw):
    return draw.choice((
        ("float32", [2]),
        "float32",
        [("float32", [2]), "float16"],
        {"x": "float32", "y": [("float32", [1])]},
    ))  # fmt: skip


def _map_clients(draw, values):
    return _mapped(draw, values, "CLIENTS")


def _map_server(draw, values):
    return _mapped(draw, values, "SERVER")


def _broadcast(draw, values):
    from fedlearn import core

    return core.federated_broadcast(_picked(draw, values, "SERVER"))


def _added(draw, values):
    from fedlearn import core

    names = ("federated_sum", "federated_mean", "federated_min")
    operator = getattr(core, draw.choice((*names, "federated_max")))
    if draw.random() < 0.3:
        return operator(_picked(draw, values, "CLIENTS"))
    return operator(_mapped(draw, values, "CLIENTS", _numbers(draw)))


def _weighted(draw, values):
    from fedlearn import core

    value = _mapped(draw, values, "CLIENTS", _numbers(draw))
    weight = draw.choice(("float32", "int32"))
    weight = _mapped(draw, values, "CLIENTS", weight)
    return core.federated_mean(value, weight)


def _secure(draw, values):
    from fedlearn import core

    gives = draw.choice(("int32", {"x": ("uint32", [3]), "y": "int32"}))
    value = _mapped(draw, values, "CLIENTS", gives)
    return core.federated_secure_sum(value, draw.choice((1, 2**20, 2**31 - 1)))


def _own(draw, values):
    import numpy as np

    from fedlearn import core
    from fedlearn.core.value import federated

    value = _picked(draw, values, "CLIENTS")
    of = federated(value, "value", "sum")[1].member
    zero = draw.choice((0.0, [np.zeros(3, "int8"), True], {"t": np.ones(2)}))
    if isinstance(zero, dict):
        zero["t"] = zero["t"].astype("float16")
    total = core.to_type(zero)
    takes = [total, of]
    if draw.random() < 0.5:
        takes = dict(zip(("total", "value"), takes, strict=True))
    return core.federated_aggregate(
        value,
        zero,
        _local(takes, total),
        _local([total, total], total),
        _local(total, _member(draw)),
    )


def _select(draw, values):
    from fedlearn import core
    from fedlearn.core.value import federated

    keys = ("int32", [draw.choice((1, 4))])
    keys = _mapped(draw, values, "CLIENTS", keys)
    source = _picked(draw, values, "SERVER")
    of = federated(source, "value", "select")[1].member
    most = _mapped(draw, values, "SERVER", "int32")
    part = core.to_type(_tensor(draw))
    return core.federated_select(
        keys, most, source, _local([of, "int32"], part)
    )


def _value(draw, values):
    import numpy as np

    from fedlearn import core

    value = draw.choice((
        1.5, True, -3, [1, {"x": 2.0}], np.ones((2, 3), "int16"),
        np.float16(0.1), np.zeros((0,), "float32"), np.complex64(1 + 2j),
        np.array([2**40, -1]), np.array([2**63], "uint64"),
    ))  # fmt: skip
    return core.federated_value(value, draw.choice(("CLIENTS", "SERVER")))


def _eval(draw, values):
    from fedlearn import core

    fn = _local(None, _member(draw))
    return core.federated_eval(fn, draw.choice(("CLIENTS", "SERVER")))


def _seeds(draw, values):
    from fedlearn import core

    seed = _mapped(draw, values, "SERVER", ("uint32", [2]))
    return core.federated_seeds(seed)


_OPERATORS = (
    *(_map_clients, _map_clients, _map_server, _broadcast, _broadcast),
    *(_added, _added, _weighted, _secure, _own, _select, _value, _eval),
    _seeds,
)


if __name__ == "__main__":
    if sys.argv[1:]:
        (python,) = sys.argv[1:]
        made = programs()
        done = subprocess.run(
            [python, __file__], input=pickle.dumps(made), capture_output=True
        )
        sys.stderr.write(done.stderr.decode())
        done.check_returncode()
        found = digests([t for _, t in made], [data for data, _ in made])
        ANSWERS.write_text(json.dumps(found, indent=1) + "\n")
    else:
        for i, (data, text) in enumerate(pickle.load(sys.stdin.buffer)):
            theirs = judge(data)
            assert theirs == text, f"{i}:\n{theirs}\n{text}"
