from fedlearn import checks
from fedlearn.conditions.durations import factor, own_normal
from fedlearn.serialization import Configurable


class Network(Configurable):
    """How fast clients' connections are.

    A client's own speeds are the medians times `exp(sigma * normal)`, the same
    in all its rounds.

    Args:
        download: The median, in megabits a second.
        upload: The median, in megabits a second.
        sigma: How far clients are from each other.
        seed: Of whose connection is slow.

    Example: a model of 4 MB there and back.

    >>> Network(download=16, upload=4, sigma=0).seconds("anna", 4e6, 4e6)
    10.0
    """

    def __init__(
        self,
        download: float = 20.0,
        upload: float = 5.0,
        sigma: float = 1.0,
        seed: int = 0,
    ):
        self.download = checks.positive("download", download)
        self.upload = checks.positive("upload", upload)
        self.sigma = checks.number("sigma", sigma)
        self.seed = checks.whole("seed", seed, least=0)

    def seconds(
        self, client_id: str, bytes_down: float, bytes_up: float
    ) -> float:
        """How long a client takes to download and to upload so many bytes."""
        own = own_normal(self.seed, "network", client_id)
        megabits = bytes_down / self.download + bytes_up / self.upload
        return 8e-6 * megabits * factor(-self.sigma * own)
