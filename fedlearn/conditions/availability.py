import abc
from collections.abc import Sequence

from fedlearn.serialization import Configurable

DAY = 86_400.0  # seconds


class Availability(Configurable, abc.ABC):
    """When clients ask the server for work: idle, charging, on Wi-Fi.

    Example: everyone at noon.

    >>> class AtNoon(Availability):
    ...     def check_ins(self, client_id, day):
    ...         return [12 * 3600.0]
    >>> AtNoon().check_ins("anna", day=3)
    [43200.0]
    """

    @abc.abstractmethod
    def check_ins(self, client_id: str, day: int) -> Sequence[float]:
        """When it asks on one day; the same each time it is called.

        Args:
            client_id: Who.
            day: From 0, on which the simulated run begins at midnight.

        Returns:
            Seconds since the day's midnight, at least 0 and below 86,400.
        """
