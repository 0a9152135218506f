"""What a client computes."""

from fedlearn.clients.local_training import LocalTraining

__all__ = ["LocalTraining"]
