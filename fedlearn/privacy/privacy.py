from typing import TYPE_CHECKING, Any

from fedlearn import checks
from fedlearn.privacy.accountant import check_delta
from fedlearn.serialization import Configurable

if TYPE_CHECKING:
    from fedlearn.aggregators.aggregator import Aggregator


class Privacy(Configurable):
    """How a run accounts for its noise and draws it, and what it shows.

    Args:
        delta: Of the run's guarantees; None for `population ** -1.1` of that
            for a client, and for one over ten times the largest number of
            examples that a client has of that for an example.
        secure_noise: Whether the server's noise, and all that is random at
            clients, comes from the operating system's entropy, as a
            deployment needs; a client's is 62 bits a round. By default it
            comes from the run's seed: reproducible, for simulation, and
            whoever knows the seed can take the noise off.
        private_metrics: Whether to leave out of the logs what is exact: the
            metrics of clients' training, counts of clients, and bytes.
            Validation data of the clients that are trained on are refused
            then.

    Raises:
        ValueError: If an argument is out of range. When a process is
            made: if there is a `delta` and no noise, or secure noise that
            only clients can draw.

    Example:

    >>> Privacy(delta=1e-6, secure_noise=True)
    Privacy(delta=1e-06, secure_noise=True)
    """

    def __init__(
        self,
        delta: float | None = None,
        secure_noise: bool = False,
        private_metrics: bool = False,
    ):
        self.delta = None if delta is None else check_delta(delta)
        for name, value in (
            ("secure_noise", secure_noise),
            ("private_metrics", private_metrics),
        ):
            checks.one_of(name, value, (False, True))
        self.secure_noise = secure_noise
        self.private_metrics = private_metrics

    def check(self, aggregator: "Aggregator", client: Any) -> None:
        """Raises ValueError if it asks for what a process can't give."""
        noise = aggregator.noise is not None or client.adds_noise
        if self.delta is not None and not noise:
            raise ValueError(
                "`delta` is that of a guarantee, and without noise there is "
                "none. Take an aggregator that adds noise, such as "
                "PrivateMean, or clients that do, LocalTraining(dp=...); or "
                "leave `delta` out."
            )
        if self.secure_noise and aggregator.noise == "clients":
            raise ValueError(
                "secure_noise=True is about what the server draws, and the "
                f"noise of {aggregator!r} is drawn by clients, here from the "
                "run's seed: a simulation. Leave it out."
            )
