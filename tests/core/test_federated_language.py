import json

import pytest
from keras import ops

from fedlearn import core
from tests.core import random_programs

READINGS = core.FederatedType("float32", core.CLIENTS)
SEQUENCES = core.FederatedType(core.SequenceType("float32"), core.CLIENTS)


@pytest.mark.backend_free
def test_random_programs_are_written_as_federated_language_took_them():
    expected = json.loads(random_programs.ANSWERS.read_text("utf-8"))
    made = random_programs.programs()
    found = random_programs.digests(
        [text for _, text in made], [data for data, _ in made]
    )
    assert found == expected


@pytest.mark.backend_free
def test_federated_language_takes_random_programs():
    pytest.importorskip(
        "federated_language",
        reason="federated-language isn't installed: pip install '.[oracle]'",
    )
    for data, text in random_programs.programs():
        assert random_programs.judge(data) == text


@pytest.mark.backend_free
def test_a_function_of_tensors_is_tensorflows():
    @core.federated_computation(READINGS)
    def doubled(readings):
        return core.federated_sum(
            core.federated_map(lambda x: ops.add(x, x), readings)
        )

    written = doubled.to_federated_language()
    (op, _) = doubled.program.ops
    head = op.functions[0].artifact("")
    assert b"type.googleapis.com/tensorflow.GraphDef" in written
    assert head not in written  # but its graph, without the names before it
    assert head[4 + int.from_bytes(head[:4], "little") :] in written


def test_a_function_of_examples_is_data():
    @core.federated_computation(SEQUENCES)
    def total(examples):
        return core.federated_sum(
            core.federated_map(lambda x: ops.sum(x), examples)
        )

    written = total.to_federated_language()
    (op, _) = total.program.ops
    assert op.functions[0].artifact("") in written
    assert b"fedlearn/" in written


@pytest.mark.backend_free
def test_what_there_are_no_words_for_is_refused_by_name():
    @core.federated_computation(READINGS)
    def collected(readings):
        return core.federated_collect(readings)

    with pytest.raises(ValueError, match="no federated_collect, which is at"):
        collected.to_federated_language()

    @core.federated_computation(core.FederatedType("int32", core.CLIENTS))
    def small(numbers):
        return core.federated_secure_sum(numbers, 3, modulus_bits=8)

    with pytest.raises(ValueError, match="`modulus_bits` at 31"):
        small.to_federated_language()

    @core.federated_computation(core.FederatedType("float8_e5m2", core.CLIENTS))
    def eight_bits(numbers):
        return core.federated_mean(numbers)

    with pytest.raises(ValueError, match="has no float8_e5m2"):
        eight_bits.to_federated_language()


@pytest.mark.backend_free
def test_the_size_is_linear_where_a_model_is_one_value():
    def written(num):
        weights = core.StructType([("float32", (2,))] * num)

        @core.federated_computation(
            core.FederatedType(weights, core.SERVER), READINGS
        )
        def mean(model, readings):
            sent = core.federated_broadcast(model)
            parts = list(sent)
            given = core.federated_zip([parts, readings])
            return core.federated_sum(given[0])

        return len(mean.to_federated_language())

    assert written(200) < 2.1 * written(100)
