from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import backend, seeds
from fedlearn.keras_model import keras_internals, model_checks
from fedlearn.keras_model.example_wise import labels_match
from fedlearn.keras_model.stateless_scope import OnShapes, StatelessScope
from fedlearn.metrics import mergeable

_NUM_ROWS = 5


class ModelTrial:
    """Runs a model on the first examples of each combination of shapes.

    None of its variables changes.
    """

    def __init__(self, model: Any):
        self._functional = model
        self._model: keras.Model = model.model
        self._outputs: dict[Any, Any] = {}
        self._metrics_known: set[Any] = set()

    def run(self, batch: tuple, client_id: str) -> Any:
        """The model's outputs for some examples, or their shapes.

        Creates its metrics. Raises ValueError if the model can't be run on
        the examples, or has a metric that can't be merged over clients.
        """
        key = _key(batch)
        outputs = self.run_on_shapes(batch, f"client {client_id!r}")
        if key not in self._metrics_known and self._check_metrics(
            batch, outputs
        ):
            self._metrics_known.add(key)
        return outputs

    def run_on_shapes(self, batch: tuple, whose: str) -> Any:
        """As `run`, but metrics aren't checked: the examples are made up."""
        key = _key(batch)
        if key not in self._outputs:
            outputs, loss = self._try(batch, whose)
            if loss.shape and not backend.ASSIGNS_IN_PLACE:
                raise ValueError(
                    f"The model's loss has the shape {tuple(loss.shape)} for "
                    f"the examples of {whose}, and {backend.name} trains with "
                    "one number. Give the loss reduction='sum_over_batch_size'."
                )
            for metric in mergeable.metrics_of(self._model):
                mergeable.check_metric(metric)
            self._outputs[key] = outputs
        return self._outputs[key]

    def _try(self, batch: tuple, whose: str) -> Any:
        """The model's outputs for a few examples, or their shapes."""
        size = _batch_size(self._model, batch)
        try:
            # On shapes alone: running the model would compile every one of
            # its operations by itself on JAX.
            few = keras.tree.map_structure(
                lambda a: keras.KerasTensor(
                    (size, *a.shape[1:]),
                    "string" if a.dtype.kind in "SUO" else a.dtype.name,
                ),
                batch,
            )
            with keras.StatelessScope():  # metrics get variables at its end
                return OnShapes(lambda b: self._after([], b)[0])(few)
        except Exception as error:
            reason = error
        try:
            # Keras may have the static shapes of a layer wrong.
            rows = keras.tree.map_structure(
                ops.convert_to_tensor, _rows(batch, size)
            )
            return self._after([], rows)[0]
        except Exception as error:
            text = model_checks.refusal(self._model, batch, whose)
            raise ValueError(f"{text} Keras said: {reason}") from error

    def _after(
        self, metrics: list, batch: tuple, weights: list | None = None
    ) -> tuple:
        """Outputs and loss of a batch, and the metrics' variables after it."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        # Keras looks up what it regularizes among the scope's values only.
        mapping = [(v, v.value) for v in self._model.variables]
        if weights is not None:
            mapping += zip(
                self._model.trainable_variables, weights, strict=True
            )
        variables = self._functional.metrics_variables
        metrics = metrics or [ops.zeros(v.shape, v.dtype) for v in variables]
        mapping += zip(variables, metrics, strict=True)
        with StatelessScope(mapping, collect_losses=True) as scope:
            outputs = self._functional.forward(
                x, y, sample_weight, training=False
            )
            return outputs, [
                scope.get_current_value(v)
                for v in self._functional.metrics_variables
            ]

    # Metrics.

    def _check_metrics(self, batch: tuple, outputs: Any) -> bool:
        """Whether all metrics are known to be sums over examples."""
        names = self._doubtful_metrics(batch, outputs)
        if not names:
            return True
        # Also with other weights: those that are all zero, as many are at
        # first, make the same of every example.
        found = [
            mergeable.check_updates(
                backend.jit(lambda m, b, w=w: self._after(m, b, w)[1]),
                self._functional.metrics_variables,
                names,
                _rows(batch, _NUM_ROWS),
            )
            for w in (None, self._other_weights())
        ]
        # Of copies of one example less is learned than of several.
        return any(found) and len(keras.tree.flatten(batch)[0]) > 1

    def _other_weights(self) -> list:
        return [
            ops.convert_to_tensor(
                (seeds.uniform(int(np.prod(v.shape)), "metric", i) - 0.5)
                .reshape(tuple(v.shape))
                .astype(keras.backend.standardize_dtype(v.dtype))
            )
            for i, v in enumerate(self._model.trainable_variables)
        ]

    def _doubtful_metrics(self, batch: tuple, outputs: Any) -> dict[int, str]:
        """Names of metrics that may not be sums, by id of variable."""
        _, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        _, compiled = keras_internals.compiled_metrics(self._model)
        if y is None or labels_match(self._model, y, outputs):
            compiled = []
        doubtful = [
            metric
            for metric in mergeable.metrics_of(self._model)
            if not mergeable.is_sum(metric)
            or any(metric is m for m in compiled)
        ]
        return {id(v): m.name for m in doubtful for v in m.variables}


def _key(batch: tuple) -> tuple:
    """What tells combinations of shapes and dtypes apart."""
    arrays: Any = batch
    if not all(isinstance(a, np.ndarray) for a in batch):
        arrays = keras.tree.flatten(batch)
    return (len(batch), *((a.shape[1:], a.dtype) for a in arrays))


def _batch_size(model: keras.Model, batch: tuple) -> int:
    """How many examples to try: a number that is no other axis's length.

    With one, or as many as there are columns, labels would be broadcast that
    can't be in other batches.
    """
    inputs = keras.tree.flatten(getattr(model, "inputs", None))
    if inputs and inputs[0] is not None and inputs[0].shape[0] is not None:
        return inputs[0].shape[0]  # the model takes no other
    output = keras.tree.flatten(getattr(model, "output_shape", None))
    used = {d for a in keras.tree.flatten(batch) for d in a.shape[1:]}
    used |= {d for d in output if isinstance(d, int)}
    return next(n for n in range(2, len(used) + 3) if n not in used)


def _rows(batch: tuple, number: int) -> tuple:
    """Some rows from all over a client's examples, again where it has few."""
    size = len(keras.tree.flatten(batch)[0])
    positions = (np.arange(number) * max(size // number, 1)) % size
    return keras.tree.map_structure(lambda a: a[positions], batch)
