"""Computations as files: the same elsewhere, and nothing but computing."""

import hashlib
import json
import subprocess
import sys
import tracemalloc

import keras
import numpy as np
import pytest
from keras import ops

from fedlearn import backend, core
from fedlearn.core import CLIENTS, SERVER, FederatedType
from fedlearn.core.local_computation import form
from fedlearn.core.map_sum import artifacts
from fedlearn.core.program_bytes import decode, encode
from fedlearn.data import FormatError
from fedlearn.messages import wire

F = "float32"
FLOATS = FederatedType(F, CLIENTS)
ROWS = FederatedType(core.SequenceType({"x": (F, (3,)), "y": "int32"}), CLIENTS)


def training():
    """Computations of all kinds of operators, one of them with gradients."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    weights = core.to_type(model.trainable_variables)
    loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def loss(weights, x, y):
        return loss_fn(y, model.stateless_call(weights, [], x)[0]), ()

    @core.local_computation(weights, ROWS.member)
    def local_train(weights, data):
        def step(_, weights):
            gradient = backend.value_and_grad(loss)
            _, grads = gradient(list(weights), data["x"], data["y"])
            return [w - 0.1 * g for w, g in zip(weights, grads, strict=True)]

        return backend.loop(2, step, list(weights))

    @core.federated_computation(
        FederatedType(weights, SERVER),
        ROWS,
        FederatedType(("uint32", (2,)), SERVER),
    )
    def round_of(model, data, seed):
        sent = core.federated_broadcast(model)
        trained = core.federated_map(local_train, (sent, data))
        size = core.federated_map(lambda d: ops.shape(d["y"])[0], data)
        return {
            "model": core.federated_mean(trained, size),
            "most": core.federated_aggregate(
                size, 0, ops.maximum, ops.maximum, lambda t: 2 * t
            ),
            "seeds": core.federated_collect(core.federated_seeds(seed)),
            "sum": core.federated_secure_sum(size, 5),
            "three": core.federated_value(3.0, SERVER),
        }

    rng = np.random.default_rng(0)
    data = [
        {"x": rng.normal(size=(n, 3)).astype(F), "y": rng.integers(0, 2, n)}
        for n in (3, 2, 3)
    ]
    seed = np.array([1, 2], "uint32")
    return round_of, (model.get_weights(), data, seed)


PROGRAM = """
import pickle, sys
from fedlearn import core
arguments = pickle.load(open(sys.argv[2], "rb"))
computation = core.load(sys.argv[1])
pickle.dump(computation(*arguments), open(sys.argv[2], "wb"))
"""


@pytest.mark.integration
def test_in_a_fresh_process_it_gives_the_same_bits(tmp_path):
    import pickle  # of the test's arguments; none is in the file

    computation, arguments = training()
    computation.save(tmp_path / "round.flc")
    data = tmp_path / "data"
    data.write_bytes(pickle.dumps(arguments))
    subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "round.flc", data],
        check=True,
    )
    found = pickle.loads(data.read_bytes())
    for a, b in zip(
        keras.tree.flatten(found),
        keras.tree.flatten(computation(*arguments)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


@core.federated_computation(FLOATS, FederatedType(F, SERVER))
def share_above(readings, threshold):
    sent = core.federated_broadcast(threshold)
    return core.federated_mean(
        core.federated_map(lambda r, t: ops.cast(r > t, F), (readings, sent))
    )


SAVED = encode(share_above.program)


def loaded():
    return core.FederatedComputation(decode(SAVED))


def test_what_is_loaded_is_what_was_saved():
    again = loaded()
    assert str(again) == str(share_above)
    assert again.type == share_above.type
    assert again([1.0, 2.0, 3.0], 1.5) == share_above([1.0, 2.0, 3.0], 1.5)
    assert encode(again.program) == SAVED


def test_what_is_loaded_becomes_a_part_of_others():
    again = loaded()
    exceeds = again.program.ops[1].functions[0]

    @core.federated_computation(FLOATS, FLOATS)
    def other(x, thresholds):  # one at each client: not as it was saved for
        above = core.federated_map(exceeds, (x, thresholds))
        half = core.federated_value(0.5, SERVER)
        return core.federated_sum(above), again(above, half)

    assert other([1.0, 2.0, 3.0], [0.0, 5.0, 0.0]) == (2, np.float32(2 / 3))


def test_a_file_is_hardly_longer_than_its_artifacts():
    program, _ = training()
    size = sum(
        len(fn.artifact(key)) for fn, key in set(artifacts(program.program))
    )
    assert len(encode(program.program)) < 1.2 * size


@pytest.mark.backend_free
def test_damage_is_one_error_and_costs_no_memory():
    rng = np.random.default_rng(0)
    tracemalloc.start()
    for _ in range(300):
        data = bytearray(SAVED)
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            data[at] ^= int(rng.integers(1, 256))
        with pytest.raises(FormatError):
            decode(bytes(data))
    for end in range(0, len(SAVED), len(SAVED) // 50):
        with pytest.raises(FormatError):
            decode(SAVED[:end])
    assert tracemalloc.get_traced_memory()[1] < 50 * len(SAVED) + 2**20
    tracemalloc.stop()


def forged(change):
    """The file with a changed head, and the checksum that this has."""
    text, blobs = wire.unpack(SAVED[40:])
    head = json.loads(text.tobytes())
    change(head)
    text = np.frombuffer(json.dumps(head).encode(), np.uint8)
    body = wire.pack((text, blobs))
    return SAVED[:8] + hashlib.sha256(body).digest() + body


@pytest.mark.backend_free
def test_a_forged_head_is_one_error():
    def set_(*keys):
        *path, last, value = keys

        def change(head):
            for key in path:
                head = head[key]
            head[last] = value

        return change

    def takes_integers(head):
        head["types"].append("{int32}@CLIENTS")
        head["parameters"][0][1] = len(head["types"]) - 1

    decode(forged(lambda head: None))
    for change in (
        takes_integers,
        set_("form", "python"),
        set_("ops", 0, 0, "os.system"),
        set_("ops", 1, 1, [7]),
        set_("ops", 1, 2, [0, -1]),
        set_("ops", 1, 2, [0, 3]),
        set_("ops", 1, 2, [0]),
        set_("ops", 1, 4, 99),
        set_("functions", 0, 2, {"": 99}),
        set_("results", [99]),
        set_("results", [-1]),
        set_("results", []),
        set_("types", 0, "<" * 5000),
        set_("types", 0, "float32[99999999999]@"),
        set_("types", []),
        set_("parameters", [["readings", 0]]),
        set_("functions", 0, 1, 1),
        set_("functions", 0, 2, {"10": 1}),
        set_("ops", 0, 0, "federated_sum"),  # of what is at the server
        set_("ops", 1, 0, "federated_value"),
        set_("ops", 2, 0, "federated_broadcast"),
        set_("results", [0]),  # a client's reading for the server's share
    ):
        with pytest.raises(FormatError, match="No computation"):
            decode(forged(change))


def test_few_bytes_take_no_time_and_no_memory():
    long = f"<{'float32,' * 2000}float32>@CLIENTS"

    def many(head):
        t = len(head["types"])
        head["types"].append(long)
        head["parameters"] = [[f"p{i}", t] for i in range(600)]

    data = forged(many)
    tracemalloc.start()
    with pytest.raises(FormatError, match="more than 1,000,000 tensors"):
        decode(data)
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


def test_random_artifacts_are_one_error():
    text, blobs = wire.unpack(SAVED[40:])
    rng = np.random.default_rng(0)
    for i in range(2 if backend.name == "jax" else 20):  # by a process each
        size = len(blobs[0]) if i % 2 else 30
        noise = rng.integers(0, 256, size).astype("uint8")
        body = wire.pack((text, (noise, *blobs[1:])))
        data = SAVED[:8] + hashlib.sha256(body).digest() + body
        with pytest.raises(FormatError, match="No computation"):
            decode(data)


def refused():
    """A function that calls Python."""
    if backend.name == "jax":
        import jax

        spec = jax.ShapeDtypeStruct((), F)
        return lambda x: jax.pure_callback(np.sin, spec, x)
    import tensorflow as tf

    return lambda x: tf.ensure_shape(tf.numpy_function(np.sin, [x], F), ())


def test_functions_that_do_more_than_compute_are_not_saved():
    fn = core.local_computation(F)(refused())
    program = core.federated_computation(FLOATS)(
        lambda x: core.federated_sum(core.federated_map(fn, x))
    )
    with pytest.raises((ValueError, NotImplementedError)):
        encode(program.program)


@pytest.mark.skipif(backend.name != "jax", reason="of JAX")
@pytest.mark.parametrize(
    "target",
    [
        *("xla_ffi_python_cpu_callback", "os_system", "Sharding_os_system"),
        # It reads and writes past arrays of other shapes than it is told.
        "lapack_strsm_ffi",
    ],
)
def test_a_module_that_calls_something_else_is_not_loaded(target):
    import jax

    spec = jax.ShapeDtypeStruct((), F)
    allowed = jax.export.DisabledSafetyCheck.custom_call(target)
    exported = jax.export.export(
        jax.jit(jax.ffi.ffi_call(target, spec)), disabled_checks=[allowed]
    )(spec)
    with pytest.raises(ValueError, match=f"{target} isn't allowed"):
        form.check(bytes(exported.serialize()))


def test_linear_algebra_is_for_files_where_its_shapes_are_checked():
    fn = core.local_computation((F, (2, 2)))(lambda x: ops.cholesky(x))
    program = core.federated_computation(FederatedType((F, (2, 2)), SERVER))(
        lambda x: core.federated_apply(fn, x)
    ).program
    assert encode(program, ours=True)  # to workers
    if backend.name == "jax":
        with pytest.raises(ValueError, match="lapack_spotrf_ffi isn't allowed"):
            encode(program)
    else:
        assert decode(encode(program)).name == program.name


@pytest.mark.skipif(backend.name != "tensorflow", reason="of TensorFlow")
@pytest.mark.parametrize(
    "op",
    [
        *("ReadFile", "WriteFile", "MatchingFiles", "ImmutableConst"),
        *("PyFunc", "PyFuncStateless", "XlaHostCompute", "XlaCustomCallV2"),
        *("VarHandleOp", "RandomUniform", "DebugIdentityV3", "_Send"),
    ],
)
def test_a_graph_that_touches_files_is_not_loaded(op):
    import tensorflow as tf

    fn = share_above.program.ops[1].functions[0]
    head, data = fn.artifact("")[:4], fn.artifact("")
    start = 4 + int.from_bytes(head, "little")
    graph = tf.compat.v1.GraphDef.FromString(data[start:])
    node = graph.node.add()
    node.name, node.op = "added", op
    forged = data[:start] + graph.SerializeToString()
    with pytest.raises(ValueError, match=f"{op} isn't allowed"):
        form.check(forged)
    function = graph.library.function.add()
    function.signature.name = op
    with pytest.raises(ValueError, match=f"{op} isn't allowed"):
        form.check(data[:start] + graph.SerializeToString())
    function.node_def.add().CopyFrom(graph.node.pop())
    with pytest.raises(ValueError, match=f"{op} isn't allowed"):
        form.check(data[:start] + graph.SerializeToString())


@pytest.mark.skipif(backend.name != "tensorflow", reason="of TensorFlow")
def test_every_artifact_is_checked():
    text, blobs = wire.unpack(SAVED[40:])
    functions = json.loads(text.tobytes())["functions"]
    numbers = [i for *_, saved in functions for i in saved.values()]
    assert len(numbers) > len(functions)
    for number in numbers:
        data = blobs[number].tobytes()
        start = 4 + int.from_bytes(data[:4], "little")
        *_, graph = form.parts(data)
        graph.node.add(name="added", op="ReadFile")
        data = data[:start] + graph.SerializeToString()
        changed = list(blobs)
        changed[number] = np.frombuffer(data, np.uint8)
        body = wire.pack((text, tuple(changed)))
        with pytest.raises(FormatError, match="ReadFile isn't allowed"):
            decode(SAVED[:8] + hashlib.sha256(body).digest() + body)


def with_function(factor, name):
    """An artifact that multiplies by a number, in a function of a name."""
    import tensorflow as tf

    inner = tf.function(lambda x: factor * x)
    data = form.export(inner, [core.TensorType(F)])
    *ends, graph = form.parts(data)
    (function,), (call,) = (
        graph.library.function,
        (n for n in graph.node if "PartitionedCall" in n.op),
    )
    function.signature.name = call.attr["f"].func.name = name
    head = json.dumps(ends).encode()
    return len(head).to_bytes(4, "little") + head, graph


@pytest.mark.skipif(backend.name != "tensorflow", reason="of TensorFlow")
def test_functions_of_two_files_may_have_one_name():
    for factor in (2.0, 3.0):
        head, graph = with_function(factor, "__inference_fn_1")
        data = head + graph.SerializeToString()
        form.check(data)
        (found,) = form.load(data, [core.TensorType(F)])(np.float32(1))
        assert float(found) == factor


@pytest.mark.skipif(backend.name != "tensorflow", reason="of TensorFlow")
def test_a_graph_that_calls_what_the_process_has_is_not_loaded():
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((), F)])
    def private(x):
        return x + 1

    name = private.get_concrete_function().name.decode()
    head, graph = with_function(2.0, name)
    del graph.library.function[:]
    with pytest.raises(ValueError, match=f"calls {name}"):
        form.check(head + graph.SerializeToString())


@pytest.mark.skipif(backend.name != "tensorflow", reason="of TensorFlow")
@pytest.mark.parametrize("sizes", [[2**40], [2**23] * 3])
def test_a_constant_that_unfolds_is_not_loaded(sizes):
    import tensorflow as tf

    data = share_above.program.ops[1].functions[0].artifact("")
    start = 4 + int.from_bytes(data[:4], "little")
    graph = tf.compat.v1.GraphDef.FromString(data[start:])
    for i, size in enumerate(sizes):
        node = graph.node.add()
        node.name, node.op = f"added_{i}", "Const"
        node.attr["value"].tensor.tensor_shape.dim.add().size = size
    with pytest.raises(ValueError, match="constants unfold"):
        form.check(data[:start] + graph.SerializeToString())


@pytest.mark.skipif(backend.name != "tensorflow", reason="of TensorFlow")
def test_a_constant_that_crashes_is_not_loaded():
    import tensorflow as tf

    head, graph = with_function(2.0, "fn")
    value = graph.node.add(name="added", op="Const").attr["value"]
    value.tensor.dtype = tf.variant.as_datatype_enum
    with pytest.raises(ValueError, match="constant of variant"):
        form.check(head + graph.SerializeToString())


def test_of_the_other_backend():
    other = forged(lambda head: head.update(form="another"))
    with pytest.raises(FormatError, match="KERAS_BACKEND chooses it"):
        decode(other)
