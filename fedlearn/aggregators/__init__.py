"""How the updates of many clients become one."""

from fedlearn import serialization
from fedlearn.aggregators.aggregator import Aggregator
from fedlearn.aggregators.bulyan import Bulyan
from fedlearn.aggregators.centered_clipping import CenteredClipping
from fedlearn.aggregators.geometric_median import GeometricMedian
from fedlearn.aggregators.krum import Krum
from fedlearn.aggregators.mean import Mean
from fedlearn.aggregators.median import Median
from fedlearn.aggregators.norm_bounding import NormBounding
from fedlearn.aggregators.outlier_removal import OutlierRemoval
from fedlearn.aggregators.private_mean import PrivateMean
from fedlearn.aggregators.robust_rule import RobustRule
from fedlearn.aggregators.secure_sum import SecureSum
from fedlearn.aggregators.trimmed_mean import TrimmedMean
from fedlearn.names import AGGREGATORS

get = serialization.getter(
    AGGREGATORS,
    Aggregator,
    "aggregator",
    'get("trimmed_mean:0.1", encoders=["drive"])',
    "TrimmedMean(fraction=0.1, encoders=(Drive(),))",
)

__all__ = [
    "Aggregator",
    "Bulyan",
    "CenteredClipping",
    "GeometricMedian",
    "Krum",
    "Mean",
    "Median",
    "NormBounding",
    "OutlierRemoval",
    "PrivateMean",
    "RobustRule",
    "SecureSum",
    "TrimmedMean",
    "get",
]
__dir__ = __all__.copy  # `dir` shows what is public
