import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from fedlearn import backend
from fedlearn.aggregators.aggregator import Aggregator, layout
from fedlearn.clients import layer_statistics
from fedlearn.clients.algorithm import Carry, Local, Shared
from fedlearn.clients.local_trainer import LocalTrainer
from fedlearn.keras_model.functional_model import Arrays
from fedlearn.messages import wire
from fedlearn.messages.broadcast import Received
from fedlearn.messages.message import Message

# A client's, beyond which weights in float32 aren't whole, and sums in int32
# of some clients overflow.
_MOST_EXAMPLES = 2**24


class ClientState(NamedTuple):
    """What a client keeps from round to round.

    `personal` has the values of trainable variables, then of those that layers
    change.
    """

    encoders: Any = ()
    algorithm: Any = ()
    personal: Sequence[Any] = ()


class Result(NamedTuple):
    """What a client's training came to, before it is encoded."""

    update: Arrays
    statistics: Arrays
    metrics: Arrays
    client_state: ClientState


class Accepted(NamedTuple):
    """What the server makes of a client's message.

    Where not all of it is `finite`, the client is left out.
    """

    summand: Any
    metrics: Arrays
    num_examples: Any
    finite: Any


class ClientProgram:
    """A client's round as pure functions, for executors to compile.

    A round at a client is `start`, then each of `steps` for its batches of
    `passes`, then `send`; what is sent the server takes in with `accept`.

    Attributes:
        batches: `(num_examples, seed)` to the positions of the examples of
            each step, int32, on the host.
        step: `LocalTrainer.step`.
        steps: `step`; before it `look`, where the algorithm has that.
        per_example: Whether `step` may be given rows that don't count,
            whatever the model. Its batches have any length, also 0.
        weighs_examples: Whether `step` gives examples weights of their own.
        stacked: Whether summands are stacked and not added.
        varies_in_length: Whether clients' messages do.
    """

    def __init__(self, trainer: LocalTrainer, aggregator: Aggregator):
        self.trainer = trainer
        self.aggregator = aggregator
        self.model = trainer.model
        self.batch_size = trainer.config.batch_size
        self.per_example = trainer.per_example
        self.batches = functools.partial(
            trainer.algorithm.batches, trainer.batches
        )
        self.step = trainer.step
        self.steps: tuple[Callable[..., Carry], ...] = (trainer.step,)
        if trainer.algorithm.looks:
            self.steps = (trainer.look, trainer.step)
        self.weighs_examples = trainer.config.class_weight is not None
        self.stacked = aggregator.reduction == "stack"
        self.varies_in_length = aggregator.varies_in_length
        self.statistics = trainer.personal.statistics
        self._known: dict[int, tuple[Message, Message, int]] = {}

    # At the client.

    def passes(self, num_examples: int, seed: int) -> list[list[np.ndarray]]:
        """`batches`, and before it those of `look`: for each of `steps`."""
        order, size = np.arange(num_examples, dtype=np.int32), self.batch_size
        looks = [order[i : i + size] for i in range(0, num_examples, size)]
        return [looks, self.batches(num_examples, seed)][-len(self.steps) :]

    def start(
        self, broadcast: Received, seed: Any, client_state: Any = ()
    ) -> Carry:
        """What the first step starts from; `()` for a client seen first."""
        client_state = client_state or self.fresh(broadcast)
        trainable, non_trainable = self.trainer.personal.put(
            broadcast.trainable,
            broadcast.non_trainable,
            client_state.personal,
        )
        own = broadcast._replace(
            trainable=trainable, non_trainable=non_trainable
        )
        return self.trainer.start(own, seed, client_state.algorithm)

    def finish(
        self, broadcast: Received, carry: Carry, client_state: ClientState
    ) -> Result:
        """What the client's training came to."""
        trainer, variables = self.trainer, carry.variables
        state = dict(zip(self.model.roles.state, variables.state, strict=True))
        update, extra, kept = trainer.algorithm.finish(
            Local(broadcast, trainer.optimizer, trainer.personal),
            carry,
            [
                variables.trainable[i] - broadcast.trainable[i]
                for i in trainer.personal.shared
            ],
            client_state.algorithm,
        )
        return Result(
            [*update, *extra],
            [state[i] for i in self.statistics],
            list(variables.metrics),
            ClientState(
                client_state.encoders,
                kept,
                trainer.personal.of(variables.trainable, state),
            ),
        )

    def send(
        self,
        broadcast: Received,
        carry: Carry,
        num_examples: Any,
        seed: Any,
        client_state: Any = (),
    ) -> tuple[Message, ClientState]:
        """What the client sends, and what it keeps.

        If the update isn't finite, that is what it had.
        """
        before = client_state or self.fresh(broadcast)
        result = self.finish(broadcast, carry, before)
        message, after, finite = self.encode(
            broadcast, result, num_examples, seed, before
        )
        # A branch and not `where`, which would copy all of it.
        return message, ops.cond(finite, lambda: after, lambda: before)

    def encode(
        self,
        broadcast: Received,
        result: Result,
        num_examples: Any,
        seed: Any,
        before: ClientState,
    ) -> tuple[Message, ClientState, Any]:
        """What the client sends, would keep, and whether all is finite."""
        encoded, memory = self.aggregator.encode(
            result.update, broadcast.params, seed, before.encoders
        )
        after = result.client_state._replace(encoders=memory)
        finite = all_finite(
            (result.update, result.statistics, after[1:], encoded)
        )
        message = Message(
            encoded,
            [*result.metrics, *result.statistics],
            ops.where(finite, num_examples, -1),
        )
        return message, after, finite

    # At the server.

    def accept(self, params: Any, message: Message) -> Accepted:
        num_metrics = len(message.told) - len(self.statistics)
        statistics = message.told[num_metrics:]
        num_examples = ops.cast(ops.maximum(message.num_examples, 0), "float32")
        weight = self.aggregator.weight(num_examples)
        summand = {
            "update": self.aggregator.summand(
                message.update, num_examples, params
            ),
            "statistics": layer_statistics.summand(
                statistics,
                ops.where(num_examples > 0, weight, ops.zeros_like(weight)),
                stacked=self.stacked,
            ),
        }
        checked = [message.update, statistics]
        if self.aggregator.encoders:  # a cast may make numbers infinite
            checked.append(summand["update"])
        finite = ops.logical_and(message.num_examples >= 0, all_finite(checked))
        return Accepted(
            summand, message.told[:num_metrics], message.num_examples, finite
        )

    # On the host.

    def to_wire(self, message: Message) -> Message:
        """A message as it is sent, of NumPy arrays."""
        message = backend.to_numpy(message)
        return message._replace(update=self.aggregator.to_wire(message.update))

    def bytes_up(self, message: Message | None = None) -> int:
        """How many bytes a message is; any, where all are of one length."""
        if message is not None:
            return wire.length(self.to_wire(message))
        return self._specs()[2]

    def message_spec(self, on_the_wire: bool = True) -> Message:
        """Shapes and dtypes of a client's message.

        As it is sent, lengths that vary are None; else as compiled functions
        see it.
        """
        spec, sent_spec, _ = self._specs()
        return sent_spec if on_the_wire else spec

    def _specs(self) -> tuple[Message, Message, int]:
        """Of messages as they are, and as they are sent; their bytes."""
        known = len(self.model.metrics_variables)  # none before an example
        if known not in self._known:
            message = self.nothing()
            sent = self.to_wire(message)
            spec, sent_spec = keras.tree.map_structure(
                lambda a: keras.KerasTensor(a.shape, a.dtype.name),
                (message, sent),
            )
            if self.varies_in_length:
                encoded, stats = sent_spec.update
                loose = keras.tree.map_structure(
                    lambda s: keras.KerasTensor((None, *s.shape[1:]), s.dtype),
                    encoded,
                )
                sent_spec = sent_spec._replace(update=(loose, stats))
            self._known[known] = spec, sent_spec, wire.length(sent)
        return self._known[known]

    def nothing(self) -> Message:
        """The message of a client that has no examples, of NumPy arrays."""
        aggregator = self.aggregator
        seed = ops.convert_to_tensor(seed_words(0))
        zeros = [ops.zeros(s.shape, s.dtype) for s in aggregator.spec]
        encoded, _ = aggregator.encode(
            zeros,
            aggregator.params(aggregator.init(), seed),
            seed,
            aggregator.init_memory(),
        )
        variables = self.model.model.non_trainable_variables
        told = [
            *self.model.metrics_variables,
            *(variables[i] for i in self.statistics),
        ]
        message = Message(
            encoded,
            [ops.zeros(v.shape, v.value.dtype) for v in told],
            ops.zeros((), "int32"),
        )
        return backend.to_numpy(message)

    def from_wire(self, message: Message) -> Message:
        """A message as compiled functions take it, of one that came.

        One that claims what can't be is made one of a client that is left
        out. Raises ValueError if it isn't of `message_spec`.
        """
        spec = self.message_spec(on_the_wire=False)
        if not isinstance(message, Message):
            raise ValueError(
                "Expected a Message, as `wire.unpack(data, like=process."
                f"message_spec)` makes. Received: {type(message).__name__}."
            )
        for name in ("told", "num_examples"):
            found, expected = (
                layout(getattr(m, name)) for m in (message, spec)
            )
            if found != expected:
                raise ValueError(
                    f"A client's message has {name}={found}, and {expected} "
                    "was expected. Do client and server have the same model, "
                    "and does the server know its metrics, by "
                    "`process.build(spec)`?"
                )
        # With `dp` an example may have made metrics NaN, and counts as zero.
        told_is_finite = self.per_example or all(
            np.all(np.isfinite(a)) for a in message.told
        )
        if not told_is_finite or message.num_examples > _MOST_EXAMPLES:
            message = message._replace(num_examples=np.asarray(-1, np.int32))
        return message._replace(
            update=self.aggregator.from_wire(message.update, spec.update)
        )

    def fresh(self, broadcast: Any) -> ClientState:
        """What a client keeps that is seen first."""
        personal = self.trainer.personal
        return ClientState(
            self.aggregator.init_memory(),
            self.trainer.algorithm.init_client(
                Shared(*personal.shared_of(broadcast))
            ),
            personal.of(broadcast.trainable, broadcast.non_trainable),
        )


def all_finite(tree: Any) -> Any:
    """Whether all floats of a pytree are finite, a bool scalar.

    By their sum: one pass, and numbers of 1e30 that overflow it are no update
    either.
    """
    finite = ops.convert_to_tensor(True)
    for array in keras.tree.flatten(tree):
        dtype = keras.backend.standardize_dtype(array.dtype)
        if keras.backend.is_float_dtype(dtype):
            finite = ops.logical_and(finite, ops.isfinite(ops.sum(array)))
    return finite


def seed_words(seed: int) -> np.ndarray:
    """A client's 64-bit seed as an int32 array of shape `(2,)`, for devices."""
    mask = 0x7FFFFFFF
    return np.array([seed & mask, (seed >> 32) & mask], np.int32)
