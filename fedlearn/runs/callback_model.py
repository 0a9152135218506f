from typing import TYPE_CHECKING, Any

import keras
from keras import ops

if TYPE_CHECKING:
    from fedlearn.messages.server_state import ServerState
    from fedlearn.process import LearningProcess


class CallbackModel:
    """The model with the server's optimizer.

    ReduceLROnPlateau, LearningRateScheduler and TensorBoard look at
    `model.optimizer`. The model itself keeps its own, so that what
    ModelCheckpoint saves loads as the user compiled it.
    """

    def __init__(self, model: keras.Model, process: "LearningProcess"):
        object.__setattr__(self, "wrapped", model)
        object.__setattr__(self, "_process", process)

    @property
    def optimizer(self) -> keras.optimizers.Optimizer:
        return self._process._server_optimizer.optimizer

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # callbacks ask whether it is a model
        return type(self.wrapped)

    def __getattr__(self, name: str) -> Any:
        if name == "jax_state_sync":  # the weights are in the model already
            raise AttributeError(name)
        return getattr(self.wrapped, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.wrapped, name, value)


def set_rate(process: "LearningProcess", state: "ServerState") -> None:
    """Gives the server's optimizer the learning rate and step of a state."""
    server = process._server_optimizer
    for variable, value in zip(server.variables, state.optimizer, strict=True):
        if len(variable.shape) == 0:  # learning rate and step count
            variable.assign(value)


def with_rate(
    process: "LearningProcess", state: "ServerState"
) -> "ServerState":
    """The state with the learning rate that callbacks left."""
    server = process._server_optimizer
    rate = server.learning_rate(state.optimizer)
    if rate is None:
        return state
    now = float(ops.convert_to_numpy(server.optimizer.learning_rate))
    if now == rate:
        return state
    if server.is_plain_for:
        raise ValueError(
            f"A callback set the server's learning rate to {now:g}. The "
            f"server's step is a part of {server.is_plain_for} and stays as it "
            "is. Leave out callbacks such as LearningRateScheduler, or give "
            "LocalTraining's optimizer a schedule."
        )
    return state._replace(
        optimizer=server.with_learning_rate(state.optimizer, now)
    )
