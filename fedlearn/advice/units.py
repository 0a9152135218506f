"""Numbers as people read them."""


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


def counted(number: int, noun: str) -> str:
    """A count and its noun.

    >>> counted(1, "client"), counted(3400, "client")
    ('1 client', '3,400 clients')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
