"""Clients' data: the data set, and the formats it is read from."""

from fedlearn.data.element import ArraySpec
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.data.fetching.download import DownloadError
from fedlearn.data.formats.format_error import FormatError

__all__ = ["ArraySpec", "DownloadError", "FederatedDataset", "FormatError"]
__dir__ = __all__.copy  # `dir` shows what is public
