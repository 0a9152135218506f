"""DP-SGD on one data set: the unit is an example."""

import math
from typing import Any, Literal

from fedlearn import checks
from fedlearn.privacy.accountant import (
    AccountantName,
    best_epsilon,
    check_delta,
    epsilon,
)
from fedlearn.privacy.composition import Composition
from fedlearn.privacy.mechanism import check_noise_multiplier
from fedlearn.privacy.require_dp_accounting import require_dp_accounting


def compute_epsilon_dp_sgd(
    *,
    noise_multiplier: float,
    steps: int,
    delta: float,
    num_examples: int,
    batch_size: float,
    batches: Literal["poisson", "shuffled"] = "poisson",
    accountant: AccountantName | None = None,
) -> float:
    """Epsilon of DP-SGD (Abadi et al. 2016) for one example of a client.

    For few clients that are institutions, such as hospitals: each protects
    its own examples against whoever sees its updates, and the epsilon of one
    doesn't depend on the others. https://arxiv.org/abs/1607.00133

    For a run of `fedlearn.LocalTraining(dp=...)`, `ExampleGuarantee` counts
    the steps of each client.

    Args:
        noise_multiplier: The noise's standard deviation over the clip norm of
            an example's gradient, both of the sum over a batch.
        steps: Of this client, in all rounds together; of shuffled batches
            in whole passes.
        delta: Above 0, and well below `1 / num_examples`.
        num_examples: Of this client.
        batch_size: Examples in a batch; with "poisson" on average.
        batches: How they are drawn. `"poisson"`: each example by itself;
            `"shuffled"`: each example once in each pass, without
            amplification. Neighbours differ in the gradient of one example
            being there or not (zero-out); the number of examples is known.
            Accounting for shuffled batches as for Poisson ones claims too
            much.
        accountant: `"pld"`, `"rdp"`, or None for the tightest that can be
            had.

    Returns:
        Epsilon for one example.

    Raises:
        ValueError: If an argument is out of range.

    >>> round(
    ...     compute_epsilon_dp_sgd(
    ...         noise_multiplier=1.0,
    ...         steps=500,
    ...         delta=1e-4,
    ...         num_examples=300,
    ...         batch_size=6,
    ...         accountant="rdp",
    ...     ),
    ...     2,
    ... )
    2.66
    """
    check_delta(delta)
    run = composition_dp_sgd(
        noise_multiplier, steps, num_examples, batch_size, batches
    )
    if accountant is None:
        return best_epsilon(run, delta)[0]
    return epsilon(run, delta, accountant)


def composition_dp_sgd(
    noise_multiplier: float,
    steps: int,
    num_examples: int,
    batch_size: float,
    batches: Literal["poisson", "shuffled"],
) -> Composition:
    """What the steps of one client release of one example.

    Args and errors as for `compute_epsilon_dp_sgd`; of shuffled batches the
    last pass may be cut short.
    """
    checks.one_of("batches", batches, ("poisson", "shuffled"))
    checks.whole("steps", steps, least=0)
    checks.whole("num_examples", num_examples)
    checks.positive("batch_size", batch_size)
    check_noise_multiplier(noise_multiplier)
    dp = require_dp_accounting()
    event: Any = dp.NonPrivateDpEvent()
    if noise_multiplier:  # no accountant takes a sampled event without noise
        event = dp.GaussianDpEvent(noise_multiplier)
    if batches == "shuffled":
        # An example is in each pass once, in a batch among others or not.
        passes = -(-int(steps) // math.ceil(num_examples / batch_size))
        return Composition(event, passes, "zero-out")
    probability = batch_size / num_examples
    if noise_multiplier and probability < 1:
        event = dp.PoissonSampledDpEvent(probability, event)
    return Composition(event, int(steps), "zero-out")
