from typing import Any, NamedTuple

from fedlearn.encoders.encoder import Value
from fedlearn.serialization import Configurable


class HonestUpdates(NamedTuple):
    """What malicious clients that collude know of the others in their round.

    Attributes:
        mean: Of the honest clients' updates, one array a variable.
        std: The standard deviation of each coordinate over honest clients.
        num_honest: How many honest clients take part, a float32 scalar.
        num_malicious: How many malicious ones, a float32 scalar.
    """

    mean: Value
    std: Value
    num_honest: Any
    num_malicious: Any


class Attack(Configurable):
    """What malicious clients send instead of their updates.

    A configuration object with a pure method, which is compiled and
    vectorised over the malicious clients.

    Attributes:
        colludes: Whether malicious clients know the honest clients' updates
            of the round. The strongest assumption; in practice they would
            estimate what they need from their own honest updates.

    Example: a client that always sends nothing.

    >>> class Sleep(Attack):
    ...     def update(self, own, honest, seed):
    ...         return [0 * v for v in own]
    >>> Sleep().update([2.0], (), None)
    [0.0]
    """

    colludes: bool = False

    def update(self, own: Value, honest: Any, seed: Any) -> Value:
        """What a malicious client sends.

        Args:
            own: Its honest update, from training on its data.
            honest: `HonestUpdates`; `()` for an attack without collusion.
            seed: An int32 array of shape `(2,)`, the client's own.

        Returns:
            Arrays of the same shapes.
        """
        raise NotImplementedError
