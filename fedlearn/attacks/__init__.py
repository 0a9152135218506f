"""Malicious clients, to try defences against.

Two kinds: what is wrong with their data (`label_flip`, `backdoor`), and what
they send instead of their updates (an `Attack` in `AttackedExecutor`).
"""

from fedlearn import serialization
from fedlearn.attacks.attack import Attack, HonestUpdates
from fedlearn.attacks.attacked_executor import AttackedExecutor
from fedlearn.attacks.backdoor import PixelTrigger, backdoor
from fedlearn.attacks.gaussian_noise import GaussianNoise
from fedlearn.attacks.inner_product import InnerProduct
from fedlearn.attacks.label_flip import label_flip
from fedlearn.attacks.little_is_enough import LittleIsEnough
from fedlearn.attacks.malicious import choose
from fedlearn.attacks.scaling import Scaling
from fedlearn.attacks.sign_flip import SignFlip
from fedlearn.names import ATTACKS

get = serialization.getter(
    ATTACKS,
    Attack,
    "attack",
    'get("scaling:10")',
    "Scaling(factor=10)",
)

__all__ = [
    "Attack",
    "AttackedExecutor",
    "GaussianNoise",
    "HonestUpdates",
    "InnerProduct",
    "LittleIsEnough",
    "PixelTrigger",
    "Scaling",
    "SignFlip",
    "backdoor",
    "choose",
    "get",
    "label_flip",
]
__dir__ = __all__.copy  # `dir` shows what is public
