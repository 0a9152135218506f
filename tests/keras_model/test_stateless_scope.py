import keras
import numpy as np

from fedlearn import backend
from fedlearn.keras_model.stateless_scope import StatelessScope, current
from fedlearn.optimizers.functional import FunctionalOptimizer


def test_a_variable_is_assigned_what_another_holds_at_that_time():
    a, b = keras.Variable([1.0, 2.0]), keras.Variable([3.0, 4.0])

    def swapped(first, second):
        with StatelessScope([(a, first), (b, second)]) as scope:
            before = a + 0.0
            a.assign(b)
            b.assign(before)
            now = current({"a": a, "twice": [b * 2.0]})
        return scope.get_current_value(a), scope.get_current_value(b), now

    first, second, now = backend.to_numpy(
        backend.jit(swapped)(
            keras.ops.array([5.0, 6.0]), keras.ops.array([7.0, 8.0])
        )
    )
    np.testing.assert_array_equal(first, [7, 8])
    np.testing.assert_array_equal(second, [5, 6])
    np.testing.assert_array_equal(now["a"], [7, 8])
    np.testing.assert_array_equal(now["twice"][0], [10, 12])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(a), [1, 2])


class Remembering(keras.optimizers.SGD):
    """Keeps the weights before its step: assigns a variable to another."""

    def build(self, variables):
        super().build(variables)
        self.previous = [
            self.add_variable_from_reference(v, name="previous")
            for v in variables
        ]

    def update_step(self, gradient, variable, learning_rate):
        self.previous[self._get_variable_index(variable)].assign(variable)
        super().update_step(gradient, variable, learning_rate)


def test_an_optimizer_that_keeps_the_weights_before_its_step():
    variable = keras.Variable([0.0, 0.0])
    functional = FunctionalOptimizer(Remembering(0.5), [variable])
    weights = [keras.ops.array([1.0, 2.0])]
    values = functional.initial_values(weights)
    grads = [keras.ops.array([1.0, -1.0])]
    step = backend.jit(functional.apply)
    for expected in ([1.0, 2.0], [0.5, 2.5]):
        weights, values = step(values, grads, weights)
        position = next(
            i
            for i, v in enumerate(functional.variables)
            if v is functional.optimizer.previous[0]
        )
        kept = backend.to_numpy(values)[position]
        np.testing.assert_allclose(kept, expected)
    np.testing.assert_allclose(backend.to_numpy(weights)[0], [0, 3])
