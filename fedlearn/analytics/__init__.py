"""Questions to all clients' data, without a model.

Answers are made of sums of fixed-length vectors, by the aggregators, secure
sum, noise and accountant that training uses. Every one has its `error`,
`epsilon` and `delta`, `num_clients` and `bytes_up`.

Numbers: `count`, `sum`, `mean`, `variance`, `histogram`, `quantiles`,
`distinct`, `kmeans`. Words: `heavy_hitters`, `vocabulary`,
`out_of_vocabulary`. Layers to begin a model with: `normalization`,
`vocabulary`.

What a query may tell is a `QueryPrivacy`, and a `fedlearn.privacy.Ledger` as
`budget=` adds queries up.

>>> from fedlearn import analytics, privacy
>>> data = {str(i): ([float(i % 7)], [0]) for i in range(1000)}
>>> budget = privacy.Ledger(epsilon=2.0, delta=1e-6)
>>> found = analytics.mean(
...     data,
...     bounds=(0, 10),
...     privacy=analytics.QueryPrivacy(1.0, 1e-6, max_per_client=1),
...     budget=budget,
... )
>>> bool(abs(found.value - 3) < 5 * found.error), round(found.error, 2)
(True, 0.03)
>>> round(budget.spent, 2)
1.0
"""

from fedlearn.analytics.distinct import distinct
from fedlearn.analytics.heavy_hitters import HeavyHitters, heavy_hitters
from fedlearn.analytics.histogram import Histogram, histogram
from fedlearn.analytics.iblt import IBLT
from fedlearn.analytics.kmeans import KMeans, kmeans
from fedlearn.analytics.moments import Moments, count, mean, sum, variance
from fedlearn.analytics.normalization import normalization
from fedlearn.analytics.quantiles import Quantiles, quantiles
from fedlearn.analytics.query_privacy import QueryPrivacy
from fedlearn.analytics.result import Estimate, Result
from fedlearn.analytics.trie import TrieHH
from fedlearn.analytics.vocabulary import out_of_vocabulary, vocabulary

__all__ = [
    "IBLT",
    "Estimate",
    "HeavyHitters",
    "Histogram",
    "KMeans",
    "Moments",
    "Quantiles",
    "QueryPrivacy",
    "Result",
    "TrieHH",
    "count",
    "distinct",
    "heavy_hitters",
    "histogram",
    "kmeans",
    "mean",
    "normalization",
    "out_of_vocabulary",
    "quantiles",
    "sum",
    "variance",
    "vocabulary",
]
__dir__ = __all__.copy  # `dir` shows what is public
