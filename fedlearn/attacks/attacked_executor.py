"""An executor some of whose clients are malicious."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from fedlearn import backend, executors, serialization
from fedlearn.attacks.attack import Attack, HonestUpdates
from fedlearn.executors.executor import Executor
from fedlearn.names import ATTACKS


class AttackedExecutor(Executor):
    """Runs the clients of a round, some of whom send something else.

    Malicious clients train as all do; then their update is replaced by what
    the attack makes of it. They use the encoders as honest ones do, so an
    attack is clipped, quantized and counted in bytes like any update, and
    what only the server does (`aggregators.NormBounding`, robust rules) meets
    it. A clip among the encoders is taken to be enforced.

    Honest and malicious clients are run apart, so the order of updates that
    are stacked is not that of the cohort. For an attack with collusion the
    honest clients are run first.

    Args:
        attack: What malicious clients send: an `Attack`, or a string as for
            `fedlearn.attacks.get`.
        malicious: Their ids, for instance from `choose`. Those that don't
            take part in a round do nothing in it. Clients given as a list
            have the ids "0", "1", ....
        executor: Which runs the clients: a name or an instance.

    Raises:
        TypeError: If `attack` is neither an `Attack` nor a string.
        ValueError: If there is no attack of that name; in a round without any
            honest client, for an attack with collusion.

    Example: two clients, of which one undoes what the other learns.

    >>> import fedlearn as fl
    >>> import keras
    >>> from fedlearn.attacks.sign_flip import SignFlip
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    >>> process = fl.FederatedAveraging(
    ...     model, executor=AttackedExecutor(SignFlip(), ["1"]))
    >>> state = process.initialize()
    >>> client = (np.ones((4, 2), "float32"), np.ones((4, 1), "float32"))
    >>> after, metrics = process.next(state, [client, client])
    >>> np.allclose(after.trainable[0], state.trainable[0], atol=1e-6)
    True
    """

    def __init__(
        self,
        attack: str | Attack,
        malicious: Iterable[str],
        executor: str | Executor = "auto",
    ):
        self.attack = serialization.get(attack, ATTACKS, Attack, "attack")
        self.malicious = frozenset(str(i) for i in malicious)
        self.executor = executors.get(executor)

    def bind(self, program: Any) -> Callable[[Any, Any, list[int]], Any]:
        run_honest = self.executor.bind(
            _observed(program) if self.attack.colludes else program
        )
        run_malicious = self.executor.bind(_attacking(program, self.attack))

        def run(broadcast, cohort, seeds):
            is_malicious = [i in self.malicious for i in cohort.ids]
            honest = _Part(cohort, [not m for m in is_malicious])
            malicious = _Part(cohort, is_malicious)
            total: Any = None
            knowledge: Any = ()
            if len(honest):
                total = run_honest(broadcast, honest, honest.of(seeds))
            if self.attack.colludes:
                if total is None:
                    raise ValueError(
                        f"{type(self.attack).__name__} is made of the honest "
                        "clients' updates, and all clients of this round are "
                        "malicious. Draw more clients, or fewer malicious "
                        "ones."
                    )
                total, knowledge = _learn(
                    total, len(malicious), program.stacked
                )
            if len(malicious):
                told = _Told(broadcast, knowledge)
                attacked = run_malicious(told, malicious, malicious.of(seeds))
                total = attacked if total is None else total + attacked
            return total

        return run

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.attack!r}, "
            f"{len(self.malicious)} malicious, executor={self.executor!r})"
        )


class _Part:
    """Some clients of a cohort."""

    def __init__(self, cohort: Any, members: list[bool]):
        self._cohort = cohort
        self._positions = np.flatnonzero(members).tolist()
        self.ids = self.of(cohort.ids)

    def of(self, values: Any) -> list[Any]:
        return [values[i] for i in self._positions]

    def __len__(self) -> int:
        return len(self._positions)

    def num_examples(self, position: int) -> int:
        return self._cohort.num_examples(self._positions[position])

    def read(self, position: int) -> Any:
        return self._cohort.read(self._positions[position])

    def __iter__(self) -> Iterator[Any]:
        return (self.read(i) for i in range(len(self)))


class _Told(NamedTuple):
    """A broadcast, with what malicious clients know beside it."""

    broadcast: Any
    honest: Any

    @property
    def trainable(self):
        return self.broadcast.trainable

    @property
    def non_trainable(self):
        return self.broadcast.non_trainable


def _attacking(program: Any, attack: Attack) -> Any:
    """The program of malicious clients, which gets a `_Told`."""

    def finish(told, carry, num_examples, seed, client_state):
        before = program.start(told.broadcast, seed, client_state).variables
        sent = attack.update(_moved(before, carry), told.honest, seed)
        num_trainable = len(before.trainable)
        # The program takes the update to be the way from where a client
        # started to where it is: so that is where it is put.
        places = [
            ops.cast(b + s, b.dtype)
            for b, s in zip(_floats(before), sent, strict=True)
        ]
        variables = carry.variables._replace(
            trainable=places[:num_trainable], state=places[num_trainable:]
        )
        return program.finish(
            told.broadcast,
            carry._replace(variables=variables),
            num_examples,
            seed,
            client_state,
        )

    return program._replace(
        start=lambda told, *args: program.start(told.broadcast, *args),
        step=lambda told, *args: program.step(told.broadcast, *args),
        padded_step=lambda told, *args: program.padded_step(
            told.broadcast, *args
        ),
        finish=finish,
    )


def _observed(program: Any) -> Any:
    """A program whose summands hold the update and its square, too."""

    def finish(broadcast, carry, num_examples, seed, client_state):
        summand, *rest = program.finish(
            broadcast, carry, num_examples, seed, client_state
        )
        before = program.start(broadcast, seed, client_state).variables
        update = _moved(before, carry)
        squares = [ops.square(v) for v in update]
        return {"sent": summand, "update": update, "square": squares}, *rest

    return program._replace(finish=finish)


def _learn(
    total: Any, num_malicious: int, stacked: bool
) -> tuple[Any, HonestUpdates]:
    """What was sent, and what malicious clients learn of it."""
    summand = total.summand
    # Clients that were left out are zeros in the sums.
    count = np.maximum(np.float32(backend.to_numpy(total.num_clients)), 1)
    mean, std = [], []
    for update, square in zip(
        summand["update"], summand["square"], strict=True
    ):
        if stacked:
            update, square = ops.sum(update, axis=0), ops.sum(square, axis=0)
        mean.append(update / count)
        variance = square / count - ops.square(mean[-1])
        std.append(ops.sqrt(ops.maximum(variance, 0.0)))
    return total._replace(summand=summand["sent"]), HonestUpdates(
        mean, std, count, np.float32(num_malicious)
    )


def _floats(variables: Any) -> list[Any]:
    return [*variables.trainable, *variables.state]


def _moved(before: Any, carry: Any) -> list[Any]:
    pairs = zip(_floats(carry.variables), _floats(before), strict=True)
    return [after - b for after, b in pairs]
