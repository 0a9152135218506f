"""Federated data sets, one module each with a `load_data`."""

from fedlearn.datasets import digits

__all__ = ["digits"]
