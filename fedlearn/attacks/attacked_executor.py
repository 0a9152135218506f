from collections.abc import Iterable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from fedlearn import backend, executors, serialization
from fedlearn.attacks.attack import Attack, HonestUpdates
from fedlearn.clients.cohort import Cohort
from fedlearn.clients.program import ClientProgram, Result
from fedlearn.executors.executor import Executor, RunCohort, Seeds
from fedlearn.keras_model.functional_model import Arrays
from fedlearn.messages.broadcast import Received
from fedlearn.messages.update import Update
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
        self.malicious = tuple(sorted({str(i) for i in malicious}))
        self.executor = executors.get(executor)

    @property
    def in_one_process(self) -> Executor:
        inner = self.executor.in_one_process
        return type(self)(self.attack, self.malicious, inner)

    @property
    def threads(self) -> int | None:
        return self.executor.threads

    def bind(self, program: ClientProgram) -> RunCohort:
        run_honest = self.executor.bind(
            _Observed(program) if self.attack.colludes else program
        )
        run_malicious = self.executor.bind(Malicious(program, self.attack))

        def run(broadcast: Received, cohort: Cohort, seeds: Seeds) -> Update:
            bad = [k for k, i in enumerate(cohort.ids) if i in self.malicious]
            good = [k for k in range(len(cohort)) if k not in set(bad)]
            totals: list[Any] = []
            honest: Any = ()
            if good:
                part = cohort.part(good), [seeds[k] for k in good]
                totals.append(run_honest(broadcast, *part))
            if self.attack.colludes:
                if not good:
                    raise ValueError(
                        f"{type(self.attack).__name__} is made of the honest "
                        "clients' updates, and all clients of this round are "
                        "malicious. Draw more clients, or fewer malicious "
                        "ones."
                    )
                totals[0], honest = _learn(totals[0], len(bad), program.stacked)
            if bad:
                part = cohort.part(bad), [seeds[k] for k in bad]
                told: Any = Told(*broadcast, honest)
                totals.append(run_malicious(told, *part))
            return sum(totals)

        return run

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.attack!r}, "
            f"{len(self.malicious)} malicious, executor={self.executor!r})"
        )


class Told(NamedTuple):
    """What malicious clients know: what was sent, and of honest clients."""

    trainable: Arrays
    non_trainable: Arrays
    learning_rate: Any
    params: Any
    algorithm: Any
    honest: Any


class Malicious(ClientProgram):
    """A client that trains as all do, and sends something else."""

    def __init__(self, program: ClientProgram, attack: Attack):
        super().__init__(program.trainer, program.aggregator)
        self._honest = program
        self._attack = attack

    def __reduce__(self) -> Any:
        return Malicious, (self._honest, self._attack)

    def finish(self, broadcast: Any, carry: Any, client_state: Any) -> Result:
        """What the client says that its training came to."""
        result = super().finish(broadcast, carry, client_state)
        before = [broadcast.non_trainable[i] for i in self.statistics]
        own = _changes(self, broadcast, result)
        sent = self._attack.update(own, broadcast.honest, carry.seed)
        sent = [ops.cast(s, o.dtype) for s, o in zip(sent, own, strict=True)]
        count = len(result.update)
        return result._replace(
            update=sent[:count],
            statistics=[
                b + s for b, s in zip(before, sent[count:], strict=True)
            ],
        )


class _Observed(ClientProgram):
    """A client whose summand holds its update and the squares of it, too."""

    def __init__(self, program: ClientProgram):
        super().__init__(program.trainer, program.aggregator)
        self._program = program

    def __reduce__(self) -> Any:
        return _Observed, (self._program,)

    def encode(self, broadcast, result, *args):
        message, *rest = super().encode(broadcast, result, *args)
        update = _changes(self, broadcast, result)
        return _Seen(message, update, [ops.square(v) for v in update]), *rest

    def accept(self, params, message):
        accepted = super().accept(params, message.sent)
        return accepted._replace(
            summand=message._replace(sent=accepted.summand)
        )

    def to_wire(self, message):
        return super().to_wire(getattr(message, "sent", message))


class _Seen(NamedTuple):
    sent: Any
    update: Arrays
    square: Arrays


def _changes(program: ClientProgram, broadcast: Any, result: Result) -> Arrays:
    """What a client changed: weights, then statistics."""
    before = [broadcast.non_trainable[i] for i in program.statistics]
    return [
        *result.update,
        *(s - b for s, b in zip(result.statistics, before, strict=True)),
    ]


def _learn(
    total: Any, num_malicious: int, stacked: bool
) -> tuple[Any, HonestUpdates]:
    """What was sent, and what malicious clients learn of it."""
    sent, update, square = total.summand
    if stacked:
        update, square = keras.tree.map_structure(
            lambda a: ops.sum(a, axis=0), (update, square)
        )
    # Clients that were left out are zeros in the sums.
    count = np.maximum(np.float32(backend.to_numpy(total.num_clients)), 1)
    mean = [u / count for u in update]
    std = [
        ops.sqrt(ops.maximum(s / count - ops.square(m), 0.0))
        for s, m in zip(square, mean, strict=True)
    ]
    return total._replace(summand=sent), HonestUpdates(
        mean, std, count, np.float32(num_malicious)
    )
