"""A pooled data set divided among clients.

Each function gives an example to at most one client, and returns a
`FederatedDataset` whose ids are numbers with leading zeros, so that they sort
("00" to "49"). A client's examples keep the order of the pooled arrays. The
same seed divides alike wherever it is run. They have in common:

Args:
    x: `(examples, ...)` array, or a dict, tuple or list of them.
    y: The same; `(examples,)` or `(examples, 1)` labels where clients are
        told by them. Texts become numbers of classes, whose names are kept.
    num_clients: Number of clients, at most one an example.
    seed: An integer.

Raises:
    ValueError: If there are more clients than examples, or `y` holds no
        single labels where they are needed.
"""

from fedlearn.partition.by_column import by_column
from fedlearn.partition.by_size import by_size
from fedlearn.partition.dirichlet import dirichlet
from fedlearn.partition.feature_shift import feature_shift
from fedlearn.partition.iid import iid
from fedlearn.partition.pachinko import pachinko
from fedlearn.partition.shards import shards

__all__ = [
    "by_column",
    "by_size",
    "dirichlet",
    "feature_shift",
    "iid",
    "pachinko",
    "shards",
]
__dir__ = __all__.copy  # `dir` shows what is public
