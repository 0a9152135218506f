"""How much a packed file may unpack to."""

# Nobody's memory is in danger from so little.
_ALWAYS_BYTES = 1 << 26

# Text and images pack to a tenth, tables of zeros and ones to a fiftieth;
# DEFLATE's limit, 1,032, is reached by bytes that are all alike.
_MOST_RATIO = 100


def most_unpacked(packed: int) -> int:
    """The most bytes that `packed` bytes of a file are unpacked to.

    Args:
        packed: What the file takes on the disk, so that a file can't claim
            the same bytes twice.

    Example:

    >>> most_unpacked(1_900_000)
    190000000
    """
    return max(_ALWAYS_BYTES, _MOST_RATIO * packed)
