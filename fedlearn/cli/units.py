"""Numbers as people read them."""

import math


def in_bytes(number: float) -> str:
    """A number of bytes, with a decimal unit.

    >>> in_bytes(512), in_bytes(55_316), in_bytes(2.77e9)
    ('512 B', '55.3 kB', '2.77 GB')
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 999.5 or unit == "TB":
            break
        number /= 1000
    digits = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{0 if unit == 'B' else digits}f} {unit}"


def duration(seconds: float) -> str:
    """A time, in its two largest units.

    >>> duration(0.25), duration(8.34), duration(79.7), duration(7380)
    ('0.25 s', '8.3 s', '1 min 20 s', '2 h 3 min')
    """
    if seconds < 59.5:
        digits = 2 if seconds < 1 else 1 if seconds < 9.95 else 0
        return f"{seconds:.{digits}f} s"
    if seconds < 3570:
        return "{} min {} s".format(*divmod(round(seconds), 60))
    return "{} h {} min".format(*divmod(round(seconds / 60), 60))


def metric(value: float) -> str:
    """A loss or an accuracy, in at most 7 characters where it can be.

    >>> metric(0.97512), metric(123.456), metric(0.0000123)
    ('0.9751', '123.5', '1.2e-05')
    """
    if not math.isfinite(value):
        return str(value)
    if value and (abs(value) < 5e-4 or abs(value) >= 1e5):
        return f"{value:.1e}"
    return f"{value:.{1 if abs(value) >= 100 else 4}f}"


def counted(number: int, noun: str) -> str:
    """A count and its noun.

    >>> counted(1, "client"), counted(3400, "client")
    ('1 client', '3,400 clients')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
