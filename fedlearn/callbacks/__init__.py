"""Keras callbacks for federated training; a round is an epoch."""

from fedlearn.callbacks.privacy_budget import PrivacyBudget
from fedlearn.callbacks.progress import Progress

__all__ = ["PrivacyBudget", "Progress"]
__dir__ = __all__.copy  # `dir` shows what is public
