"""DP-SGD on one data set: the unit is an example."""

from typing import Literal

from fedlearn.privacy.accountant import AccountantName
from fedlearn.privacy.epsilon import compute_epsilon


def compute_epsilon_dp_sgd(
    *,
    noise_multiplier: float,
    steps: int,
    delta: float,
    num_examples: int,
    batch_size: float,
    batches: Literal["poisson", "shuffled"] = "poisson",
    accountant: AccountantName = "pld",
) -> float:
    """Epsilon of DP-SGD (Abadi et al. 2016) for one example of a client.

    For few clients that are institutions, such as hospitals: each protects
    its own examples against whoever sees its updates, and the epsilon of one
    doesn't depend on the others. https://arxiv.org/abs/1607.00133

    Args:
        noise_multiplier: The noise's standard deviation over the clip norm of
            an example's gradient, both of the sum over a batch.
        steps: Of this client, in all rounds together.
        delta: Above 0, and well below `1 / num_examples`.
        num_examples: Of this client.
        batch_size: Examples in a batch; with "poisson" on average.
        batches: How they are drawn. `"poisson"`: each example by itself, an
            example being there or not; `"shuffled"`: each example once in
            each pass, its gradient being there or not, without amplification.
            Accounting for shuffled batches as for Poisson ones claims too
            much.
        accountant: `"pld"` or `"rdp"`.

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
    if batches not in ("poisson", "shuffled"):
        raise ValueError(
            f"batches is {batches!r}. Expected 'poisson' or 'shuffled'."
        )
    separation = None
    if batches == "shuffled":
        # Two batches of an example may be neighbours, the last of one pass
        # and the first of the next, but in each pass there is only one.
        separation = max(1, int(num_examples // batch_size))
    return compute_epsilon(
        noise_multiplier=noise_multiplier,
        rounds=steps,
        delta=delta,
        population=num_examples,
        clients_per_round=batch_size,
        sampler="poisson" if batches == "poisson" else "min_separation",
        min_separation=separation,
        accountant=accountant,
    )
