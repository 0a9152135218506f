import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, TypeVar

import keras
import numpy as np
from keras import ops

from fedlearn import backend, checks, seeds
from fedlearn.aggregators.mean import Mean
from fedlearn.analytics.column import Column, Which
from fedlearn.analytics.query_privacy import QueryPrivacy
from fedlearn.analytics.result import Result
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.encoders.clip import Clip
from fedlearn.encoders.encoder import Encoder
from fedlearn.encoders.fixed_point import FixedPoint
from fedlearn.encoders.gaussian_noise import GaussianNoise
from fedlearn.messages import wire
from fedlearn.privacy.epsilon import calibrate_noise_multiplier
from fedlearn.privacy.ledger import Entry, Ledger
from fedlearn.privacy.mechanism import as_mechanism
from fedlearn.privacy.participation import Participation

_R = TypeVar("_R", bound=Result)

# Of a client's integers in a secure sum: with more, float32 rounds whole
# numbers to others.
_MOST_BITS = 20
# That are added at once, 32 MiB.
_MOST_NUMBERS = 2**22


@dataclasses.dataclass(frozen=True)
class Sum:
    """A sum of clients' vectors, as it is released.

    Attributes:
        value: float64, of the vectors' shape.
        error: The standard deviation of each number: noise and rounding.
    """

    value: np.ndarray
    error: float


