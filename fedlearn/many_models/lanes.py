from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from fedlearn import backend
from fedlearn.clients.cohort import Cohort
from fedlearn.evaluation import batches
from fedlearn.keras_model.functional_model import Arrays, FunctionalModel
from fedlearn.metrics.name_classes import name_classes


class Lanes:
    """Models of one architecture, each in a lane of a leading axis.

    A batch is read once for all of them, and one compiled call counts it for
    all that evaluate the client. `weights` has `(trainable, non_trainable)` of
    each model.
    """

    def __init__(
        self, model: FunctionalModel, weights: Sequence[tuple[Arrays, Arrays]]
    ):
        self._model = model
        pairs = zip(*[(*t, *n) for t, n in weights], strict=True)
        self._weights = [ops.stack(arrays) for arrays in pairs]
        self._num_trainable = len(weights[0][0])
        self._take = backend.jit(
            lambda weights, at: [ops.take(w, at, axis=0) for w in weights]
        )
        self._count = backend.jit(self._count_fn, free=(2,))
        self._result = backend.jit(backend.vmap(model.metrics_result))

    def evaluate(
        self, cohort: Cohort, asked: np.ndarray, batch_size: int
    ) -> list[dict[str, dict[str, float]]]:
        """Each model's metrics by client id.

        `asked`, a row a model and a column a client, says who evaluates what.
        """
        results: list[dict[str, dict[str, float]]] = [{} for _ in asked]
        # Each client's lanes are so many, filled up with the first: another
        # number would be another program. TensorFlow's rule for adding a
        # convolution's bias confuses a single lane with none.
        width = max(2, int(asked.sum(axis=0).max()))
        for i in np.flatnonzero(asked.any(axis=0)):
            client = cohort.read(int(i))
            mine = np.flatnonzero(asked[:, i])
            at = np.full(width, mine[0], np.int32)
            at[: len(mine)] = mine
            weights = self._take(self._weights, at)
            values: Arrays = [
                ops.zeros((width, *v.shape), v.dtype)
                for v in self._model.metrics_variables
            ]
            for batch in batches(self._model.model, client.data, batch_size):
                values = self._count(weights, values, batch)
            numbers = backend.to_numpy(self._result(values))
            for lane, k in enumerate(mine):
                results[k][client.id] = name_classes(
                    {name: float(v[lane]) for name, v in numbers.items()},
                    cohort.class_names,
                    self._model.metric_names,
                )
        return results

    def _count_fn(self, weights: Arrays, values: Arrays, batch: Any) -> Arrays:
        def one(weights, values):
            trainable = weights[: self._num_trainable]
            other = weights[self._num_trainable :]
            return self._model.count(trainable, other, values, batch)

        return backend.vmap(one)(weights, values)
