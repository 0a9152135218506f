"""Server optimizers of the federated learning papers that Keras lacks."""

from fedlearn.optimizers.adaptive import FedAdagrad, FedAdam, FedYogi, Yogi

__all__ = ["FedAdagrad", "FedAdam", "FedYogi", "Yogi"]
__dir__ = __all__.copy  # `dir` shows what is public
