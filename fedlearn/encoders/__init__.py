"""What happens to an update on its way from a client to the server."""

from fedlearn.encoders.adaptive_clip import AdaptiveClip
from fedlearn.encoders.chain import Chain
from fedlearn.encoders.clip import Clip
from fedlearn.encoders.encoder import Encoder
from fedlearn.encoders.gaussian_noise import GaussianNoise

__all__ = [
    "AdaptiveClip",
    "Chain",
    "Clip",
    "Encoder",
    "GaussianNoise",
]
