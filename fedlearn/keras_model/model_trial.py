"""What the first examples of a shape tell of a model."""

from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import backend, seeds
from fedlearn.keras_model import model_checks
from fedlearn.keras_model.example_wise import labels_match
from fedlearn.keras_model.on_shapes import OnShapes
from fedlearn.keras_model.stateless_scope import StatelessScope
from fedlearn.metrics import mergeable

_NUM_ROWS = 5


class ModelTrial:
    """Runs a model on the first examples of each combination of shapes.

    Args:
        model: The `FunctionalModel`; none of its variables changes.
    """

    def __init__(self, model: Any):
        self._functional = model
        self._model: keras.Model = model.model
        self._outputs: dict[Any, Any] = {}
        self._metrics_known: set[Any] = set()

    def run(self, batch: tuple, client_id: str) -> Any:
        """Checks that the model takes the examples; creates its metrics.

        Returns:
            The model's outputs for some of them, or their shapes.

        Raises:
            ValueError: If the model can't be run on them, or has a metric
                that can't be merged over clients.
        """
        key = _key(batch)
        outputs = self.run_on_shapes(batch, f"client {client_id!r}")
        if key not in self._metrics_known and self._check_metrics(
            batch, outputs
        ):
            self._metrics_known.add(key)
        return outputs

    def run_on_shapes(self, batch: tuple, whose: str) -> Any:
        """As `run`, but metrics aren't checked: the examples are made up.

        Args:
            batch: At least one example.
            whose: For errors.
        """
        key = _key(batch)
        if key not in self._outputs:
            self._outputs[key] = self._try(batch, whose)
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
                return OnShapes(lambda b: self._after([], b, [])[0])(few)
        except Exception as error:
            reason = error
        try:
            # Keras may have the static shapes of a layer wrong.
            return self._after([], _tensors(_rows(batch, size)), [])[0]
        except Exception as error:
            model_checks.check_batch(self._model, batch, whose)
            raise ValueError(
                f"The model can't be run on the examples of {whose}: "
                f"{model_checks.describe(batch)}. The model's input "
                f"shape is {model_checks.input_shape(self._model)}, its "
                f"output shape {model_checks.output_shape(self._model)}, its "
                f"loss {self._model.loss!r}. Change the clients' arrays "
                "(`dataset.map(fn)`), or the model's input, output or loss. "
                f"Keras said: {reason}"
            ) from error

    def _after(self, metrics: list, batch: tuple, weights: list) -> tuple:
        """The outputs for a batch, and the metrics' variables after it."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        # Keras looks up what it regularizes among the scope's values only.
        mapping = [(v, v.value) for v in self._model.variables]
        mapping += zip(self._model.trainable_variables, weights, strict=False)
        variables = self._functional.metrics_variables
        metrics = metrics or [ops.zeros(v.shape, v.dtype) for v in variables]
        mapping += zip(variables, metrics, strict=True)
        with StatelessScope(mapping, collect_losses=True) as scope:
            y_pred, _ = self._functional.forward(
                x, y, sample_weight, training=False
            )
            return y_pred, [
                scope.get_current_value(v)
                for v in self._functional.metrics_variables
            ]

    # Metrics.

    def _check_metrics(self, batch: tuple, outputs: Any) -> bool:
        """Whether all metrics are known to be sums over examples."""
        names = self._doubtful_metrics(batch, outputs)
        if not names:
            return True
        rows = _rows(batch, _NUM_ROWS)
        known = True
        for some, updates in self._updates(names, rows, outputs):
            found = [
                self._check(u, some, (*rows, *more)) for u, more in updates
            ]
            known = known and any(found)
        # Of copies of one example less is learned than of several.
        return known and len(keras.tree.flatten(batch)[0]) > 1

    def _check(self, update, names, batch) -> bool:
        return mergeable.check_updates(
            backend.jit(update),
            self._functional.metrics_variables,
            names,
            batch,
        )

    def _updates(self, names: dict[int, str], rows: tuple, outputs: Any):
        """Some of the metrics, and ways to update them: what, with what."""
        compiled: Any = getattr(self._model, "_compile_metrics", None)
        plain = (
            compiled is not None
            and type(self._model).compute_metrics is keras.Model.compute_metrics
            and len(rows) > 1
            and all(_is_known(a.shape) for a in keras.tree.flatten(outputs))
        )
        of_compiled = {id(v) for v in compiled.variables} if plain else set()
        here = {i: name for i, name in names.items() if i in of_compiled}
        if here:
            # Made-up predictions and true labels: the model isn't run.
            like = keras.tree.map_structure(
                lambda a: keras.KerasTensor((_NUM_ROWS, *a.shape[1:]), a.dtype),
                outputs,
            )
            made_up = [
                mergeable.made_up_predictions(like, *between)
                for between in ((0, 1), (-3, 3))
            ]
            yield here, [(self._update_compiled, (p,)) for p in made_up]
        there = {i: name for i, name in names.items() if i not in of_compiled}
        if there:
            # Also with other weights: those that are all zero, as many are at
            # first, make the same of every example.
            weights = [
                [v.value for v in self._model.trainable_variables],
                self._other_weights(),
            ]
            yield there, [(self._update_all(w), ()) for w in weights]

    def _update_compiled(self, values, batch):
        *data, y_pred = batch
        _, y, sample_weight = keras.utils.unpack_x_y_sample_weight(tuple(data))
        variables = self._functional.metrics_variables
        compiled: Any = self._model._compile_metrics
        with StatelessScope(zip(variables, values, strict=True)) as scope:
            compiled.update_state(y, y_pred, sample_weight)
            return [scope.get_current_value(v) for v in variables]

    def _update_all(self, weights: list):
        return lambda values, batch: self._after(values, batch, weights)[1]

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
        """Names of the metrics that may not be sums, by id of variable.

        Keras's own are, where each label stands beside its output; its
        trackers of the loss are means over batches by construction, and with
        a loss that sums they aren't means over examples, in Keras too.
        """
        known = {id(getattr(self._model, "_loss_tracker", None))}
        compiled = getattr(self._model, "_compile_loss", None)
        if compiled is not None:
            known |= {id(m) for m in compiled.metrics}
        metrics = []
        _, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        matched = y is None or labels_match(self._model, y, outputs)
        compiled_metrics: Any = getattr(self._model, "_compile_metrics", None)
        for metric in self._model.metrics:
            if metric is compiled_metrics:
                metrics += [
                    m
                    for m in compiled_metrics.metrics
                    if not (matched and mergeable.is_sum(m))
                ]
            elif not mergeable.is_sum(metric):
                metrics.append(metric)
        doubtful = [m for m in metrics if id(m) not in known]
        for metric in doubtful:
            mergeable.check_has_variables(metric)
        return {id(v): m.name for m in doubtful for v in m.variables}


def _key(batch: tuple) -> tuple:
    """What tells combinations of shapes and dtypes apart."""
    arrays: Any = batch
    if not all(isinstance(a, np.ndarray) for a in batch):
        arrays = keras.tree.flatten(batch)
    return (len(batch), *((a.shape[1:], a.dtype) for a in arrays))


def _batch_size(model: keras.Model, batch: tuple) -> int:
    """How many examples to try: what could be taken for no other axis.

    With one example, or with as many as there are columns, labels would be
    broadcast that can't be in other batches.
    """
    inputs = keras.tree.flatten(getattr(model, "inputs", None))
    if inputs and inputs[0] is not None and inputs[0].shape[0] is not None:
        return inputs[0].shape[0]  # the model takes no other
    output = keras.tree.flatten(model_checks.output_shape(model))
    used = {d for a in keras.tree.flatten(batch) for d in a.shape[1:]}
    used |= {d for d in output if isinstance(d, int)}
    return next(n for n in range(2, len(used) + 3) if n not in used)


def _rows(batch: tuple, number: int) -> tuple:
    """Some rows from all over a client's examples, again where it has few."""
    size = len(keras.tree.flatten(batch)[0])
    positions = (np.arange(number) * max(size // number, 1)) % size
    return keras.tree.map_structure(lambda a: a[positions], batch)


def _is_known(shape: Any) -> bool:
    return all(d is not None for d in shape)


def _tensors(batch: tuple) -> tuple:
    return keras.tree.map_structure(ops.convert_to_tensor, batch)
