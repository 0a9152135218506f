from fedlearn.encoders.eden import Eden


class Drive(Eden):
    """Sends the signs of a rotated update, and unbiased scales.

    Vargaftik et al. 2021, "DRIVE: one-bit distributed mean estimation". The
    scale of a block of an update x with the rotation R is
    ||x||**2 / ||R x||_1. It is what `Eden` does with one bit: rounding to
    plus or minus any number gives the same after scaling.

    Args:
        block_size: As in `Eden`.

    Example:

    >>> Drive().bits
    1
    """

    def __init__(self, block_size: int = 8192):
        super().__init__(bits=1, block_size=block_size)
