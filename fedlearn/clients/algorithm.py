from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
from keras import ops

from fedlearn import checks
from fedlearn.aggregators.mean import Mean
from fedlearn.clients.personal_variables import (
    IsPersonal,
    PersonalVariables,
)
from fedlearn.encoders.encoder import Spec
from fedlearn.encoders.entropy_coding import EntropyCoding
from fedlearn.encoders.error_feedback import ErrorFeedback
from fedlearn.encoders.fixed_point import FixedPoint
from fedlearn.keras_model.functional_model import Arrays, Variables
from fedlearn.messages.broadcast import Received
from fedlearn.optimizers.functional import FunctionalOptimizer
from fedlearn.serialization import Configurable

if TYPE_CHECKING:
    from fedlearn.process import LearningProcess


class Carry(NamedTuple):
    """What one step of a client hands to the next.

    Attributes:
        variables: The model's.
        optimizer: The optimizer's.
        seed: The client's own in this round, int32 of shape `(2,)`.
        num_steps: How many steps were taken, an int32 scalar.
        memory: The algorithm's own.
    """

    variables: Variables
    optimizer: Arrays
    seed: Any
    num_steps: Any
    memory: Any = ()


class Local(NamedTuple):
    """What the methods of an `Algorithm` see of a client's round.

    Attributes:
        broadcast: What the server sent; `broadcast.algorithm` is the
            algorithm's own.
        optimizer: The pure functions of the client's optimizer.
        personal: Which variables the client keeps, `personal.trainable`, and
            which it shares, `personal.shared`, by their positions.
        gradient: Of the batch, `(weights, variables, optimizer) ->
            (gradients, variables)`, clipped and with noise where the client's
            `dp` says so; None at the start and the end.
        loss: Of the batch, `(weights, variables) -> loss`, in inference and
            without FedProx's term.
        num_examples: The batch's, a float32 scalar.
    """

    broadcast: Received
    optimizer: FunctionalOptimizer
    personal: PersonalVariables
    gradient: Callable[..., tuple[Arrays, Variables]] | None = None
    loss: Callable[..., Any] | None = None
    num_examples: Any = None

    def fresh_optimizer(self, weights: Arrays) -> Arrays:
        """The optimizer's values before its first step, from these weights."""
        values = self.optimizer.initial_values(weights)
        rate = self.broadcast.learning_rate
        if isinstance(rate, tuple):
            return values
        return self.optimizer.with_learning_rate(values, rate)


class Shared(NamedTuple):
    """Values of what clients share of a model's variables.

    Attributes:
        weights: Of those that are trained.
        statistics: Of those that layers change.
    """

    weights: Arrays
    statistics: Arrays


class Contribution(NamedTuple):
    """What a client's round comes to, before it is encoded.

    Attributes:
        update: The shared weights after training minus those before.
        extra: The algorithm's own arrays, of its `extra_spec`.
        client_state: What the client keeps, as from `init_client`.
    """

    update: Arrays
    extra: Sequence[Any] = ()
    client_state: Any = ()


class Algorithm(Configurable):
    """What an algorithm does besides Federated Averaging, as pure functions.

    The methods in the order of a round; what they do here is Federated
    Averaging. `spec` has a `keras.KerasTensor` for each trained weight that
    clients share.

    Arrays that an algorithm sends (`extra_spec`) are encoded, clipped, added
    up and counted in bytes together with the update, as one list of arrays.

    Example: weights that a tenth of the update is taken off again.

    >>> class Timid(Algorithm):
    ...     def server(self, state, mean, extra, num_clients):
    ...         return [0.9 * m for m in mean], state, {}
    >>> Timid().server((), [10.0], [], 1)[0]
    [9.0]
    """

    @property
    def looks(self) -> bool:
        """Whether a subclass has `look`."""
        return type(self).look is not Algorithm.look

    # Once, when the process is made.

    def check(self, process: "LearningProcess") -> None:
        """Raises ValueError for a process that this can't work in.

        What it needs of the process it may keep here, in attributes that
        begin with an underscore: each process has a copy of its own.
        """

    def personal_variables(self, model: keras.Model) -> IsPersonal | None:
        """Tells which variables each client keeps to itself; None for none.

        They are neither sent nor broadcast. A client that is seen first
        starts with the server's, which stay what they are.
        """
        return None

    def temporary_variables(self, model: keras.Model) -> IsPersonal | None:
        """Tells which variables each client makes anew in every round.

        They are neither sent nor broadcast nor kept: a client starts with the
        server's, which stay what they are.
        """
        return None

    def extra_spec(self, spec: Spec) -> Spec:
        """Shapes and dtypes of the arrays that are sent with an update."""
        return []

    def init(self, spec: Spec) -> Any:
        """What the server keeps before the first round."""
        return ()

    def init_client(self, shared: Shared) -> Any:
        """What a client keeps that is seen first, and is sent `shared`."""
        return ()

    # At the server, before the round.

    def broadcast(self, state: Any) -> Any:
        """What clients are told, given what the server keeps."""
        return state

    # At a client.

    def batches(
        self,
        given: Callable[[int, int], list[np.ndarray]],
        num_examples: int,
        seed: int,
    ) -> list[np.ndarray]:
        """Positions of the examples of each step, int32.

        `given` has those of the client's training, of a number of examples
        and a seed.
        """
        return given(num_examples, seed)

    # At a client; compiled.

    def start(self, local: Local, carry: Carry, client_state: Any) -> Any:
        """`carry.memory` of the first step, or of the first `look`."""
        return ()

    def look(self, local: Local, carry: Carry) -> Any:
        """The next `carry.memory`, of a batch that no step is taken on.

        A subclass that has this sees all of a client's examples once, in
        their order and in batches, at the weights that the client begins
        with, before its first step.
        """
        return carry.memory

    def step(self, local: Local, carry: Carry) -> Carry:
        """One step on one batch."""
        assert local.gradient is not None
        gradients, variables = local.gradient(
            carry.variables.trainable, carry.variables, carry.optimizer
        )
        weights, optimizer = local.optimizer.apply(
            carry.optimizer,
            self.corrected(local, carry, gradients),
            variables.trainable,
        )
        return Carry(
            variables._replace(trainable=weights),
            optimizer,
            carry.seed,
            carry.num_steps + 1,
            self.remembered(local, carry, gradients),
        )

    def corrected(
        self, local: Local, carry: Carry, gradients: Arrays
    ) -> Arrays:
        """The gradients that the client's optimizer gets."""
        return gradients

    def remembered(self, local: Local, carry: Carry, gradients: Arrays) -> Any:
        """The next `carry.memory`, of the gradients as they were."""
        return carry.memory

    def finish(
        self, local: Local, carry: Carry, update: Arrays, client_state: Any
    ) -> Contribution:
        """What the round comes to.

        Args:
            local: What the server sent.
            carry: After the last step.
            update: The shared weights now minus those before.
            client_state: What the client kept from its last round.
        """
        return Contribution(update, [], client_state)

    # At the server, after the round; compiled.

    def server(
        self, state: Any, mean: Arrays, extra: Arrays, num_clients: Any
    ) -> tuple[Arrays, Any, dict[str, Any]]:
        """What the server makes of the aggregate.

        Args:
            state: What it kept.
            mean: The aggregate of updates.
            extra: That of the arrays of `extra_spec`.
            num_clients: As how many clients it counts, a float32 scalar: in
                an unweighted mean those that have examples, or its fixed
                denominator, so that mean times this is the sum.

        Returns:
            `(update, state, metrics)`: what the server's optimizer gets, what
            the server keeps, and scalars to log.
        """
        return mean, state, {}

    # In evaluation.

    def tuning(self) -> "Algorithm | None":
        """What clients do before an evaluation, if they train for it alone."""
        return None

    def own_model(
        self, shared: Shared, state: Any, client_state: Any
    ) -> Shared:
        """What a client predicts with, in place of the server's `shared`."""
        return shared


