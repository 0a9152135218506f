"""DP-SGD at clients: what a run may promise for one example."""

import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from fedlearn import checks
from fedlearn.privacy.accountant import (
    Accountant,
    AccountantName,
    check_delta,
)
from fedlearn.privacy.composition import Composition
from fedlearn.privacy.require_dp_accounting import require_dp_accounting

if TYPE_CHECKING:
    from fedlearn.clients.local_training import LocalTraining
    from fedlearn.samplers.sampler import Sampler


class ExampleStatement(NamedTuple):
    """An epsilon for one example and all that it takes to mean something.

    Attributes:
        epsilon: That of the client for whom it is largest.
        delta: The delta that belongs to it.
        rounds: Number of rounds of the run.
        client: The id of that client.
        num_examples: How many examples it has.
        steps: How many steps it took in all rounds.
        num_clients: How many clients have examples.
        batches: How its batches were drawn.
        noise_multiplier: The noise over the clip norm.
        accountant: `"pld"` or `"rdp"`.
    """

    epsilon: float
    delta: float
    rounds: int
    client: str
    num_examples: int
    steps: int
    num_clients: int
    batches: str
    noise_multiplier: float
    accountant: str

    def __str__(self) -> str:
        return (
            f"epsilon {self.epsilon:.4g} at delta {self.delta:.3g} after "
            f"{self.rounds:,} rounds, for one example of a client (zero-out: "
            "its gradient is there or not; numbers of examples aren't "
            f"hidden), against whoever sees updates; of {self.num_clients:,} "
            f"clients it is largest for {self.client!r} with "
            f"{self.num_examples:,} examples and {self.steps:,} steps; "
            f"{self.batches}; Gaussian noise, multiplier "
            f"{self.noise_multiplier:.4g}; accountant {self.accountant.upper()}"
        )


