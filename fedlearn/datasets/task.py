"""What a data set is for."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fedlearn.data.element import ArraySpec
from fedlearn.data.federated_dataset import FederatedDataset

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Task:
    """A data set, and what is usually made of it.

    Each module of `fl.datasets` has a `task`, which takes the arguments of
    its `load_data`.

    Attributes:
        train: The clients to train with.
        test: The clients to test with.
        model: The usual model, a function of `fl.models`.
        sizes: That function's arguments that labels and inputs fix, such as
            `num_classes`; others of `fl.models` take what they know of them.
        ignored: For sequences, the labels that the accuracy leaves out.
        batch_size: The usual batch size of a client.
        learning_rate: The usual learning rate of a client's SGD; the data
            set's `task` says whether it is published.

    Example:

    >>> import fedlearn as fl
    >>> task = fl.datasets.digits.task(num_clients=10)
    >>> model = task.build_model(seed=0)
    >>> model.name, model.loss
    ('digits_cnn', 'sparse_categorical_crossentropy')
    >>> client = fl.LocalTraining(batch_size=task.batch_size)
    >>> process = fl.FederatedAveraging(model, client)
    """

    train: FederatedDataset
    test: FederatedDataset
    model: str
    sizes: Mapping[str, Any]
    ignored: tuple[int, ...] = ()
    batch_size: int = 10
    learning_rate: float = 0.1

    @property
    def label(self) -> ArraySpec | None:
        """Shape and dtype of an example's label; None if it has parts."""
        spec = self.train.element_spec
        label = spec[1] if isinstance(spec, tuple) and len(spec) > 1 else None
        return label if isinstance(label, ArraySpec) else None

    def build_model(
        self, name: str | None = None, seed: int | None = None
    ) -> "keras.Model":
        """A new model, compiled for the data.

        Args:
            name: Of a function of `fl.models`; None for the usual one.
            seed: Integer that fixes the initial weights, or `None`.

        Raises:
            ValueError: If there is no such model, or it doesn't fit the
                labels.
        """
        from fedlearn import models

        name = name or self.model
        # Of an unknown name, `get` tells the known ones.
        accepted = inspect.signature(models._MODELS.get(name, models.get))
        known = accepted.parameters
        sizes = {k: v for k, v in self.sizes.items() if k in known}
        model = models.get(name, seed=seed, **sizes)
        self.compile(model)
        return model

    def compile(self, model: "keras.Model", optimizer: Any = None) -> None:
        """Compiles a model for the data, with metrics that can be merged.

        - A class, from `(classes,)` probabilities: cross-entropy, accuracy.
        - A yes or no, from a probability of shape `(1,)`: binary
          cross-entropy, accuracy.
        - An amount, from `(1,)`: mean squared error, mean absolute error.
        - A sequence of classes, from `(length, classes)` probabilities:
          cross-entropy that leaves out padding (0), and accuracy that leaves
          out `ignored`.
        - Tags, 0 or 1 each, from `(tags,)` probabilities: binary
          cross-entropy, precision, and recall among the five likeliest
          (Reddi et al. 2021).

        Args:
            model: Any model; one whose output shape isn't known yet, as of a
                subclass of `keras.Model`, is taken to fit.
            optimizer: Of the clients; None for SGD at `learning_rate`.

        Raises:
            ValueError: If no loss is known that fits.
        """
        import keras

        loss, metrics = self._objective(model)
        if optimizer is None:
            optimizer = keras.optimizers.SGD(self.learning_rate)
        model.compile(optimizer=optimizer, loss=loss, metrics=metrics)

    def _objective(self, model: "keras.Model") -> tuple[Any, list[Any]]:
        import keras

        from fedlearn.metrics import MaskedAccuracy

        label = self.label
        outputs = getattr(model, "output_shape", (None, ...))
        shape = outputs[1:] if isinstance(outputs, tuple) else None
        if label is None or shape is None or isinstance(outputs[0], tuple):
            raise ValueError(
                "a model with several outputs, or for labels of several "
                "parts, has to be compiled with losses of its own."
            )
        whole = np.issubdtype(label.dtype, np.integer)
        if whole and not label.shape and shape == (1,):
            return "binary_crossentropy", ["accuracy"]
        # None fits any length.
        given = shape[:-1] if whole else shape
        wanted = label.shape if whole or label.shape else (1,)
        fits = len(given) == len(wanted) and all(
            a in (None, b) for a, b in zip(given, wanted, strict=True)
        )
        if not fits and shape != (...,):
            raise ValueError(
                f"the model gives predictions of shape {shape} for an "
                f"example, and labels are {label.dtype} of shape "
                f"{label.shape}: no loss is known that fits. Choose another "
                "model, or leave it out for one that suits the data set."
            )
        if whole and not label.shape:
            return "sparse_categorical_crossentropy", ["accuracy"]
        if whole:
            return (
                keras.losses.SparseCategoricalCrossentropy(ignore_class=0),
                [MaskedAccuracy(ignore=self.ignored)],
            )
        if not label.shape:
            return "mean_squared_error", ["mean_absolute_error"]
        return "binary_crossentropy", [
            keras.metrics.Precision(name="precision"),
            keras.metrics.Recall(top_k=5, name="recall_at_5"),
        ]


def num_classes(data: FederatedDataset) -> int:
    """One more than the largest label: a pass over all clients."""
    return 1 + max(
        int(data[client][1].max())
        for client in data
        if data.num_examples(client)
    )
