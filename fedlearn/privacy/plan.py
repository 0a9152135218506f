from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from fedlearn.privacy.accountant import AccountantName
from fedlearn.privacy.epsilon import calibrate_noise_multiplier
from fedlearn.privacy.guarantee import Guarantee, Statement
from fedlearn.privacy.mechanism import Gaussian
from fedlearn.privacy.participation import Participation, SamplerName
from fedlearn.privacy.privacy import Privacy

if TYPE_CHECKING:
    import keras

    from fedlearn.aggregators import PrivateMean
    from fedlearn.samplers import Sampler


class Plan(NamedTuple):
    """What a private run will take, and what makes that very run.

    The fields are the arguments of `plan`, as they were chosen, and these.

    Attributes:
        epsilon_rdp: Epsilon of all rounds by Rényi divergences: what `fit`
            logs in the last one.
        best: The statement by the tightest accountant that can be had: PLD,
            or RDP where noise or sampling rule that out. It names it.
        sampler_name: `sampler`.
        bytes_up: What a client sends in a round; None if no model was given,
            or if messages differ in length.
        bytes_down: What a client gets in a round; None if no model was given.
    """

    noise_multiplier: float
    epsilon_rdp: float
    best: Statement
    rounds: int
    delta: float
    population: int
    clients_per_round: float
    sampler_name: SamplerName
    clip_norm: float | Literal["adaptive"]
    bytes_up: float | None
    bytes_down: float | None
    encoders: Any
    min_separation: int | None

    @property
    def epsilon(self) -> float:
        """The lowest epsilon that is known to hold for all rounds."""
        return self.best.epsilon

    def aggregator(self, **arguments: Any) -> "PrivateMean":
        """The aggregator, with more arguments of `PrivateMean` if given."""
        from fedlearn.aggregators import PrivateMean

        return PrivateMean(
            self.clip_norm,
            noise_multiplier=self.noise_multiplier,
            clients_per_round=self.clients_per_round,
            encoders=self.encoders,
            **arguments,
        )

    def privacy(self, **arguments: Any) -> Privacy:
        """The run's `Privacy`, with the plan's delta and further arguments."""
        return Privacy(self.delta, **arguments)

    def sampler(self, clients: Any, seed: int = 0) -> "Sampler | None":
        """Who takes part; None for everyone in every round.

        Args:
            clients: A `FederatedDataset`, or the ids of the clients.
            seed: An integer.

        Raises:
            ValueError: If there are other than `population` clients.
        """
        from fedlearn import samplers

        if len(clients) != self.population:
            raise ValueError(
                f"The plan is for {self.population:,} clients, and there are "
                f"{len(clients):,}. Epsilon would be another: plan again."
            )
        if self.sampler_name == "full":
            return None
        kind = {
            "poisson": samplers.Poisson,
            "uniform": samplers.Uniform,
            "round_robin": samplers.RoundRobin,
            "min_separation": samplers.MinSeparation,
        }[self.sampler_name]
        more = {}
        if self.min_separation is not None:
            more["min_separation"] = self.min_separation
        return kind(clients, self.clients_per_round, seed=seed, **more)

    def __str__(self) -> str:
        part = "on average " if self.sampler_name == "poisson" else ""
        rows = [
            ("rounds", f"{self.rounds:,}"),
            ("population", f"{self.population:,} clients"),
            (
                "clients per round",
                f"{part}{self.clients_per_round:,g} ({self.sampler_name})",
            ),
            ("clip norm", f"{self.clip_norm}"),
            ("noise multiplier", f"{self.noise_multiplier:.4g}"),
            ("delta", f"{self.delta:.3g}"),
            ("epsilon by RDP", f"{self.epsilon_rdp:.4g}"),
            (
                "epsilon by PLD",
                f"{self.best.epsilon:.4g}"
                if self.best.accountant == "pld"
                else "not to be had: RDP's bound holds",
            ),
            *self._traffic(),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:{width}}  {value}" for name, value in rows)

    def _traffic(self) -> list[tuple[str, str]]:
        from fedlearn.advice.units import in_bytes

        if self.bytes_down is None:
            return []
        part = self.clients_per_round * self.rounds
        rows = []
        for name, each in (("up", self.bytes_up), ("down", self.bytes_down)):
            told = (
                "as its update takes: messages differ in length"
                if each is None
                else f"{in_bytes(each)}, {in_bytes(part * each)} in all"
            )
            rows.append((f"bytes {name}, a client and round", told))
        return rows