class ExampleGuarantee:
    """The privacy of one example as a function of the number of rounds.

    Every client has an epsilon of its own: it depends on its number of
    examples and on the rounds that it took part in, and on no other client.
    That of the run is the largest. Where clients are sampled nothing is
    amplified: the server knows who takes part.

    Args:
        training: A `LocalTraining` with `dp`.
        num_examples: Each client's number of examples, by its id.
        sampler: Who takes part; None for everyone in every round.
        delta: Above 0 and below 1, the same for all clients; None for one
            over ten times the largest number of examples that a client has.

    Raises:
        ValueError: If there is no noise or no example, or `delta` is out of
            range.

    Example:

    >>> import fedlearn as fl
    >>> dp = fl.clients.ExampleDP(clip_norm=1.0, noise_multiplier=1.0)
    >>> guarantee = ExampleGuarantee(
    ...     fl.LocalTraining("sgd", batch_size=6, dp=dp),
    ...     num_examples={"north": 300, "south": 1200},
    ... )
    >>> guarantee.delta
    8.333333333333333e-05
    >>> {name: round(e, 2) for name, e in guarantee.by_client(10).items()}
    {'north': 2.7, 'south': 1.21}
    """

    unit: ClassVar = "example"
    log_name: ClassVar = "epsilon_example"

    def __init__(
        self,
        training: "LocalTraining",
        num_examples: Mapping[str, int],
        sampler: "Sampler | None" = None,
        delta: float | None = None,
    ) -> None:
        if not training.adds_noise:
            raise ValueError(
                f"The clients add no noise (dp is {training.dp!r}), so "
                "nothing is guaranteed. Give LocalTraining an ExampleDP with "
                "a noise_multiplier above 0."
            )
        self.training = training
        self.num_examples = {i: n for i, n in num_examples.items() if n}
        if not self.num_examples:
            raise ValueError(
                "No client has an example, so there is nothing to guarantee."
            )
        if delta is None:
            delta = 1 / (10 * max(self.num_examples.values()))
        self.delta = check_delta(delta)
        self._participations = _Participations(sampler)
        self._accountant = Accountant()

    def epsilon(
        self,
        rounds: int,
        accountant: AccountantName | None = "rdp",
        delta: float | None = None,
    ) -> float:
        """The largest epsilon of a client after some rounds.

        Args:
            rounds: Number of rounds.
            accountant: `"rdp"`, milliseconds; `"pld"`, tighter, seconds;
                `None` for the tightest that there is.
            delta: Another than that of the guarantee.
        """
        return self.statement(rounds, accountant, delta).epsilon

    def by_client(
        self,
        rounds: int,
        accountant: AccountantName | None = "rdp",
        delta: float | None = None,
    ) -> dict[str, float]:
        """Epsilon for one example of each client that has any, by its id."""
        delta = self.delta if delta is None else check_delta(delta)
        times = self._participations.until(rounds)
        spent = functools.cache(self._spent)
        return {
            client: spent(n, times(client), accountant, delta)[0]
            for client, n in self.num_examples.items()
        }

    def statement(
        self,
        rounds: int,
        accountant: AccountantName | None = None,
        delta: float | None = None,
    ) -> ExampleStatement:
        """Epsilon after some rounds, with all that it takes to mean something.

        Args as for `epsilon`; without an `accountant` the tightest is taken:
        PLD, or RDP with so little noise that PLD would take too long.
        """
        delta = self.delta if delta is None else check_delta(delta)
        spent, client, name, times = self._largest(rounds, accountant, delta)
        training, n = self.training, self.num_examples[client]
        dp = training.dp
        assert dp is not None
        return ExampleStatement(
            epsilon=spent,
            delta=delta,
            rounds=int(rounds),
            client=client,
            num_examples=n,
            steps=training.num_steps(n) * times,
            num_clients=len(self.num_examples),
            batches=(
                f"Poisson batches of {min(training.batch_size, n):,} in {n:,} "
                "on average"
                if dp.batches == "poisson"
                else "shuffled batches, without amplification"
            ),
            noise_multiplier=dp.noise_multiplier,
            accountant=name,
        )

    def _largest(
        self, rounds: int, accountant: AccountantName | None, delta: float
    ) -> tuple[float, str, AccountantName, int]:
        """The largest epsilon, whose, by whom, and how often it took part."""
        times = self._participations.until(rounds)
        # As many steps of a smaller client tell more: one of each number.
        least: dict[Any, tuple[int, int, str]] = {}
        for client, n in self.num_examples.items():
            case = n, times(client), client
            key = self.training.num_steps(n), times(client)
            least[key] = min(case, least.get(key, case))
        bounds = [
            (self._spent(n, t, "rdp", delta)[0], client, t, n)
            for n, t, client in least.values()
        ]
        found: Any = (-1.0,)
        # RDP bounds from above what PLD says, in a hundredth of the time: who
        # is below what another has already needn't be asked.
        for bound, client, t, n in sorted(bounds, reverse=True):
            if bound <= found[0]:
                break
            spent, name = self._spent(n, t, accountant, delta)
            found = max(found, (spent, client, name, t))
        return found

    def _spent(
        self,
        num_examples: int,
        participations: int,
        accountant: AccountantName | None,
        delta: float,
    ) -> tuple[float, AccountantName]:
        """What one client's rounds tell of an example, and who says so."""
        dp, training = self.training.dp, self.training
        assert dp is not None
        accounting = require_dp_accounting()
        event: Any = accounting.GaussianDpEvent(dp.noise_multiplier)
        times = training.num_steps(num_examples)
        probability = training.batch_size / num_examples
        if dp.batches == "shuffled":
            # An example is in each pass once, in a batch among others or not;
            # the last pass may be cut short.
            one_pass = math.ceil(num_examples / training.batch_size)
            times = -(-times // one_pass)
        elif probability < 1:
            event = accounting.PoissonSampledDpEvent(probability, event)
        run = Composition(event, times * participations, "zero-out")
        return self._accountant.epsilon(run, delta, accountant)


class _Participations:
    """How often each client took part in the first rounds.

    Counted on from the last count: one round costs one draw of the sampler.
    """

    def __init__(self, sampler: "Sampler | None") -> None:
        self._sampler = sampler
        self._counts: Counter[str] = Counter()
        self._rounds = 0

    def until(self, rounds: int) -> Callable[[str], int]:
        """From a client's id to the number of its rounds."""
        sampler, rounds = self._sampler, checks.whole("rounds", rounds, least=0)
        if sampler is None:
            return lambda client: rounds
        for later in range(self._rounds, rounds):
            self._counts.update(sampler.sample(later))
        for later in range(rounds, self._rounds):
            self._counts.subtract(sampler.sample(later))
        self._rounds = rounds
        return self._counts.__getitem__
