"""The error of a file that is not what it should be."""


class FormatError(ValueError):
    """A data file is damaged, cut short, or in another format.

    The message names the file, says what is wrong with it and, where it can
    be known, in which place.

    Example:

    >>> issubclass(FormatError, ValueError)
    True
    """
