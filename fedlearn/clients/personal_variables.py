from collections.abc import Callable, Sequence
from typing import Any

import keras

from fedlearn.keras_model.functional_model import Arrays, FunctionalModel

IsPersonal = Callable[[keras.Variable], bool]


class PersonalVariables:
    """Positions of what each client keeps to itself, and of what is shared.

    Attributes:
        trainable: Personal ones of `model.trainable_variables`.
        temporary: Those that a client makes anew in each round.
        shared: The others.
        state: Personal ones of `model.non_trainable_variables`.
        statistics: Those that layers change and that aren't personal.
        spec: Shapes and dtypes of the shared ones.
    """

    def __init__(
        self,
        model: FunctionalModel,
        is_personal: IsPersonal | None,
        keeps_statistics: bool,
        is_temporary: IsPersonal | None = None,
    ):
        is_personal = is_personal or (lambda variable: False)
        is_temporary = is_temporary or (lambda variable: False)
        trainable = model.model.trainable_variables
        others = model.model.non_trainable_variables
        mine = [is_personal(v) for v in trainable]
        self.trainable = tuple(i for i, m in enumerate(mine) if m)
        self.temporary = tuple(
            i for i, v in enumerate(trainable) if is_temporary(v)
        )
        self.shared = tuple(
            i for i, m in enumerate(mine) if not m and i not in self.temporary
        )
        self.state = tuple(
            i
            for i in model.roles.state
            if keeps_statistics or is_personal(others[i])
        )
        self.statistics = tuple(
            i
            for i in model.roles.state
            if i not in self.state and not is_temporary(others[i])
        )
        # Of the values: JAX without 64 bits holds float64 in 32.
        self.spec = [
            keras.KerasTensor(trainable[i].shape, trainable[i].value.dtype)
            for i in self.shared
        ]
        if not self.shared:
            raise ValueError(
                "All trained weights of the model would be personal, so that "
                "clients would share nothing. Expected that some are shared."
            )

    def of(self, trainable: Arrays, non_trainable: Any) -> Arrays:
        """What is personal among the values of a model's variables."""
        return [
            *(trainable[i] for i in self.trainable),
            *(non_trainable[i] for i in self.state),
        ]

    def put(
        self, trainable: Arrays, non_trainable: Arrays, own: Arrays
    ) -> tuple[Arrays, Arrays]:
        """The values of a model's variables with a client's own in place."""
        count = len(self.trainable)
        return (
            _placed(trainable, self.trainable, own[:count]),
            _placed(non_trainable, self.state, own[count:]),
        )

    def shared_of(self, values: Any) -> tuple[Arrays, Arrays]:
        """Weights and statistics that are shared, of a state or broadcast."""
        return (
            [values.trainable[i] for i in self.shared],
            [values.non_trainable[i] for i in self.statistics],
        )

    def put_shared(
        self,
        trainable: Arrays,
        non_trainable: Arrays,
        weights: Arrays,
        statistics: Arrays,
    ) -> tuple[Arrays, Arrays]:
        """The values of a model's variables with shared ones in place."""
        return (
            _placed(trainable, self.shared, weights),
            _placed(non_trainable, self.statistics, statistics),
        )


def _placed(values: Arrays, positions: Sequence[int], new: Arrays) -> Arrays:
    """`values` with `new` ones at some positions."""
    values = list(values)
    for i, value in zip(positions, new, strict=True):
        values[i] = value
    return values