def plan(
    *,
    epsilon: float | None = None,
    noise_multiplier: float | None = None,
    rounds: int,
    population: int,
    clients_per_round: float | None = None,
    delta: float | None = None,
    sampler: SamplerName = "poisson",
    accountant: AccountantName | None = None,
    clip_norm: float | Literal["adaptive"] = "adaptive",
    min_separation: int | None = None,
    encoders: Sequence[Any] | str = (),
    model: "keras.Model | None" = None,
) -> Plan:
    """What a run with central differential privacy will take.

    Noise for an epsilon or epsilon for a noise, before anything is trained;
    from the result come the aggregator, the run's `privacy` and the sampler,
    so that the run is the one that was planned.

    Args:
        epsilon: The budget for all rounds, for which to find the least
            noise; or give `noise_multiplier`.
        noise_multiplier: The noise's standard deviation over the clip norm.
        rounds: Number of rounds.
        population: Number of clients.
        clients_per_round: How many take part, on average with "poisson"; None
            for all of them.
        delta: Above 0, and well below `1 / population`; None for
            `population ** -1.1`.
        sampler: As for `compute_epsilon`.
        accountant: By which `epsilon` is kept: `"rdp"`, which `fit` logs;
            `"pld"`; None for the tightest that can be had.
        clip_norm: As for `fedlearn.aggregators.PrivateMean`.
        min_separation: With that sampler, the least distance of two rounds of
            one client.
        encoders: As for `PrivateMean`: compression.
        model: A compiled model, to measure the bytes of a round's messages
            without metrics.

    Raises:
        ValueError: If not exactly one of `epsilon` and `noise_multiplier` is
            given, or an argument is out of range.

    Example:

    >>> planned = plan(
    ...     epsilon=8.0, rounds=50, population=1000, clients_per_round=100,
    ...     accountant="rdp", clip_norm=0.5)
    >>> print("\\n".join(str(planned).split("\\n")[:7]))
    rounds             50
    population         1,000 clients
    clients per round  on average 100 (poisson)
    clip norm          0.5
    noise multiplier   0.7458
    delta              0.000501
    epsilon by RDP     8
    >>> aggregator = planned.aggregator()
    >>> sampler = planned.sampler([f"{i:03d}" for i in range(1000)])
    >>> aggregator.clients_per_round == sampler.clients_per_round
    True
    """
    if (epsilon is None) == (noise_multiplier is None):
        raise ValueError(
            "Give either `epsilon`, a budget, or `noise_multiplier`. Received: "
            f"epsilon={epsilon!r}, noise_multiplier={noise_multiplier!r}."
        )
    if clients_per_round is None:
        clients_per_round, sampler = population, "full"
    if delta is None:
        delta = population**-1.1
    if noise_multiplier is None:
        assert epsilon is not None
        noise_multiplier = calibrate_noise_multiplier(
            epsilon=epsilon,
            rounds=rounds,
            delta=delta,
            population=population,
            clients_per_round=clients_per_round,
            sampler=sampler,
            accountant=accountant,
            min_separation=min_separation,
        )
    part = Participation(sampler, population, clients_per_round, min_separation)
    guarantee = Guarantee(Gaussian(noise_multiplier), part, delta)
    planned = Plan(
        noise_multiplier=noise_multiplier,
        epsilon_rdp=guarantee.epsilon(rounds, "rdp"),
        best=guarantee.statement(rounds),
        rounds=rounds,
        delta=delta,
        population=population,
        clients_per_round=clients_per_round,
        sampler_name=sampler,
        clip_norm=clip_norm,
        bytes_up=None,
        bytes_down=None,
        encoders=encoders,
        min_separation=min_separation,
    )
    if model is None:
        return planned
    from fedlearn.process import LearningProcess
    from fedlearn.runs.process_summary import client_bytes

    process = LearningProcess(model, aggregator=planned.aggregator())
    up, down = client_bytes(process)
    return planned._replace(bytes_up=up, bytes_down=down)
