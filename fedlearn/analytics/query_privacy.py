import dataclasses

from fedlearn import checks
from fedlearn.privacy.accountant import check_delta


@dataclasses.dataclass(frozen=True)
class QueryPrivacy:
    """What a query may tell about a client, and to whom.

    With `epsilon` the server adds Gaussian noise to the sum over clients. The
    guarantee is for a client with all of its data, which are there or not; of
    what a client sends, the norm is bounded by arguments alone, whatever its
    data are. How many clients are asked is taken to be known. An error about
    a client's data, such as a NaN, isn't hidden: clean them beforehand.

    Args:
        epsilon: Of the whole query; None for no noise and no guarantee.
        delta: Of the guarantee: well below one over the number of clients.
        max_per_client: How many of a client's examples count, drawn at random
            where it has more (of `heavy_hitters` and its kin: how many
            different words, its most frequent ones); None for all. Noise is
            scaled to it, so it must be given with `epsilon`.
        secure_sum: Whether clients send integers that are added modulo a
            power of two, as a secure sum needs (`encoders.FixedPoint`): the
            server learns the sum alone. Counts stay exact.
        seed: Of all that is random, for simulation: whoever knows it can take
            the noise off, and two queries with one seed have the same noise,
            unless a ledger adds them up. None draws from the operating system.

    Raises:
        ValueError: If an argument is out of range, or `epsilon` and `delta`
            don't come together.

    Example:

    >>> QueryPrivacy(epsilon=1.0, delta=1e-6, max_per_client=10).secure_sum
    False
    """

    epsilon: float | None = None
    delta: float | None = None
    max_per_client: int | None = None
    secure_sum: bool = False
    seed: int | None = None

    def __post_init__(self) -> None:
        if (self.epsilon is None) != (self.delta is None):
            raise ValueError(
                "A guarantee has an `epsilon` and a `delta`. Received: "
                f"epsilon={self.epsilon!r}, delta={self.delta!r}. Give both, "
                "such as QueryPrivacy(epsilon=1.0, delta=1e-6), or neither."
            )
        if self.epsilon is not None:
            checks.positive("epsilon", self.epsilon)
        if self.delta is not None:
            check_delta(self.delta)
        checks.one_of("secure_sum", self.secure_sum, (True, False))
        if self.max_per_client is not None:
            most = checks.whole("max_per_client", self.max_per_client)
            object.__setattr__(self, "max_per_client", most)
