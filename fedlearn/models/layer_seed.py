from fedlearn import seeds


def layer_seed(seed: int | None, layer: int | str) -> int | None:
    """The seed of one layer of a model.

    A Keras initializer with an integer seed always starts the same stream,
    so two layers given the same integer would start from the same numbers.

    Args:
        seed: The model's seed, or `None` for weights that differ each time
            (or follow `keras.utils.set_random_seed`).
        layer: Which layer: its index or name.

    Returns:
        An integer in [0, 2**31), which every backend accepts, or `None` if
        `seed` is `None`.

    Example:

    >>> layer_seed(0, 1) == layer_seed(0, 1)
    True
    >>> layer_seed(0, 1) == layer_seed(0, 2)
    False
    >>> layer_seed(None, 1) is None
    True
    """
    if seed is None:
        return None
    return seeds.fold(seed, "model", layer) >> 33
