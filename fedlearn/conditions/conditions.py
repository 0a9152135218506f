import math
from collections.abc import Mapping
from typing import Any

from fedlearn import checks, seeds
from fedlearn.conditions.availability import Availability
from fedlearn.conditions.durations import Durations
from fedlearn.conditions.network import Network
from fedlearn.data.client_id import as_client_ids
from fedlearn.serialization import Configurable


class Conditions(Configurable):
    """What clients are like, and what the server does about it.

    For `fit(..., conditions=...)`, on a clock that is simulated. A round
    begins when the first client asks for work. Of those that ask, the first
    `over_select * clients_per_round` get it; it ends when `clients_per_round`
    have reported, or at the `deadline`. Reports after that are late, and
    aren't counted. With fewer than `at_least` in time it is abandoned, and
    tried again with others: nothing of it is used.

    FedBuff has no such rounds: see there what they are for it.

    Only clients that count are trained. What is random is drawn from the
    run's seed, the round and the client's id.

    Args:
        availability: When clients ask for work; None for always. Whoever asks
            is taken if the sampler allows it.
        durations: How long training takes at a client, in seconds: one number
            for all, a dict from their ids, or a `Durations`, such as
            `LogNormal(60.0, num_examples=100)`: a minute for 100 examples.
        network: How fast clients send and receive what is really sent; None
            for at once. (Where the length of messages varies, an upload is
            taken to be as long as those of the round before.)
        drop_out: Share of those that got work and never report. They are gone
            at any moment of their work: some before they train, others after.
        over_select: How many clients get work for each that is waited for,
            from 1 to 10.
        deadline: Of a round, in seconds after it began; None for none: the
            server then waits until all are through or `clients_per_round`
            have reported.
        at_least: How many must report, as a share of `clients_per_round`; at
            least one client.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> from fedlearn.conditions import Diurnal, LogNormal
    >>> Conditions(Diurnal(), LogNormal(median=60.0), over_select=1.3)
    Conditions(availability=Diurnal(), durations=LogNormal(median=60.0), \
over_select=1.3)
    """

    def __init__(
        self,
        availability: Availability | None = None,
        durations: float | Mapping[str, float] | Durations = 0.0,
        network: Network | None = None,
        drop_out: float = 0.0,
        over_select: float = 1.0,
        deadline: float | None = None,
        at_least: float = 0.0,
    ):
        self.availability = checks.instance(
            "availability", availability, Availability, none=True
        )
        if isinstance(durations, Mapping):
            ids = as_client_ids(durations)
            durations = {
                i: checks.number(f"durations[{i!r}]", seconds)
                for i, seconds in zip(ids, durations.values(), strict=True)
            }
        elif not isinstance(durations, Durations):
            durations = checks.number("durations", durations)
        self.durations = durations
        self.network = checks.instance("network", network, Network, none=True)
        self.drop_out = checks.number("drop_out", drop_out, most=1)
        self.over_select = checks.number(
            "over_select",
            over_select,
            least=1,
            most=10,
            meaning="1.3 asks 130 clients where 100 are needed",
        )
        if deadline is not None:
            deadline = checks.positive("deadline", deadline)
        self.deadline = deadline
        self.at_least = checks.number("at_least", at_least, most=1)

    def seconds(
        self,
        client_id: str,
        seed: int,
        num_examples: int | None,
        bytes_down: float,
        bytes_up: float,
    ) -> float:
        """How long a client takes from the download to the upload.

        Args:
            client_id: Who.
            seed: Of this time that it takes part.
            num_examples: That it trains on, as of `Durations`.
            bytes_down: What it downloads.
            bytes_up: What it uploads.
        """
        training: Any = self.durations
        if isinstance(training, Mapping):
            training = training.get(client_id)
        elif isinstance(training, Durations):
            training = training.seconds(client_id, seed, num_examples)
        sending = 0.0
        if self.network is not None:
            sending = self.network.seconds(client_id, bytes_down, bytes_up)
        name = f"seconds of {client_id!r}"
        return checks.number(name, training) + checks.number(name, sending)

    def leaves_after(self, seconds: float, seed: int) -> float:
        """After how long a client that needs `seconds` is gone, or infinity.

        Args:
            seconds: From `seconds`.
            seed: Of this time that it takes part.
        """
        drops, moment = seeds.uniform(2, seed, "drop_out")
        return moment * seconds if drops < self.drop_out else math.inf
