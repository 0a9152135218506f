"""What happens to an update on its way from a client to the server."""

from fedlearn.encoders.chain import Chain
from fedlearn.encoders.encoder import Encoder

__all__ = ["Chain", "Encoder"]
