from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from fedlearn import backend
from fedlearn.clients.cohort import Cohort
from fedlearn.evaluation import batches
from fedlearn.keras_model.functional_model import Arrays, FunctionalModel
from fedlearn.metrics.name_classes import name_classes


def evaluate_in_lanes(
    model: FunctionalModel,
    weights: Sequence[tuple[Arrays, Arrays]],
    cohort: Cohort,
    asked: np.ndarray,
    batch_size: int,
) -> list[dict[str, dict[str, float]]]:
    """Metrics by client id of models of one architecture.

    A batch is read once for all of them, and one compiled call counts it for
    all that evaluate the client. `weights` has `(trainable, non_trainable)` of
    each model; `asked`, a row a model and a column a client, who evaluates
    what.
    """
    stacked = keras.tree.map_structure(
        lambda *arrays: ops.stack(arrays), *map(tuple, weights)
    )
    results: list[dict[str, dict[str, float]]] = [{} for _ in asked]
    # Each client's lanes are so many, filled up with the first: another
    # number would be another program. TensorFlow's rule for adding a
    # convolution's bias confuses a single lane with none.
    width = max(2, int(asked.sum(axis=0).max()))
    for i in np.flatnonzero(asked.any(axis=0)):
        client = cohort.read(int(i))
        count, result = model.lanes(width)
        mine = np.flatnonzero(asked[:, i])
        trainable, non_trainable = stacked
        if len(mine) < len(asked) or width > len(mine):
            at = np.full(width, mine[0])
            at[: len(mine)] = mine
            trainable, non_trainable = keras.tree.map_structure(
                lambda a, at=at: ops.take(a, at, axis=0), stacked
            )
        values: Arrays = [
            ops.zeros((width, *v.shape), v.dtype)
            for v in model.metrics_variables
        ]
        for batch in batches(model.model, client.data, batch_size):
            values = count(trainable, non_trainable, values, batch)
        numbers = backend.to_numpy(result(values))
        for lane, k in enumerate(mine):
            results[k][client.id] = name_classes(
                {name: float(v[lane]) for name, v in numbers.items()},
                cohort.class_names,
                model.metric_names,
            )
    return results
