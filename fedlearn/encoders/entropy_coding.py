"""Messages without the bits that can be guessed."""

import zlib
from typing import Any, Literal

import numpy as np

from fedlearn import wire
from fedlearn.encoders.encoder import Encoder, Spec

_STRATEGIES = {
    "huffman": zlib.Z_HUFFMAN_ONLY,
    "deflate": zlib.Z_DEFAULT_STRATEGY,
}


class EntropyCoding(Encoder):
    """Compresses the bytes of a message, without loss, on the host.

    Quantizers give short codes and frequent codes the same number of bits;
    here frequent ones get fewer (Huffman 1952, "A method for the construction
    of minimum-redundancy codes"). It belongs at the end of a chain, behind an
    encoder that makes integers: bytes of floats hardly get shorter.

    Messages differ in length. The compiled functions of a round see them as
    they are before this link; `to_wire` makes what is sent.

    Args:
        method: `"huffman"`: codes for single bytes only, fast. `"deflate"`:
            repetitions are found as well, which takes some ten times longer
            and is worth it where most codes are the same.

    Raises:
        ValueError: If `method` is neither.

    Example:

    >>> encoder = EntropyCoding()
    >>> codes = np.array([0, 0, 0, 1] * 1000, np.uint8)
    >>> sent = encoder.to_wire({"codes": codes})
    >>> bool(sent.size < codes.size / 5)
    True
    >>> bool((encoder.from_wire(sent)["codes"] == codes).all())
    True
    """

    decodes = "either"
    bound = "keeps"
    variable_length = True

    def __init__(self, method: Literal["huffman", "deflate"] = "huffman"):
        if method not in _STRATEGIES:
            raise ValueError(
                f"`method` must be one of {tuple(_STRATEGIES)}. Received: "
                f"{method!r}."
            )
        self.method = method

    def encoded_spec(self, spec: Spec) -> Any:
        return spec

    def encode(self, value: Any, params: Any, seed: Any) -> tuple[Any, Any]:
        return value, ()

    def decode(self, value: Any, params: Any) -> Any:
        return value

    def to_wire(self, encoded: Any) -> Any:
        """A message's bytes, compressed.

        Args:
            encoded: A pytree of NumPy arrays.

        Returns:
            A uint8 array.
        """
        coder = zlib.compressobj(strategy=_STRATEGIES[self.method])
        data = coder.compress(wire.to_bytes(encoded)) + coder.flush()
        return np.frombuffer(data, np.uint8)

    def from_wire(self, sent: Any) -> Any:
        """The message that `to_wire` compressed.

        Args:
            sent: A uint8 array.

        Raises:
            ValueError: If it isn't one whole compressed message.
        """
        try:
            data = zlib.decompress(np.asarray(sent, np.uint8).tobytes())
        except zlib.error as error:
            raise ValueError(
                "A compressed message is damaged or cut short; expected what "
                "EntropyCoding.to_wire made."
            ) from error
        return wire.from_bytes(data)

    def sensitivity(self, bound: Any, params: Any) -> Any:
        return bound

    def get_config(self) -> dict[str, Any]:
        return {"method": self.method}
