"""The adaptive server optimizers of Reddi et al. 2021."""

import re
from typing import Any

import keras
from keras import ops

from fedlearn.keras_model import keras_internals


class _Adaptive(keras.optimizers.Optimizer):
    """Algorithm 2: what its three optimizers have in common."""

    def __init__(
        self,
        learning_rate: Any,
        beta_1: float,
        epsilon: float = 1e-3,
        initial_accumulator_value: float | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        if name is None:  # of FedAdam fed_adam
            name = re.sub("(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.beta_1 = _checked_beta("beta_1", beta_1)
        if not epsilon > 0:
            raise ValueError(f"epsilon must be positive. Got {epsilon}.")
        if initial_accumulator_value is None:
            # The least that the paper's analysis allows.
            initial_accumulator_value = epsilon**2
        if not initial_accumulator_value >= 0:
            raise ValueError(
                "initial_accumulator_value must be at least 0. "
                f"Got {initial_accumulator_value}."
            )
        self.epsilon = epsilon
        self.initial_accumulator_value = initial_accumulator_value

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._momentums = self.add_optimizer_variables(variables, "momentum")
        self._velocities = self.add_optimizer_variables(
            variables,
            "velocity",
            initializer=keras.initializers.Constant(
                self.initial_accumulator_value
            ),
        )

    def _change(self, velocity: Any, square: Any) -> Any:
        """What a squared gradient adds to the second moment."""
        raise NotImplementedError

    def update_step(self, gradient, variable, learning_rate):
        learning_rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        index = keras_internals.variable_index(self, variable)
        m = self._momentums[index]
        v = self._velocities[index]

        self.assign_add(m, (1 - self.beta_1) * (gradient - m))
        self.assign_add(v, self._change(v, ops.square(gradient)))
        self.assign_sub(
            variable, learning_rate * m / (ops.sqrt(v) + self.epsilon)
        )

    def get_config(self):
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "epsilon": self.epsilon,
            "initial_accumulator_value": self.initial_accumulator_value,
        }


def _checked_beta(name: str, beta: float) -> float:
    if not 0 <= beta < 1:
        raise ValueError(f"{name} must be in [0, 1). Got {beta}.")
    return beta


@keras.saving.register_keras_serializable(package="fedlearn")
class FedAdagrad(_Adaptive):
    r"""The server optimizer of FedAdagrad.

    The clients' mean update takes the place of the negative gradient `g`:

        m <- beta_1 * m + (1 - beta_1) * g
        v <- v + g^2
        w <- w - learning_rate * m / (sqrt(v) + epsilon)

    `keras.optimizers.Adagrad` has no momentum, puts epsilon under the root,
    and starts `v` at 0.1, which suits gradients: updates are smaller.

    Args:
        learning_rate: A float, a `keras.optimizers.schedules` schedule, or a
            callable without arguments that returns the value.
        beta_1: Float in [0, 1). Decay of the first moment `m`; 0, as in the
            paper's experiments, for none.
        epsilon: Positive float. The paper's tau, the degree of adaptivity.
        initial_accumulator_value: Float, at least 0. Where `v` starts; None
            for `epsilon^2`, the least that the paper's analysis allows.
        name: Name of the optimizer.
        **kwargs: As in every Keras optimizer: `weight_decay`, `clipnorm`, ...

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> optimizer = FedAdagrad(learning_rate=0.1)
    >>> w = keras.Variable([1.0, 1.0])
    >>> optimizer.apply([keras.ops.array([1.0, -0.5])], [w])
    >>> print(keras.ops.convert_to_numpy(w).round(2))
    [0.9 1.1]

    Source: Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar and McMahan,
    "Adaptive federated optimization", ICLR 2021, algorithm 2.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        beta_1: float = 0.0,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, *args, **kwargs)

    def _change(self, velocity, square):
        return square


@keras.saving.register_keras_serializable(package="fedlearn")
class FedAdam(_Adaptive):
    r"""The server optimizer of FedAdam: Adam without bias correction.

    As `FedAdagrad`, but

        v <- beta_2 * v + (1 - beta_2) * g^2

    `keras.optimizers.Adam` divides the moments by `1 - beta_1^t` and
    `1 - beta_2^t`, since averages that start at zero are too small by these
    factors. The paper's does not, and runs of ten or a hundred rounds end
    elsewhere.

    Args:
        learning_rate: As in `FedAdagrad`.
        beta_1: As in `FedAdagrad`.
        beta_2: Float in [0, 1). Decay of the second moment `v`; 0.99 in the
            paper's experiments.
        *args: The others, as in `FedAdagrad`, in that order.
        **kwargs: The others by name.

    Example:

    >>> optimizer = FedAdam(learning_rate=0.1)
    >>> w = keras.Variable([1.0, 1.0])
    >>> optimizer.apply([keras.ops.array([1.0, -0.5])], [w])
    >>> print(keras.ops.convert_to_numpy(w).round(2))
    [0.9 1.1]
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, *args, **kwargs)
        self.beta_2 = _checked_beta("beta_2", beta_2)

    def _change(self, velocity, square):
        return (1 - self.beta_2) * (square - velocity)

    def get_config(self):
        return {**super().get_config(), "beta_2": self.beta_2}


@keras.saving.register_keras_serializable(package="fedlearn")
class FedYogi(FedAdam):
    r"""The server optimizer of FedYogi, for sparse or noisy updates.

    As `FedAdam`, with the same arguments, but

        v <- v - (1 - beta_2) * sign(v - g^2) * g^2

    Adam moves `v` towards `g^2` by a fraction of their difference, so one
    large gradient is forgotten at the same rate whatever follows. Yogi's `v`
    changes by at most a fraction of `g^2`: small gradients after a large one
    raise the step slowly. From a `v > 0`, it stays positive. There is no bias
    correction, as in both papers (TensorFlow Addons and optax do correct).

    Sources: Zaheer, Reddi, Sachan, Kale and Kumar, "Adaptive methods for
    nonconvex optimization", NeurIPS 2018, algorithm 2; Reddi et al. 2021, see
    `FedAdagrad`.
    """

    def _change(self, velocity, square):
        return (self.beta_2 - 1) * ops.sign(velocity - square) * square


@keras.saving.register_keras_serializable(package="fedlearn")
class Yogi(FedYogi):
    """`FedYogi` with the `beta_2` of Zaheer et al. 2018, for gradients.

    The arguments are those of `FedAdam`.

    Example:

    >>> Yogi().beta_2, FedYogi().beta_2
    (0.999, 0.99)
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, *args, **kwargs)