def zeros(spec: Spec) -> Arrays:
    """Arrays of zeros, of a spec or like arrays."""
    return [ops.zeros(s.shape, s.dtype) for s in spec]


def averaged(memory: Any, values: Sequence[Any], num_examples: Any) -> Any:
    """`(count, means)` over the examples so far, with a batch's means."""
    count, means = memory
    count = count + num_examples
    share = num_examples / ops.maximum(count, 1.0)
    return count, [
        m + ops.cast(share, m.dtype) * (ops.cast(v, m.dtype) - m)
        for m, v in zip(means, values, strict=True)
    ]


def check_mean(
    process: "LearningProcess",
    name: str,
    why: str,
    noise: str = "noise would add up in it from round to round",
    at_once: bool = False,
) -> None:
    """Raises ValueError where the server doesn't get all updates' mean.

    `at_once`: in each round; else what is left out may come in later ones.
    """
    aggregator = process.aggregator
    exact: tuple[type, ...] = (EntropyCoding, FixedPoint)
    if not at_once:
        exact += (ErrorFeedback,)
    lossy = [
        e
        for e in aggregator.encoders
        if not isinstance(e, exact) and e.bound != "rotates"
    ]
    if not isinstance(aggregator, Mean):
        found = f"{type(aggregator).__name__} leaves some of them out"
    elif aggregator.noise is not None:
        found = noise
    elif lossy:
        found = f"{type(lossy[0]).__name__} changes what is sent"
        if not at_once:
            found += (
                " (put it into ErrorFeedback([...]), which makes up for that)"
            )
    elif at_once and aggregator.denominator:
        found = "a fixed `denominator` makes it less where fewer take part"
    else:
        return
    raise ValueError(
        f"{name} {why}, so the server needs the mean of what clients send, "
        f"and {found}. Use aggregators.Mean or SecureSum, or another "
        "algorithm."
    )


def check_population(population: int | None, num_clients: int = 0) -> int:
    """A number of all clients; a ValueError if it is none, or too small."""
    if population is None:
        raise ValueError(
            "`population` is missing: the number of all clients, those of a "
            "round and the others. Give population=len(data)."
        )
    checks.whole("population", population)
    if num_clients > population:
        raise ValueError(
            f"population={population}, but the data have {num_clients} "
            "clients. Expected the number of all clients."
        )
    return population


def check_plain_server(process: "LearningProcess", name: str) -> None:
    """Raises ValueError where the server doesn't just add what it gets."""
    plain = keras.optimizers.SGD(1.0).get_config()
    given = process.server_optimizer.get_config()
    if {**plain, "name": None} != {**given, "name": None}:
        raise ValueError(
            f"The server's step is a part of {name}, and a server optimizer "
            "would take another one. Leave it out, or use SGD(1.0)."
        )
    process._server_optimizer.is_plain_for = name


def check_gradients(process: "LearningProcess", name: str) -> None:
    """Raises ValueError where clients' gradients aren't of their loss alone."""
    if getattr(process.client, "proximal", 0):
        raise ValueError(
            f"{name} takes the gradients of the clients' loss, and `proximal` "
            "adds something else to it. Use LocalTraining without `proximal`."
        )
    optimizer = process.program.trainer.optimizer.optimizer
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            f"{name} takes the gradients of the clients' loss, and a "
            "LossScaleOptimizer scales them. Use float32 or mixed_bfloat16, "
            "and the inner optimizer."
        )
