import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from fedlearn import backend
from fedlearn.keras_model import (
    keras_internals,
    model_checks,
    variable_roles,
)
from fedlearn.keras_model.class_labels import LabelCheck
from fedlearn.keras_model.model_trial import ModelTrial
from fedlearn.keras_model.stateless_scope import StatelessScope, current
from fedlearn.metrics import mergeable

Arrays = list[Any]
"""Backend arrays, one for each variable of a list, in that list's order."""


class Variables(NamedTuple):
    """What local training changes: the values of a model's variables.

    Attributes:
        state: Floats that layers update while they train, such as
            BatchNormalization's moving statistics.
        local: Integer counters and random seeds of layers. They can't be
            averaged and never leave the client.
    """

    trainable: Arrays
    state: Arrays
    local: Arrays
    metrics: Arrays


class FunctionalModel:
    """The pure functions of a compiled `keras.Model`.

    The model is only read: all runs in a `keras.StatelessScope`. It is refused
    if it isn't compiled, has no weights yet, or overrides `train_step` or
    `test_step`. With `frozen_statistics` layers that keep statistics leave them
    as they are, and use them in training too, as in inference.
    """

    def __init__(self, model: keras.Model, frozen_statistics: bool = False):
        model_checks.check_model(model)
        self.model = model
        self.roles = variable_roles.roles(model)
        self._inferring: list[keras.Layer] = []
        if frozen_statistics:
            self._inferring = variable_roles.layers_with(
                model, self.roles.state
            )
            self.roles = self.roles.with_frozen_state()
        self._state, self._local, self._frozen = (
            [model.non_trainable_variables[i] for i in positions]
            for positions in self.roles[:3]
        )
        self._trial = ModelTrial(self)
        self._labels = LabelCheck(model)
        # Arrays without rows that the model takes; None before `build`.
        self.no_examples: tuple | None = None

    @property
    def metrics_variables(self) -> list[keras.Variable]:
        """The variables of the metrics; known after `build` or `prepare`."""
        # A metric that two layers share is listed twice; StatelessScope has
        # one value for it, and it must be counted once.
        unique = {id(v): v for v in self.model.metrics_variables}
        return list(unique.values())

    @property
    def metric_names(self) -> list[str]:
        """The names that the metrics have themselves."""
        return [metric.name for metric in mergeable.metrics_of(self.model)]

    @property
    def random_seeds(self) -> list[bool]:
        """Which of `roles.local` are random seeds of layers; else counters."""
        return [variable_roles.is_random_seed(v) for v in self._local]

    def values(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Copies of what the model holds now: trainable, non-trainable."""

        def copies(variables):
            return [np.array(ops.convert_to_numpy(v.value)) for v in variables]

        return (
            copies(self.model.trainable_variables),
            copies(self.model.non_trainable_variables),
        )

    # Before anything is compiled.

    def build(self, spec: tuple) -> None:
        """As `prepare`, by a `FederatedDataset.element_spec` alone."""
        batch = keras.tree.map_structure(_one_row, tuple(spec))
        self._trial.run_on_shapes(batch, "`spec`")
        self._see(batch)

    def prepare(self, batch: tuple, client_id: str) -> None:
        """Checks that the model takes a client's examples; creates metrics.

        Keras creates a model's metrics when it first sees labels. The model
        is tried on each new combination of shapes and dtypes, so that what it
        can't take is a ValueError that names the client, and not an error from
        inside a compiled round.
        """
        with backend.compile_clock.clock.lock:
            outputs = self._trial.run(batch, client_id)
            self._see(batch)
        if len(batch) > 1:
            self._labels.check(batch, outputs, client_id)

    def _see(self, batch: tuple) -> None:
        if self.no_examples is None:
            self.no_examples = keras.tree.map_structure(
                lambda a: np.zeros((0, *a.shape[1:]), a.dtype), batch
            )

    # Pure functions.

    def start(
        self, trainable: Arrays, non_trainable: Arrays, seed: Any = None
    ) -> Variables:
        """The variables at the start of local training or of evaluation.

        Layers' random seeds are made of `seed`, two int32 of at least 0; None
        keeps those that are given.
        """
        local = [non_trainable[i] for i in self.roles.local]
        for number, is_seed in enumerate(self.random_seeds):
            if is_seed and seed is not None:
                # Another first word for every generator, or two Dropout
                # layers of one shape would drop the same units. The second
                # word is the generator's counter.
                words = ops.cast(seed, self._local[number].dtype)
                local[number] = ops.concatenate(
                    [words[:1] + number, words[1:]], axis=0
                )
        return Variables(
            trainable=list(trainable),
            state=[non_trainable[i] for i in self.roles.state],
            local=local,
            metrics=[
                ops.zeros(v.shape, v.dtype) for v in self.metrics_variables
            ],
        )

    def frozen(self, non_trainable: Arrays) -> Arrays:
        """The values of the variables that nobody changes."""
        return [non_trainable[i] for i in self.roles.frozen]

    def loss(
        self,
        trainable: Arrays,
        variables: Variables,
        frozen: Arrays,
        batch: tuple,
        training: bool = True,
        optimizer: Any = None,
        optimizer_values: Sequence[Any] | None = None,
    ) -> tuple[Any, Variables]:
        """The loss of a batch at `trainable`, and the variables after it.

        An `optimizer` scales it where it asks for that (mixed precision in
        float16). `trainable` of the result is new only where the backend's own
        `fit` keeps what a layer assigns to its trainable weights.
        """
        weights = self.model.trainable_variables
        changing = (self._state, self._local, self.metrics_variables)
        pairs = [
            (weights, trainable),
            *zip(changing, variables[1:], strict=True),
            (self._frozen, frozen),
        ]
        if optimizer is not None:
            pairs.append((optimizer.variables, list(optimizer_values or ())))
        mapping = [p for pair in pairs for p in zip(*pair, strict=True)]
        with (
            _AssigningScope(mapping, weights) as scope,
            variable_roles.inferring(self._inferring),
        ):
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
            _, loss = self.forward(x, y, sample_weight, training)
            if optimizer is not None:
                loss = optimizer.scale_loss(loss)
            loss = current(loss)
        if training:
            self._check_kept(scope)

        def after(variables):
            return [scope.get_current_value(v) for v in variables]

        if backend.ASSIGNS_IN_PLACE:
            trainable = after(weights)
        return loss, Variables(list(trainable), *map(after, changing))

    def _check_kept(self, scope: "_AssigningScope") -> None:
        """Raises if training changed what would be lost, or was left alone."""
        for variable in scope.foreign:
            raise ValueError(
                f"Training changes the variable {variable.path!r}, which isn't "
                "one of the model's, so that no client could keep it. Random "
                "numbers: give the layer a generator of its own, "
                "`self.seed_generator = keras.random.SeedGenerator()`, and "
                "draw with `seed=self.seed_generator`. Other state: make it "
                "with `self.add_weight` (a metric: an attribute of the model)."
            )
        for i, variable in zip(self.roles.frozen, self._frozen, strict=True):
            if i not in self.roles.ignored and scope.is_assigned(variable):
                raise ValueError(
                    f"Training changes the variable {variable.path!r}, "
                    "and a call of the model by itself didn't, when the "
                    "process was built. Change it in the model's `call`, with "
                    "training=True."
                )

    def forward(self, x, y, sample_weight, training) -> tuple[Any, Any]:
        """The model's output and loss, for a `StatelessScope` around it.

        It also does what Keras's own steps do to the metrics.
        """
        model = self.model
        y_pred = model(x, **variable_roles.in_mode(model.call, training))
        loss = model.compute_loss(
            x=x,
            y=y,
            y_pred=y_pred,
            sample_weight=sample_weight,
            **variable_roles.in_mode(model.compute_loss, training),
        )
        tracker = keras_internals.loss_tracker(model)
        if tracker is not None:
            # The loss tracker weighs each batch by its number of examples.
            size = ops.shape(keras.tree.flatten(x)[0])[0]
            tracker.update_state(loss, sample_weight=size)
        model.compute_metrics(x, y, y_pred, sample_weight)
        return y_pred, loss

    def metrics_result(self, metrics: Arrays) -> dict[str, Any]:
        """Metric values by Keras's names from the metrics' variables.

        Of a metric of several values a dict's keys are names, as in Keras's
        logs, and an array's are `name_0`, `name_1`, ....
        """
        mapping = zip(self.metrics_variables, metrics, strict=True)
        with StatelessScope(mapping):
            result = current(self.model.get_metrics_result())
        flat: dict[str, Any] = {}
        _flatten_result(result, "", flat)
        return flat

    def count(
        self,
        trainable: Arrays,
        non_trainable: Arrays,
        metrics: Arrays,
        batch: tuple,
    ) -> Arrays:
        """The metrics' variables after what Keras's `test_step` does."""
        variables = self.start(trainable, non_trainable)
        _, after = self.loss(
            trainable,
            variables._replace(metrics=metrics),
            self.frozen(non_trainable),
            batch,
            training=False,
        )
        return after.metrics

    @functools.cached_property
    def count_batch(self) -> Callable[..., Arrays]:
        """`count`, compiled."""
        return backend.jit(self.count, free=(3,))

    @functools.cached_property
    def _lanes(self) -> dict[int, tuple[Callable, Callable]]:
        return {}

    def lanes(self, width: int) -> tuple[Callable, Callable]:
        """`count_batch` on one batch, and `compiled_result`, of many models.

        Of `width` values for each variable, along a leading axis. Programs of
        another width are others: they must not depend on what came before.
        """
        if width not in self._lanes:

            def count(trainable, non_trainable, metrics, batch):
                one = backend.vmap(lambda t, n, m: self.count(t, n, m, batch))
                return one(trainable, non_trainable, metrics)

            result = backend.vmap(self.metrics_result)
            self._lanes[width] = (
                backend.jit(count, free=(3,)),
                backend.jit(result),
            )
        return self._lanes[width]

    @functools.cached_property
    def compiled_result(self) -> Callable[[Arrays], dict[str, Any]]:
        """`metrics_result`, compiled."""
        return backend.jit(self.metrics_result)


def _one_row(spec: Any) -> np.ndarray:
    """An array of one example, in the dtype in which clients' are read."""
    dtype = getattr(spec.dtype, "as_numpy_dtype", spec.dtype)  # TensorFlow's
    dtype = np.dtype(object if dtype == "string" else dtype)
    if dtype.kind in "SUO":
        return np.full((1, *spec.shape), "")
    if dtype == np.float64:
        dtype = np.dtype(keras.backend.floatx())
    return np.zeros((1, *spec.shape), dtype)


def _flatten_result(result: Any, name: str, flat: dict[str, Any]) -> None:
    if isinstance(result, Mapping):
        for key, value in result.items():
            # Two metrics may have the same keys; Keras would keep one.
            taken = name and str(key) in flat
            _flatten_result(value, f"{name}_{key}" if taken else str(key), flat)
        return
    if not isinstance(result, (list, tuple)):
        if len(getattr(result, "shape", ())) == 0:
            flat[name] = ops.convert_to_tensor(result)
            return
        result = ops.unstack(ops.reshape(result, (-1,)))
    for i, value in enumerate(result):
        _flatten_result(value, f"{name}_{i}", flat)


class _AssigningScope(StatelessScope):
    """A scope in which layers may assign `weights` that are trained.

    Where a backend assigns in place, the gradient with respect to a weight is
    that with respect to all values that it has in a step, and none flows
    through what is assigned. Elsewhere it flows, as in the backend's `fit`.
    `foreign` is what was assigned and isn't in `mapping`.
    """

    def __init__(self, mapping: Sequence[Any], weights: Sequence[Any]):
        super().__init__(mapping, collect_losses=True)
        self._weights = {id(v) for v in weights}
        self._given = dict(self.state_mapping)
        self.foreign: list[keras.Variable] = []

    def add_update(self, update: tuple) -> None:
        variable, value = update
        if id(variable) not in self._given:
            self.foreign.append(variable)
        if id(variable) in self._weights and backend.ASSIGNS_IN_PLACE:
            weight = self._given[id(variable)]
            value = ops.stop_gradient(current(value)) + (
                weight - ops.stop_gradient(weight)
            )
        super().add_update((variable, value))

    def is_assigned(self, variable: keras.Variable) -> bool:
        """Whether a variable got another value in the scope."""
        key = id(variable)
        return self.state_mapping.get(key) is not self._given.get(key)


def to_backend(values: list[np.ndarray]) -> Arrays:
    """Arrays of the backend from arrays of the host."""
    return [ops.convert_to_tensor(v) for v in values]
