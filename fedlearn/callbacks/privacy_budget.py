import bisect
from collections.abc import Mapping
from typing import Any, Literal

import keras

from fedlearn import checks
from fedlearn.privacy.accountant import check_delta
from fedlearn.privacy.example_guarantee import (
    ExampleGuarantee,
    ExampleStatement,
)
from fedlearn.privacy.guarantee import Guarantee, Statement


class PrivacyBudget(keras.callbacks.Callback):
    """Stops before the round that would pass a privacy budget.

    Logs `epsilon` after each round by RDP, an upper bound, so that the stop
    keeps to the budget. At the end the tightest epsilon that there is for the
    rounds done is printed and kept as `statement`.

    `fit` gives it the guarantee of the aggregator and the sampler, and that
    of clients with `LocalTraining(dp=...)`, whose epsilon is for one example
    and logged as `epsilon_example`. In a loop of your own, call
    `set_guarantee`.

    Args:
        epsilon: The most that may be spent, above 0.
        delta: Its delta; `None` for that of the guarantee.
        verbose: 0 to print nothing at the end.
        unit: Whose epsilon: that of a `"client"` with all of its data, or of
            one `"example"`; None where the run has only one of them.

    Attributes:
        statement: A `fedlearn.privacy.Statement`, or an `ExampleStatement`,
            when training has ended.

    Raises:
        ValueError: If an argument is out of range; when training begins: if
            nothing guarantees privacy, or not even one round is in the
            budget.

    Example:

    >>> from fedlearn import privacy
    >>> guarantee = privacy.Guarantee(
    ...     privacy.Gaussian(2.0),
    ...     privacy.Participation("poisson", 1_000, clients_per_round=20),
    ...     delta=1e-4,
    ... )
    >>> budget = PrivacyBudget(epsilon=1.0)
    >>> budget.set_guarantee(guarantee)
    >>> budget.rounds_within()
    663
    """

    def __init__(
        self,
        epsilon: float,
        delta: float | None = None,
        verbose: int = 1,
        unit: Literal["client", "example"] | None = None,
    ):
        super().__init__()
        self.unit = checks.one_of("unit", unit, ("client", "example", None))
        self.epsilon = checks.positive("epsilon", epsilon)
        self.delta = None if delta is None else check_delta(delta)
        self.verbose = verbose
        self.statement: Statement | ExampleStatement | None = None
        self._guarantees: tuple[Guarantee | ExampleGuarantee, ...] = ()

    def set_guarantee(self, *guarantees: Guarantee | ExampleGuarantee) -> None:
        """Says what a run's epsilon is; called by `fit` before it begins."""
        self._guarantees = guarantees

    def rounds_within(self) -> int:
        """How many rounds the budget lasts."""
        most = 1
        while self._within(most):
            most *= 2
        spent = bisect.bisect_right(range(most), self.epsilon, key=self._spent)
        return spent - 1

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._rounds = self.params.get("initial_epoch", 0)
        self.statement = None
        if not self._within(1):
            raise ValueError(
                f"One round costs an epsilon of {self._spent(1):.4g} at delta "
                f"{self.delta or self._given.delta:.3g}, more than the budget "
                f"of {self.epsilon:g}. Add more noise, as fedlearn.privacy."
                "calibrate_noise_multiplier says, or raise the budget."
            )
        self._stop_if_spent()

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self._rounds = epoch + 1
        if logs is not None:
            logs[self._given.log_name] = self._spent(self._rounds)
        self._stop_if_spent()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self.statement = self._given.statement(self._rounds, delta=self.delta)
        if self.verbose:
            print(f"Privacy: {self.statement}.")

    def _stop_if_spent(self) -> None:
        if not self._within(self._rounds + 1):
            self.model.stop_training = True

    def _within(self, rounds: int) -> bool:
        return self._spent(rounds) <= self.epsilon

    def _spent(self, rounds: int) -> float:
        return self._given.epsilon(rounds, delta=self.delta)

    @property
    def _given(self) -> Guarantee | ExampleGuarantee:
        wanted = [g for g in self._guarantees if self.unit in (g.unit, None)]
        if not wanted:
            whom = f" to one {self.unit}" if self.unit else ""
            others = "".join(
                f", only to one {g.unit}" for g in self._guarantees
            )
            raise ValueError(
                "PrivacyBudget: nothing guarantees privacy in this run"
                f"{whom}{others}. Expected an aggregator that adds noise, or "
                "clients with `LocalTraining(dp=...)`, whose guarantee `fit` "
                "passes on; in a loop of your own, call `set_guarantee`."
            )
        if len(wanted) > 1:
            raise ValueError(
                "PrivacyBudget: this run has an epsilon for a client and "
                "another for one example. Say which the budget is for: "
                "unit='client' or unit='example'."
            )
        return wanted[0]
