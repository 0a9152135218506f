"""Server optimizers of the federated learning papers that Keras lacks."""

from fedlearn.optimizers.yogi import Yogi

__all__ = ["Yogi"]
