import functools
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import KerasTensor, tree

from fedlearn import encoders
from fedlearn.encoders import EntropyCoding, bit_packing
from fedlearn.messages import wire
from tests.encoders.compression import heavy_tailed, normal

pytestmark = pytest.mark.backend_free

METHODS = ("huffman", "deflate", "bzip2")
MESSAGE = {
    "codes": [
        (np.abs(normal(6000)) * 3).astype(np.uint8),
        np.zeros(5000, np.uint8),
        np.zeros(0, np.uint8),
    ],
    "ranges": normal(6).reshape(3, 2),
}
SPEC = tree.map_structure(lambda a: KerasTensor(a.shape, a.dtype), MESSAGE)


def same(a, b):
    return all(
        x.dtype == y.dtype and x.shape == y.shape and (x == y).all()
        for x, y in zip(tree.flatten(a), tree.flatten(b), strict=True)
    )


@functools.cache
def coded(method):
    return EntropyCoding(method).to_wire(MESSAGE).tobytes()


def eight_bits(vector):
    low, high = vector.min(), vector.max()
    return np.round((vector - low) * (255 / (high - low))).astype(np.uint8)


def trits(vector):
    rng = np.random.default_rng(0)
    share = abs(vector) / abs(vector).max()
    kept = np.sign(vector) * (rng.random(vector.size) < share)
    packed = bit_packing.pack_trits((kept + 1).astype(np.uint8))
    return np.asarray(packed)


def entropy(codes):
    """Bytes that codes take, if each is as likely as it is frequent."""
    counts = np.bincount(codes, minlength=256)
    counts = counts[counts > 0]
    return -(counts * np.log2(counts / codes.size)).sum() / 8


@pytest.mark.parametrize("method", METHODS)
def test_messages_come_back(method):
    encoder = EntropyCoding(method)
    sent = encoder.to_wire(MESSAGE)
    assert sent.dtype == np.uint8
    assert sent.size < len(wire.pack(MESSAGE)) / 3
    assert same(encoder.from_wire(sent), MESSAGE)
    assert same(encoder.from_wire(sent, SPEC), MESSAGE)
    assert same(encoder.from_wire(sent, MESSAGE), MESSAGE)


@pytest.mark.parametrize(
    ("method", "codes", "excess"),
    [
        ("huffman", eight_bits(normal(1 << 18)), 0.015),
        ("huffman", trits(normal(1 << 18)), 0.05),
        # Here Huffman's takes three times as much.
        ("bzip2", trits(heavy_tailed(1 << 18)), 0.3),
    ],
)
def test_it_takes_little_more_than_the_entropy(method, codes, excess):
    sent = EntropyCoding(method).to_wire([codes])
    assert 1 < sent.size / entropy(codes) < 1 + excess


@pytest.mark.parametrize("method", METHODS)
def test_what_inflates_too_far_is_refused(method):
    encoder = EntropyCoding(method)
    sent = encoder.to_wire([np.zeros(200_000, np.uint8)])
    with pytest.raises(ValueError, match=r"can't be read: it holds .*expected"):
        encoder.from_wire(sent, [np.zeros(100, np.uint8)])


@pytest.mark.parametrize("method", METHODS)
def test_another_message_than_announced_is_refused(method):
    encoder = EntropyCoding(method)
    sent = encoder.to_wire([np.zeros(50, np.uint8)])
    for other in (
        [np.zeros(60, np.uint8)],
        [np.zeros(50, np.int8)],
        [np.zeros((5, 10), np.uint8)],
        (np.zeros(50, np.uint8),),
    ):
        with pytest.raises(ValueError, match=r"holds .*\d+ bytes.*expected"):
            encoder.from_wire(sent, other)


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data())
@settings(max_examples=50, deadline=None, derandomize=True, database=None)
def test_damaged_messages_are_refused(method, data):
    encoder, sent = EntropyCoding(method), coded(method)
    place = data.draw(st.integers(0, len(sent) - 1))
    kind = data.draw(st.sampled_from(("change", "cut", "add", "insert")))
    some = data.draw(st.binary(min_size=1, max_size=4))
    if kind == "change":
        damaged = sent[:place] + some + sent[place + len(some) :]
    elif kind == "cut":
        damaged = sent[:place]
    elif kind == "add":
        damaged = sent + some
    else:
        damaged = sent[:place] + some + sent[place:]
    damaged = np.frombuffer(damaged, np.uint8)
    if damaged.tobytes() == sent:
        return
    for spec in (None, SPEC):
        try:
            found = encoder.from_wire(damaged, spec)
        except ValueError:
            continue
        # Floats that aren't coded have no check; nothing else may change, and
        # deflate has bits that don't matter at its end.
        assert spec is None or tree.map_structure(
            lambda a: (a.shape, a.dtype), found
        ) == tree.map_structure(lambda a: (a.shape, a.dtype), MESSAGE)
        assert same(found["codes"][:2], MESSAGE["codes"][:2])


def test_a_method_that_has_gone_names_the_way_out():
    with pytest.raises(ValueError, match=r"'bzip2': the last where.*'range'"):
        EntropyCoding("range")
    with pytest.raises(ValueError, match=r"no 'range' any more.*'bzip2'"):
        encoders.get("range")


def test_garbage_is_refused():
    for method in METHODS:
        for garbage in (b"", b"\0", b"FLM1", bytes(range(256))):
            with pytest.raises(ValueError, match=r"can't be read|message"):
                EntropyCoding(method).from_wire(
                    np.frombuffer(garbage, np.uint8), SPEC
                )
    # Deflate's own format, but more than one message.
    sent = EntropyCoding().to_wire([np.zeros(3, np.uint8)]).tobytes()
    with pytest.raises(ValueError, match="more after its end"):
        EntropyCoding().from_wire(
            np.frombuffer(sent + zlib.compress(b"x"), np.uint8)
        )
