from typing import Any

import keras
from keras import ops

from fedlearn.encoders import bit_packing, flat_vector
from fedlearn.encoders.encoder import Encoder, Value


class VariableByVariable(Encoder):
    """The interface of quantizers with a scale, or a range, for each variable.

    A message has the packed `codes` of each variable, and their scales
    together in one array, under `name` and each of `shape`.
    """

    decodes = "summand"
    bound = "keeps"
    name = "scales"
    shape: tuple[int, ...] = ()
    bits = 1

    def quantize(self, vector: Any, place: int, seed: Any) -> tuple[Any, Any]:
        """Codes, uint8, and scale of the float32 vector of one variable."""
        raise NotImplementedError

    def restore(self, codes: Any, scale: Any) -> Any:
        """A vector, of its codes as float32 and its scale."""
        raise NotImplementedError

    def packed_spec(self, size: int) -> keras.KerasTensor:
        return bit_packing.spec(size, self.bits)

    def pack(self, codes: Any) -> Any:
        return bit_packing.pack(codes, self.bits)

    def unpack(self, packed: Any, size: int) -> Any:
        return bit_packing.unpack(packed, self.bits, size)

    def encoded_spec(self) -> Any:
        shape = len(self.spec), *self.shape
        sizes = [flat_vector.size([s]) for s in self.spec]
        return {
            "codes": [self.packed_spec(size) for size in sizes],
            self.name: keras.KerasTensor(shape, "float32"),
        }

    def encode(self, value: Value, params: Any, seed: Any) -> tuple[Any, Any]:
        packed, scales = [], []
        for place, v in enumerate(value):
            vector = flat_vector.flatten([v])
            codes, scale = self.quantize(vector, place, seed)
            packed.append(self.pack(codes))
            scales.append(scale)
        stacked = ops.stack(scales) if scales else ops.zeros((0, *self.shape))
        return {"codes": packed, self.name: stacked}, ()

    def decode(self, value: Any, params: Any) -> Value:
        decoded = []
        for i, like in enumerate(self.spec):
            size = flat_vector.size([like])
            codes = ops.cast(self.unpack(value["codes"][i], size), "float32")
            vector = self.restore(codes, value[self.name][i])
            decoded += flat_vector.unflatten(vector, [like])
        return decoded
