import bz2
import functools
import zlib
from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np

from fedlearn import checks
from fedlearn.encoders.encoder import Encoder, Wire
from fedlearn.messages import wire

_HUFFMAN = functools.partial(zlib.compressobj, strategy=zlib.Z_HUFFMAN_ONLY)
_METHODS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "huffman": (_HUFFMAN, zlib.decompressobj),
    "deflate": (zlib.compressobj, zlib.decompressobj),
    "bzip2": (bz2.BZ2Compressor, bz2.BZ2Decompressor),
}

# Of a message that nothing is known of.
_MOST_BYTES = 1 << 30


class EntropyCoding(Encoder, Wire):
    """Compresses the bytes of a message, without loss, on the host.

    Quantizers give rare and frequent codes the same number of bits; here
    frequent ones get fewer. It belongs at the end of a chain, behind an encoder
    that makes integers: bytes of floats hardly get shorter. Whole bytes are
    coded: less is saved of codes of 3, 5, 6 and 7 bits, which lie across them.
    Messages differ in length.

    Args:
        method: `"huffman"`: a whole number of bits for each byte (Huffman
            1952, "A method for the construction of minimum-redundancy
            codes"): the fastest, and within a few percent of the entropy of
            most codes. A byte takes one bit at least, so it falls short where
            most are the same, as after `TernGrad`, or quantizers with few
            levels: there `"bzip2"` takes a half or a third of its bytes.
            `"deflate"`: finds repetitions; that seldom pays for numbers.

    Raises:
        ValueError: If `method` is none of these.

    Example:

    >>> encoder = EntropyCoding()
    >>> codes = np.array([0, 0, 0, 1] * 1000, np.uint8)
    >>> sent = encoder.to_wire({"codes": codes})
    >>> bool(sent.size < codes.size / 5)
    True
    >>> bool((encoder.from_wire(sent)["codes"] == codes).all())
    True
    """

    bound = "keeps"
    varies = True

    def __init__(
        self, method: Literal["huffman", "deflate", "bzip2"] = "huffman"
    ):
        meaning = "the last where most numbers are the same, as with TernGrad"
        self.method = checks.one_of("method", method, _METHODS, meaning)

    def to_wire(self, encoded: Any) -> Any:
        """A message's bytes, compressed, a uint8 array."""
        coder = _METHODS[self.method][0]()
        coded = coder.compress(wire.pack(encoded)) + coder.flush()
        return np.frombuffer(coded, np.uint8)

    def from_wire(self, sent: Any, spec: Any = None) -> Any:
        """The message that `to_wire` compressed.

        Args:
            sent: A uint8 array. Nothing is inflated further than the message
                may be long, whatever somebody made.
            spec: What the message has to be: a pytree with shapes and dtypes,
                such as from `encoded_spec`. None: any, of up to 1 GiB.

        Raises:
            ValueError: If it isn't one whole compressed message, is longer
                than it may be, or isn't of the spec.
        """
        sent = np.asarray(sent, np.uint8).tobytes()
        expected = None if spec is None else _plain(spec)
        limit = _MOST_BYTES if expected is None else len(expected)
        try:
            data = self._inflate(sent, limit)
        except (ValueError, OSError, EOFError, zlib.error) as error:
            raise ValueError(
                f"A compressed message of {len(sent)} bytes can't be read: "
                f"{error}. Expected what EntropyCoding.to_wire made with "
                f"method={self.method!r}."
            ) from error
        if expected is not None:
            start = 8 + int.from_bytes(expected[4:8], "little")
            if len(data) != limit or data[:start] != expected[:start]:
                raise ValueError(
                    f"A compressed message holds {len(data)} bytes; expected "
                    f"{limit}, of the shapes and dtypes {expected[8:start]!r}. "
                    "Do client and server have the same model and encoders?"
                )
        return wire.unpack(data)

    def _inflate(self, sent: bytes, limit: int) -> bytes:
        coder = _METHODS[self.method][1]()
        data = coder.decompress(sent, limit + 1)
        if len(data) > limit:
            raise ValueError(f"it holds more than the {limit} bytes expected")
        if not coder.eof:
            raise ValueError("it is cut short")
        if coder.unused_data:
            raise ValueError("there is more after its end")
        return data


def _plain(spec: Any) -> bytes:
    """The bytes of a message of zeros."""

    def zeros(s):
        dtype = keras.backend.standardize_dtype(s.dtype)
        return np.zeros(tuple(s.shape), dtype)

    return wire.pack(keras.tree.map_structure(zeros, spec))
