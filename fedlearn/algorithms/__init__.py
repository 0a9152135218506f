"""Federated algorithms, one a file, with its paper."""

from fedlearn.algorithms.federated_averaging import FederatedAveraging

__all__ = ["FederatedAveraging"]
__dir__ = __all__.copy  # `dir` shows what is public
