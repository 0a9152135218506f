"""Federated algorithms, one a file, with its paper."""

from fedlearn.algorithms.federated_averaging import FederatedAveraging

__all__ = ["FederatedAveraging"]
