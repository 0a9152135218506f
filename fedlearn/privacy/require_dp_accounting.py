from typing import Any


def require_dp_accounting() -> Any:
    """The module `dp_accounting`; an ImportError says how to install it."""
    try:
        import dp_accounting
        import dp_accounting.pld
        import dp_accounting.rdp
    except ImportError as error:
        raise ImportError(
            "Privacy is accounted for with dp-accounting, which is not "
            "installed. Install it with: pip install dp-accounting"
        ) from error
    return dp_accounting