class Query:
    """A question to all clients, answered by sums of fixed-length vectors.

    What a vector is made of is the question's; how vectors are bounded, added,
    hidden and accounted for is here, by an aggregator as those of training.

    Args:
        name: Of the question.
        data: A `FederatedDataset`, or what `FederatedDataset.from_clients`
            takes, or a list of clients.
        column: Which of a client's arrays; see `Column`.
        kind: What it holds.
        privacy: A `QueryPrivacy`; None for plain sums.
        budget: A `fedlearn.privacy.Ledger` that is looked at before clients
            are asked, and charged before anything is released.
        num_sums: How many sums are released.
    """

    def __init__(
        self,
        name: str,
        data: Any,
        column: Which,
        kind: Literal["numbers", "texts", "any"],
        privacy: QueryPrivacy | None,
        budget: Ledger | None,
        num_sums: int = 1,
    ):
        checks.instance("privacy", privacy, QueryPrivacy, none=True)
        checks.instance("budget", budget, Ledger, none=True)
        self.name = name
        self.data = as_dataset(data)
        if not len(self.data):
            raise ValueError(f"{name}: `data` has no clients to ask.")
        self.column = Column(self.data, column, kind)
        self.privacy = privacy or QueryPrivacy()
        self._budget = budget
        self._num_sums = num_sums
        self._bytes_up = 0
        self._due: Entry | None = None
        seed = self.privacy.seed
        # What a ledger adds up has noise that is independent.
        number = len(budget.entries) if budget is not None else 0
        self.rng = (
            np.random.default_rng()
            if seed is None
            else seeds.generator(seed, "analytics", name, number)
        )
        if budget is not None and self.privacy.epsilon is None:
            raise ValueError(
                f"{name} without noise gives no guarantee, and would pass any "
                "budget. Give `privacy` with an epsilon, or no `budget`."
            )

    @property
    def is_noisy(self) -> bool:
        """Whether what is released has a guarantee."""
        return self.privacy.epsilon is not None

    @property
    def max_per_client(self) -> int:
        """How many values of a client count; an error where that is open."""
        if self.privacy.max_per_client is None:
            raise ValueError(
                f"{self.name} needs a bound on what a client adds: give "
                "`max_per_client` to QueryPrivacy, the number of its examples "
                "that count."
            )
        return self.privacy.max_per_client

    def check(self, released: Any) -> None:
        """Has the budget look at what is to be released."""
        if self._budget is not None:
            self._due = self._budget.check(released, self.name)

    def charge(self) -> None:
        """Charges it, once, right before anything of it is released."""
        if self._budget is not None and self._due is not None:
            self._budget.charge(self._due, self.name)
            self._due = None

    def all_values(self) -> Iterator[np.ndarray]:
        """Each client's values."""
        return map(self.column.read, self.data.client_ids)

    def values(self) -> Iterator[np.ndarray]:
        """Each client's values: at most so many as count."""
        most = self.privacy.max_per_client
        for values in self.all_values():
            if most is not None and len(values) > most:
                rows = self.rng.choice(len(values), most, replace=False)
                values = values[np.sort(rows)]
            yield values

    def summing(
        self,
        size: int,
        norm: float = math.inf,
        whole: bool = False,
        plain: bool = False,
    ) -> Callable[[Iterable[np.ndarray]], Sum]:
        """Adds up vectors of `size` numbers, one of each client.

        Args:
            size: Of a vector.
            norm: The largest L2 norm that one can have; infinite only without
                noise, and in a secure sum of whole numbers.
            whole: Whether they are whole numbers, whose sum is exact then.
            plain: Whether the sum isn't released, and goes without noise.
        """
        encoders: list[Encoder] = []
        noise, n = 0.0, len(self.data)
        if self.is_noisy and not plain:
            noise = self.noise_multiplier(self.privacy.delta)
        step = 0.0
        if self.privacy.secure_sum:
            bits = _bits(n)
            top = 2 ** (bits - 1) - 1
            # A power of two, so that whole numbers stay what they are.
            step = 1.0
            if not whole or noise:
                step = 2.0 ** math.ceil(math.log2(norm / top))
        # Rounded up or down at random, so that many alike clients aren't off
        # together; and here, where a float64 is as fine as a step needs.
        rounds = step > 1 or (step > 0 and not whole)
        if noise:
            longer = step * math.sqrt(size) if rounds else 0.0
            encoders += [Clip(norm + longer), GaussianNoise(noise)]
        if step:
            encoders.append(
                FixedPoint(
                    bits,
                    num_summands=n,
                    value_range=top * step,
                    stochastic=False,
                )
            )
        aggregator = Mean(encoders, weighting="uniform", denominator=1.0)
        with backend.float64():
            aggregator = aggregator.build(
                [keras.KerasTensor((size,), "float64")]
            )
            params = aggregator.params(aggregator.init(), np.zeros(2, "int32"))
            error = math.sqrt(n) / 2 * step if rounds else 0.0
            if noise:
                bound = float(aggregator.chain.noise_bound(params))
                error = math.hypot(error, noise * bound)
                mechanism = as_mechanism(aggregator.dp_event())
                everyone = Participation("full", n)
                self.check(mechanism.compose(everyone, self._num_sums))
            # Many clients at once: one costs a millisecond by itself. What
            # is missing of the last rows are zeros, which add nothing.
            rows = max(1, min(n, 256, _MOST_NUMBERS // size))
            both = backend.vmap(lambda v: _summand(aggregator, v, params)[1])
            add = backend.jit(
                lambda total, vectors: keras.tree.map_structure(
                    lambda a, b: a + ops.sum(b, axis=0), total, both(vectors)
                )
            )

        def summed(vectors: Iterable[np.ndarray]) -> Sum:
            with backend.float64():
                message, total = _summand(aggregator, np.zeros(size), params)
                sent = aggregator.to_wire(backend.to_numpy(message))
                each = wire.length(sent)
                vectors = iter(vectors)
                while some := list(itertools.islice(vectors, rows)):
                    stack = np.zeros((rows, size))
                    stack[: len(some)] = some
                    self._bytes_up += each * len(some)
                    if rounds:
                        up = self.rng.random(stack.shape)
                        stack = np.floor(stack / step + up) * step
                    if step:
                        self._check_fits(np.abs(stack).max(), top * step, bits)
                    total = add(total, stack)
                # Nothing is charged for a question that failed before.
                self.charge()
                drawn = aggregator.draw(aggregator.init(), self.rng)
                (value,), _, _ = aggregator.finish(
                    aggregator.init(), total, params, drawn
                )
            value = np.asarray(value)
            if not np.isfinite(value).all():
                raise ValueError(
                    f"{self.name}: the sums are too large for float64."
                )
            return Sum(value, error)

        return summed

    def noise_multiplier(self, delta: float | None) -> float:
        """With which all sums keep to the epsilon, at a delta."""
        assert self.privacy.epsilon is not None
        assert delta is not None
        return calibrate_noise_multiplier(
            epsilon=self.privacy.epsilon,
            delta=delta,
            rounds=self._num_sums,
            population=len(self.data),
            clients_per_round=len(self.data),
            sampler="full",
        )

    def _check_fits(self, found: float, most: float, bits: int) -> None:
        if found > most:
            raise ValueError(
                f"{self.name}: a client's sums reach {found:,.0f}, and {bits} "
                f"bits in a secure sum of {len(self.data):,} clients hold "
                f"{most:,.0f}. Give `max_per_client` to QueryPrivacy."
            )

    def result(self, kind: type[_R], **numbers: Any) -> _R:
        """A result of some numbers and of what the query cost."""
        return kind(
            epsilon=self.privacy.epsilon,
            delta=self.privacy.delta,
            num_clients=len(self.data),
            bytes_up=self._bytes_up,
            **numbers,
        )


def _summand(aggregator: Mean, vector: Any, params: Any) -> Any:
    message, _ = aggregator.encode([vector], params, np.zeros(2, "int32"), ())
    return message, aggregator.summand(message, np.float32(1.0), params)


def _bits(num_clients: int) -> int:
    bits = min(_MOST_BITS, 31 - math.ceil(math.log2(num_clients)))
    if bits < 2:
        raise ValueError(
            f"A secure sum of {num_clients:,} clients doesn't fit into 31 "
            "bits. Ask a sample of them: data.sample(...)."
        )
    return bits


def as_dataset(data: Any) -> FederatedDataset:
    """Clients, as queries take them, as a data set."""
    if isinstance(data, FederatedDataset):
        return data
    if isinstance(data, list):
        data = {str(i): client for i, client in enumerate(data)}
    if not isinstance(data, Mapping):
        raise TypeError(
            "`data` must be a FederatedDataset, a dict from client ids to "
            "arrays, or a list with the arrays of each client. Received: "
            f"{type(data).__name__}."
        )
    return FederatedDataset.from_clients(data)
