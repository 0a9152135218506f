import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from fedlearn import backend, checks, executors
from fedlearn.advice.did_you_mean import did_you_mean
from fedlearn.clients.cohort import Cohort
from fedlearn.evaluation import client_weights, evaluate_values, given_or_last
from fedlearn.executors import model_work
from fedlearn.executors.auto import Auto
from fedlearn.executors.vectorized import Vectorized, lane_limit
from fedlearn.keras_model import keras_internals
from fedlearn.keras_model.functional_model import (
    Arrays,
    FunctionalModel,
    to_backend,
)
from fedlearn.many_models.comparison import Comparison
from fedlearn.many_models.design import design
from fedlearn.many_models.lanes import evaluate_in_lanes
from fedlearn.metrics import mergeable
from fedlearn.process import LearningProcess
from fedlearn.runs import run_identity


class _Model(NamedTuple):
    """One of the models; `own_weights` by client where they are personal."""

    name: str
    functional: FunctionalModel
    weights: tuple[Arrays, Arrays]
    own_weights: Any = None


def evaluate_many(
    models: Mapping[str, Any] | Sequence[Any],
    data: Any,
    clients_per_model: int | None = None,
    metric: str = "loss",
    mode: str = "auto",
    seed: int = 0,
    executor: Any = "auto",
    batch_size: int = 256,
) -> Comparison:
    """Evaluates many models, each on a random part of the clients.

    Of `clients_per_model` each client evaluates about four, chosen so that any
    two models have clients in common: differences between models are then
    told from differences between clients at a small part of the cost of
    evaluating everything everywhere. Clients without examples aren't asked.

    Args:
        models: By name, or as a list, whose names are "0", "1", ...: compiled
            `keras.Model`s, processes that were trained, or
            `(process, state)` pairs.
        data: Clients, as for `fedlearn.evaluate`.
        clients_per_model: How many clients evaluate each model; None for all.
        metric: Which of the models' metrics to compare, by Keras's name.
        mode: Whether the best has the `"min"` or the `"max"` of it; `"auto"`
            asks Keras's metric.
        seed: Of who evaluates what.
        executor: Models of one architecture are stacked and evaluated in
            lanes with `"vectorized"`, one after another with `"sequential"`;
            with `"auto"` in lanes where they are light. The numbers are equal
            up to the rounding of float32 sums. Other models take turns.
        batch_size: Examples at a time, as for `fedlearn.evaluate`.

    Returns:
        A `fedlearn.many_models.Comparison`. Each client's value is that of
        `process.evaluate(clients, per_client=True)`.

    Raises:
        TypeError: If one isn't a model or process.
        ValueError: If a model isn't compiled, has no such metric or can't take
            the examples; if there are fewer clients than `clients_per_model`.

    Example:

    >>> import keras, numpy as np
    >>> def model(weight):
    ...     model = keras.Sequential(
    ...         [keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    ...     model.compile(loss="mse")
    ...     model.set_weights([np.full((1, 1), weight)])
    ...     return model
    >>> x = np.ones((5, 1), "float32")
    >>> clients = [(x, x * slope) for slope in (1.0, 1.1, 0.8, 1.2, 0.9)]
    >>> models = {"one": model(1.0), "two": model(2.0)}
    >>> comparison = evaluate_many(models, clients)
    >>> comparison.best, round(comparison.mean["one"], 3)
    ('one', 0.02)
    """
    executor = executors.get(executor)
    found = _models(models, data)
    cohort = Cohort(data, found[0].functional)
    with_examples = [i for i in range(len(cohort)) if cohort.num_examples(i)]
    total = len(with_examples)
    if not total:
        raise ValueError("No client has examples to evaluate the models on.")
    if clients_per_model is None:
        clients_per_model = total
    if checks.whole("clients_per_model", clients_per_model) > total:
        raise ValueError(
            f"clients_per_model={clients_per_model}, but only {total} clients "
            f"have examples. Expected 1 to {total}, or None for all of them."
        )
    asked = np.zeros((len(found), len(cohort)), bool)
    asked[:, with_examples] = design(
        len(found), total, clients_per_model, int(seed)
    )
    results: dict[str, dict[str, dict[str, float]]] = {}
    for members in _alike(found):
        lead = found[members[0]]
        cohort = Cohort(data, lead.functional)
        some = _evaluate(
            [found[i] for i in members],
            cohort,
            asked[members],
            executor,
            batch_size,
        )
        for i, by_client in zip(members, some, strict=True):
            results[found[i].name] = by_client
    values = {}
    for name in (model.name for model in found):
        known = next(iter(results[name].values())).keys() - {"num_examples"}
        if metric not in known:
            raise ValueError(
                f"The model {name!r} has no metric {metric!r}. It has: "
                f"{', '.join(sorted(known))}.{did_you_mean(metric, known)}"
            )
        values[name] = {c: own[metric] for c, own in results[name].items()}
    if mode == "auto":
        mode = _mode(found[0].functional, metric)
    return Comparison(values, metric, mode)


