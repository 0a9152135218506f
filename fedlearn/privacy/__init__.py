"""What a run tells about a client: epsilon, and the noise for a budget.

Before a run: `plan`, which makes the aggregator and the sampler too;
`calibrate_noise_multiplier`, `compute_epsilon`.
During one: a `Guarantee` of a `Mechanism` (`Gaussian`, `Tree`,
`BandedMatrix`) and a sampler gives epsilon after each round. Over several
queries and runs: a `Ledger`. The accounting is that of dp-accounting, the
extra `privacy`.

A Gaussian on the sum of a Poisson sample of 100 in 10,000 clients:

>>> from fedlearn import privacy
>>> plan = dict(
...     rounds=1000, delta=1e-5, population=10_000, clients_per_round=100
... )
>>> round(privacy.compute_epsilon(noise_multiplier=1.0, **plan), 2)
1.83
"""

from fedlearn.privacy.audit import CanaryEpsilon, canary_epsilon
from fedlearn.privacy.banded import (
    BandedMatrix,
    mean_squared_error,
    optimal_coefficients,
    square_root_coefficients,
    toeplitz_sensitivity,
)
from fedlearn.privacy.composition import Composition
from fedlearn.privacy.epsilon import (
    calibrate_noise_multiplier,
    compute_epsilon,
)
from fedlearn.privacy.example_guarantee import (
    ExampleGuarantee,
    ExampleStatement,
)
from fedlearn.privacy.guarantee import Guarantee, Statement
from fedlearn.privacy.ledger import Ledger
from fedlearn.privacy.mechanism import (
    CohortSize,
    Gaussian,
    Mechanism,
    Released,
    SharedNoise,
    combined,
    composed,
)
from fedlearn.privacy.participation import Participation
from fedlearn.privacy.plan import Plan, plan
from fedlearn.privacy.privacy import Privacy
from fedlearn.privacy.tree import Tree, tree_sensitivity

__all__ = [
    "BandedMatrix",
    "CanaryEpsilon",
    "CohortSize",
    "Composition",
    "ExampleGuarantee",
    "ExampleStatement",
    "Gaussian",
    "Guarantee",
    "Ledger",
    "Mechanism",
    "Participation",
    "Plan",
    "Privacy",
    "Released",
    "SharedNoise",
    "Statement",
    "Tree",
    "calibrate_noise_multiplier",
    "canary_epsilon",
    "combined",
    "composed",
    "compute_epsilon",
    "mean_squared_error",
    "optimal_coefficients",
    "plan",
    "square_root_coefficients",
    "toeplitz_sensitivity",
    "tree_sensitivity",
]
__dir__ = __all__.copy  # `dir` shows what is public
