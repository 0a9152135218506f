from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fedlearn.attacks.label_flip import as_tuple
from fedlearn.attacks.poisoned_clients import poison
from fedlearn.data.federated_dataset import FederatedDataset


class PixelTrigger:
    """A square in the lower right corner of images.

    Gu et al. 2017, "BadNets: identifying vulnerabilities in the machine
    learning model supply chain".

    Args:
        size: Its side, in pixels.
        value: Of its pixels.

    Example:

    >>> PixelTrigger(size=1)(np.zeros((1, 2, 2, 1)))[0, :, :, 0]
    array([[0., 0.],
           [0., 1.]])
    """

    def __init__(self, size: int = 3, value: float = 1.0):
        self.size = size
        self.value = value

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Images `(n, height, width, ...)` with the square, of that dtype."""
        images = np.array(images)
        images[:, -self.size :, -self.size :] = self.value
        return images


def backdoor(
    dataset: FederatedDataset,
    malicious: Iterable[str],
    target: int,
    trigger: Callable[[np.ndarray], np.ndarray] | None = None,
    fraction: float = 0.5,
) -> FederatedDataset:
    """The data set with a trigger in malicious clients' examples.

    Of each malicious client the first `fraction` of the examples get the
    trigger and the label `target`; the others keep the model good at its
    task. To measure how well the backdoor works, give every test example the
    trigger and see how often the answer is `target`::

        triggered = backdoor(test, test.client_ids, target=7, fraction=1.0)
        process.evaluate(state, triggered)["accuracy"]

    The attack of Bagdasaryan et al. 2020, "How to backdoor federated
    learning", is this with `Scaling` in an `AttackedExecutor`.

    Args:
        dataset: With `(x, y)` or `(x, y, sample_weight)`.
        malicious: Ids of the clients to change, for instance from `choose`.
        target: The label that the trigger is to stand for.
        trigger: From a client's `x` to the same with the trigger; None for
            `PixelTrigger()`.
        fraction: Of a client's examples, rounded.

    Raises:
        KeyError: If a malicious client isn't in `dataset`.
        ValueError: If `fraction` isn't in [0, 1].

    Example:

    >>> ds = FederatedDataset.from_clients(
    ...     {"a": (np.zeros((2, 4, 4)), [1, 2])})
    >>> x, y = backdoor(ds, ["a"], target=7)["a"]
    >>> y.tolist(), x.sum(axis=(1, 2)).tolist()
    ([7, 2], [9.0, 0.0])
    """
    if not 0 <= fraction <= 1:
        raise ValueError(
            f"`fraction` must be between 0 and 1. Received: {fraction!r}."
        )
    stamp = PixelTrigger() if trigger is None else trigger

    def plant(client: Any) -> Any:
        x, y, *rest = as_tuple(client)
        count = int(fraction * len(y) + 0.5)
        x = np.concatenate([stamp(x[:count]), x[count:]]).astype(x.dtype)
        y = np.array(y)
        y[:count] = target
        return (x, y, *rest)

    return poison(dataset, malicious, plant)
