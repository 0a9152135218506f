"""What happens to an update on its way from a client to the server."""

from fedlearn import serialization
from fedlearn.encoders.adaptive_clip import AdaptiveClip
from fedlearn.encoders.banded_matrix_noise import BandedMatrixNoise
from fedlearn.encoders.cast import Cast
from fedlearn.encoders.chain import Chain
from fedlearn.encoders.clip import Clip
from fedlearn.encoders.distributed_discrete_gaussian import (
    DistributedDiscreteGaussian,
)
from fedlearn.encoders.drive import Drive
from fedlearn.encoders.eden import Eden
from fedlearn.encoders.encoder import Encoder, Memory, Noise, Wire
from fedlearn.encoders.entropy_coding import EntropyCoding
from fedlearn.encoders.error_feedback import ErrorFeedback
from fedlearn.encoders.fixed_point import FixedPoint
from fedlearn.encoders.gaussian_noise import GaussianNoise
from fedlearn.encoders.hadamard_rotation import HadamardRotation
from fedlearn.encoders.local_gaussian_noise import LocalGaussianNoise
from fedlearn.encoders.power_sgd import PowerSGD
from fedlearn.encoders.random_mask import RandomMask
from fedlearn.encoders.round_trip import round_trip
from fedlearn.encoders.sign_sgd import SignSGD
from fedlearn.encoders.skellam import Skellam
from fedlearn.encoders.stochastic_quantization import StochasticQuantization
from fedlearn.encoders.tern_grad import TernGrad
from fedlearn.encoders.top_k import TopK
from fedlearn.encoders.tree_noise import TreeNoise
from fedlearn.encoders.uniform_quantization import UniformQuantization
from fedlearn.names import ENCODERS

get = serialization.getter(
    ENCODERS,
    Encoder,
    "encoder",
    'get("eden:2")',
    "Eden(bits=2)",
)

__all__ = [
    "AdaptiveClip",
    "BandedMatrixNoise",
    "Cast",
    "Chain",
    "Clip",
    "DistributedDiscreteGaussian",
    "Drive",
    "Eden",
    "Encoder",
    "EntropyCoding",
    "ErrorFeedback",
    "FixedPoint",
    "GaussianNoise",
    "HadamardRotation",
    "LocalGaussianNoise",
    "Memory",
    "Noise",
    "PowerSGD",
    "RandomMask",
    "SignSGD",
    "Skellam",
    "StochasticQuantization",
    "TernGrad",
    "TopK",
    "TreeNoise",
    "UniformQuantization",
    "Wire",
    "get",
    "round_trip",
]
__dir__ = __all__.copy  # `dir` shows what is public
