"""What a run of `fit` promises its clients, and says of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.samplers import Sampler

if TYPE_CHECKING:
    from fedlearn.process import LearningProcess

# Where a history has the statement for a client, and for one of its examples.
_PRIVACY_OF = {"client": "privacy", "example": "privacy_example"}


class RunPrivacy:
    """The guarantees of a run: for clients, for single examples, or none.

    Args:
        process: What is trained.
        data: Of all clients.
        sampler: Who takes part; None for everyone in every round.

    Raises:
        ValueError: If noise and sampling don't go together.
    """

    def __init__(
        self,
        process: "LearningProcess",
        data: FederatedDataset,
        sampler: Sampler | None,
    ):
        found = (
            _of_clients(process, data, sampler),
            _of_examples(process, data, sampler),
        )
        self.guarantees = [g for g in found if g is not None]
        self._process = process

    def give_to(self, callbacks: Sequence[Any]) -> None:
        """Tells callbacks that have a use for it, such as `PrivacyBudget`."""
        for callback in callbacks:
            if self.guarantees and hasattr(callback, "set_guarantee"):
                callback.set_guarantee(*self.guarantees)

    def epsilons(self, rounds: int) -> dict[str, float]:
        """What is spent after some rounds, by its name in the logs."""
        return {g.log_name: g.epsilon(rounds) for g in self.guarantees}

    def state_in(self, history: Any, rounds: int) -> list[Any]:
        """The statements after some rounds, which a history gets too."""
        statements = [g.statement(rounds) for g in self.guarantees]
        for guarantee, statement in zip(
            self.guarantees, statements, strict=True
        ):
            setattr(history, _PRIVACY_OF[guarantee.unit], statement)
        return statements

    def tell_limits(self, rounds_before: int) -> None:
        """Prints what a private run doesn't promise.

        Args:
            rounds_before: Of a state to start from, not known to be of a run
                like this one.
        """
        if not self.guarantees:
            return
        process = self._process
        if rounds_before:
            print(
                f"Privacy: the {rounds_before:,} rounds of the initial state "
                "are counted as if they had had this noise, these clients and "
                "this sampling. If they hadn't, epsilon is another."
            )
        dp = getattr(process.client, "dp", None)
        drawn = [process.aggregator] if process.aggregator.adds_noise else []
        drawn += [dp] if dp is not None and dp.noise_multiplier else []
        if not all(source.secure_noise for source in drawn):
            way_out = (
                "clients of a deployment draw their shares themselves."
                if process.aggregator.noise_is_shared
                else "secure_noise=True draws from the operating system."
            )
            print(
                "Privacy: the noise is drawn from the run's seed: "
                "reproducible, for simulation. Whoever knows the seed can take "
                f"it off; {way_out}"
            )
        if not process.aggregator.private_metrics:
            print(
                "Privacy: clients' metrics (loss, num_examples, ...) are "
                "exact, outside the guarantee. private_metrics=True leaves "
                "them out."
            )


def _of_clients(
    process: "LearningProcess", data: FederatedDataset, sampler: Sampler | None
) -> Any:
    """The privacy of the run by its noise and sampling; None without noise."""
    aggregator = process.aggregator
    if not aggregator.adds_noise:
        return None
    from fedlearn.privacy import Everyone, Guarantee

    expected = len(data) if sampler is None else sampler.clients_per_round
    divided_by = getattr(aggregator, "denominator", None)
    if divided_by is not None and divided_by != expected:
        raise ValueError(
            f"The aggregator divides by {divided_by:g} clients per round, but "
            f"{expected:g} take part. Give both the same number; else updates "
            "count too much or too little."
        )
    return Guarantee(
        aggregator.dp_event(process.update_spec),
        Everyone(len(data)) if sampler is None else sampler,
        delta=aggregator.delta,
    )


def _of_examples(
    process: "LearningProcess", data: FederatedDataset, sampler: Sampler | None
) -> Any:
    """The privacy of clients' single examples; None without their noise."""
    dp = getattr(process.client, "dp", None)
    if dp is None or not dp.noise_multiplier:
        return None
    from fedlearn.privacy import ExampleGuarantee

    ids = data.client_ids if sampler is None else sampler.client_ids
    sizes = {i: data.num_examples(i) for i in ids}
    if not any(sizes.values()):
        return None  # nobody can tell anything
    return ExampleGuarantee(process.client, sizes, sampler)