def _models(models: Any, data: Any) -> list[_Model]:
    if isinstance(models, Sequence) and not isinstance(models, str):
        models = {str(i): model for i, model in enumerate(models)}
    if not isinstance(models, Mapping):
        raise TypeError(
            "`models` must be a dict from names to models, or a list of them. "
            f"Received: {type(models).__name__}."
        )
    if not models:
        raise ValueError("`models` is empty: there is nothing to evaluate.")
    return [_model(str(name), model, data) for name, model in models.items()]


def _model(name: str, model: Any, data: Any) -> _Model:
    process, state = model if isinstance(model, tuple) else (model, None)
    try:
        if isinstance(process, LearningProcess):
            state = given_or_last(process, state)
            if process._tuning is not None:
                raise ValueError(
                    "Its clients train before an evaluation, which "
                    "`process.evaluate` does for one model."
                )
            process.cohort(data)  # refuses classes that are numbered otherwise
            return _Model(
                name,
                process.functional_model,
                (list(state.trainable), list(state.non_trainable)),
                client_weights(process, state),
            )
        functional = FunctionalModel(model)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"The model {name!r} can't be evaluated: {error} Expected a "
            "compiled keras.Model, a process that was trained, or a pair "
            "`(process, state)`."
        ) from error
    trainable, non_trainable = map(to_backend, functional.values())
    return _Model(name, functional, (trainable, non_trainable))


def _alike(models: Sequence[_Model]) -> Iterable[list[int]]:
    """Positions of models that differ in nothing but their weights."""
    groups: dict[Any, list[int]] = {}
    for i, (_, functional, _, own_weights) in enumerate(models):
        model = functional.model
        key: Any = id(model)
        if own_weights is not None:
            key = (id(model), i)
        elif not any(
            hasattr(x, "adapt") for x in keras_internals.layers(model)
        ):
            # What a layer was adapted to isn't only in its weights.
            key = json.dumps(run_identity.of_model(model))
        groups.setdefault(key, []).append(i)
    return groups.values()


def _evaluate(
    models: Sequence[_Model],
    cohort: Cohort,
    asked: np.ndarray,
    executor: Any,
    batch_size: int,
) -> list[dict[str, dict[str, float]]]:
    """Metrics by client of models that are alike."""
    lead = models[0]
    sizes = [cohort.num_examples(int(i)) for i in np.flatnonzero(asked.any(0))]
    if len(models) > 1 and _in_lanes(
        lead.functional.model, executor, sizes, batch_size
    ):
        most = getattr(executor, "max_lanes", None)
        limit = most or lane_limit(*lead.weights)
        return [
            result
            for i in range(0, len(models), limit)
            for result in evaluate_in_lanes(
                lead.functional,
                [m.weights for m in models[i : i + limit]],
                cohort,
                asked[i : i + limit],
                batch_size,
            )
        ]
    return [
        evaluate_values(
            lead.functional,
            model.weights,
            cohort.part([int(i) for i in np.flatnonzero(mine)]),
            per_client=True,
            batch_size=batch_size,
            weights_of=model.own_weights,
        )["per_client"]
        for model, mine in zip(models, asked, strict=True)
    ]


def _in_lanes(
    model: keras.Model, executor: Any, num_examples: Sequence[int], most: int
) -> bool:
    """Whether models pay in lanes, by the limits that `Auto` has for clients.

    Not for convolutions by XLA on CPU, which are slow with kernels of each
    lane's own; on TensorFlow they aren't (`benchmarks/many_models.py`).
    """
    if not isinstance(executor, Auto):
        return isinstance(executor, Vectorized)
    if backend.name == "jax" and model_work.convolves(model):
        return False
    if backend.name != "jax" and not model_work.has_plain_layers(model):
        return False
    rows = min(most, float(np.mean(num_examples)))
    work = model_work.multiplications(model) * rows
    return bool(work <= Auto.MAX_STEP_WORK[backend.name])


def _mode(model: FunctionalModel, metric: str) -> str:
    if metric == "loss":
        return "min"
    fitting = [
        m
        for m in mergeable.metrics_of(model.model)
        if metric == m.name or metric.startswith(f"{m.name}_")
    ]
    fitting.sort(key=lambda m: len(m.name))
    direction = keras_internals.direction(fitting[-1]) if fitting else None
    if direction is None:
        raise ValueError(
            f"Keras doesn't know whether {metric!r} is better high or low. "
            "Give mode='max' or mode='min'."
        )
    return direction
