from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="fedlearn")
class Yogi(keras.optimizers.Optimizer):
    r"""The Yogi optimizer, a variant of Adam for sparse or noisy gradients.

    As the server optimizer of `fedlearn.FederatedAveraging` it gives FedYogi
    (Reddi et al. 2021), where the clients' mean update takes the place of
    the negative gradient. For a gradient `g`:

        m <- beta_1 * m + (1 - beta_1) * g
        v <- v - (1 - beta_2) * sign(v - g^2) * g^2
        w <- w - learning_rate * m / (sqrt(v) + epsilon)

    Adam moves `v` towards `g^2` by a fraction of their difference, so one
    large gradient is forgotten at the same rate whatever follows. Yogi's `v`
    changes by at most a fraction of `g^2`: small gradients after a large one
    raise the step slowly. From a `v > 0`, it stays positive.

    There is no bias correction, as in both papers (TensorFlow Addons and
    optax do correct). Adam's divides by `1 - beta_2^t` because an average
    that starts at zero is too small by that factor; Yogi's `v` is not such an
    average and does not start at zero.

    Args:
        learning_rate: A float, a `keras.optimizers.schedules` schedule, or a
            callable without arguments that returns the value.
        beta_1: Float in [0, 1). Decay of the first moment `m`.
        beta_2: Float in [0, 1). Decay of the second moment `v`.
        epsilon: Positive float added to `sqrt(v)`. Reddi et al. call it tau,
            the degree of adaptivity, and use 1e-3.
        initial_accumulator_value: Float, at least 0. Where `v` starts. The
            default is `epsilon^2` for the default `epsilon`, the least that
            the analysis of Reddi et al. allows.
        weight_decay: As in every Keras optimizer, like the remaining
            arguments (`clipnorm`, `use_ema`, ...), which go to
            `keras.optimizers.Optimizer`.
        name: Name of the optimizer.
        **kwargs: See `weight_decay`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> optimizer = Yogi(learning_rate=0.1, epsilon=1e-3)
    >>> w = keras.Variable([1.0, 1.0])
    >>> optimizer.apply([keras.ops.array([1.0, -0.5])], [w])
    >>> print(keras.ops.convert_to_numpy(w).round(2))
    [0.69 1.3 ]

    Sources: Zaheer, Reddi, Sachan, Kale and Kumar, "Adaptive methods for
    nonconvex optimization", NeurIPS 2018, algorithm 2. Reddi, Charles,
    Zaheer, Garrett, Rush, Konecny, Kumar and McMahan, "Adaptive federated
    optimization", ICLR 2021, algorithm 2.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-3,
        initial_accumulator_value: float = 1e-6,
        weight_decay: float | None = None,
        name: str = "yogi",
        **kwargs: Any,
    ) -> None:
        for label, beta in (("beta_1", beta_1), ("beta_2", beta_2)):
            if not 0 <= beta < 1:
                raise ValueError(f"{label} must be in [0, 1). Got {beta}.")
        if not epsilon > 0:
            raise ValueError(f"epsilon must be positive. Got {epsilon}.")
        if not initial_accumulator_value >= 0:
            raise ValueError(
                "initial_accumulator_value must be at least 0. "
                f"Got {initial_accumulator_value}."
            )
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            name=name,
            **kwargs,
        )
        self.beta_1 = beta_1
        self.beta_2 = beta_2
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

    def update_step(self, gradient, variable, learning_rate):
        learning_rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        index = self._get_variable_index(variable)
        m = self._momentums[index]
        v = self._velocities[index]

        self.assign_add(m, (1 - self.beta_1) * (gradient - m))
        square = ops.square(gradient)
        self.assign_sub(v, (1 - self.beta_2) * ops.sign(v - square) * square)
        self.assign_sub(
            variable, learning_rate * m / (ops.sqrt(v) + self.epsilon)
        )

    def get_config(self):
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "initial_accumulator_value": self.initial_accumulator_value,
        }
