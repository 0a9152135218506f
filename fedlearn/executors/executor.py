import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import keras
from keras import ops

from fedlearn import backend
from fedlearn.clients.cohort import Cohort
from fedlearn.clients.program import Accepted, ClientProgram
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.executors.total import Total
from fedlearn.messages.broadcast import Received
from fedlearn.messages.update import StackedUpdate, Update, added
from fedlearn.serialization import Configurable

Seeds = Sequence[int]
"""Of clients, each its own: 64 bits."""

RunCohort = Callable[[Received, Cohort, Seeds], Update]
"""`(broadcast, cohort, seeds) -> total`: the sum of all clients' updates.

Clients are read when they are needed and not kept.
"""


class Shard(NamedTuple):
    """Clients of a cohort that are run together, for one partial sum.

    Attributes:
        positions: Which clients, by their places in the cohort.
        plan: In which of its ways the executor runs them, if it has several.
    """

    positions: Sequence[int]
    plan: str = ""


class Run:
    """A `RunCohort` that divides its work.

    A cohort is divided into shards, by what cohort and model are alone, and a
    shard's sum depends on nothing but its clients. `Total` adds them up in an
    order of its own, so it doesn't matter who runs which shard, and when.
    """

    def __init__(self, program: ClientProgram):
        self.program = program
        # In examples, and one for the client.
        self._cost = functools.cache(
            lambda size: 1 + sum(map(len, program.batches(size, 0)))
        )
        # One compiled addition, not one dispatch for each array.
        self._add = backend.jit(added)

    def shards(self, cohort: Cohort) -> list[Shard]:
        """Divides a cohort; each client is in one shard."""
        raise NotImplementedError

    def cost(self, cohort: Cohort, shard: Shard) -> int:
        """How long it takes, more or less, in any unit."""
        if not cohort.knows_sizes:
            return len(shard.positions)
        sizes = map(cohort.num_examples, shard.positions)
        return sum(map(self._cost, sizes))

    def received(self, sent: Any, data: FederatedDataset | None) -> Cohort:
        """What was sent to a worker, by `Cohort.sent`."""
        return Cohort.received(sent, data, self.program.model)

    def run_shard(
        self, broadcast: Received, cohort: Cohort, seeds: Seeds, plan: str = ""
    ) -> Update:
        """The sum of one shard, of which `cohort` is the part.

        Args:
            broadcast: What clients were sent.
            cohort: `cohort.part(shard.positions)`.
            seeds: Theirs.
            plan: `shard.plan`.
        """
        raise NotImplementedError

    def total(self, num_shards: int) -> Total:
        """What adds up the shards."""
        return Total(num_shards, self._add)

    def run_shards(
        self,
        broadcast: Received,
        cohort: Cohort,
        seeds: Seeds,
        shards: Mapping[int, Shard],
        total: Total,
    ) -> None:
        """Adds some of a cohort's shards, by their numbers, to `total`."""
        for number, shard in shards.items():
            part = cohort.part(shard.positions)
            own = [seeds[i] for i in shard.positions]
            total.add(self.run_shard(broadcast, part, own, shard.plan), number)

    def __call__(
        self, broadcast: Received, cohort: Cohort, seeds: Seeds
    ) -> Update:
        shards = dict(enumerate(self.shards(cohort)))
        total = self.total(len(shards))
        self.run_shards(broadcast, cohort, seeds, shards, total)
        return total.result()


class RunOfRun(Run):
    """A run that has another one done: the same in all but by whom."""

    def __init__(self, run: Run):
        self._run = run

    def shards(self, cohort: Cohort) -> list[Shard]:
        return self._run.shards(cohort)

    def cost(self, cohort: Cohort, shard: Shard) -> int:
        return self._run.cost(cohort, shard)

    def received(self, sent: Any, data: FederatedDataset | None) -> Cohort:
        return self._run.received(sent, data)

    def run_shard(self, *args: Any, **kwargs: Any) -> Update:
        return self._run.run_shard(*args, **kwargs)

    def total(self, num_shards: int) -> Total:
        return self._run.total(num_shards)


class Portable(Protocol):
    """What can be pickled, and bound to a run in the process that it is in."""

    def bind(self) -> Run: ...


class Executor(Configurable):
    """Maps a client's round over a cohort, and sums.

    An executor decides in which way and where, never what: all executors give
    the same total, up to the rounding of sums.
    """

    def bind(self, program: ClientProgram) -> RunCohort:
        """Compiles what it needs of what a client does.

        Returns:
            `run(broadcast, cohort, seeds) -> total`; a `Run`, if it can be
            divided among workers.
        """
        raise NotImplementedError

    def place(self, work: Portable) -> Run:
        """The run of some work of any kind, in the place where this has it."""
        return work.bind()

    @property
    def in_one_process(self) -> "Executor":
        """One that gives the same bits, without workers."""
        return self

    @property
    def threads(self) -> int | None:
        """With how many threads it computes; None for the backend's default.

        Where that is set to a number, by `tf.config.threading` or in the
        environment, it is that.
        """
        return backend.num_threads()

    def plan(self, program: ClientProgram) -> str:
        """In words, how it runs a program: sums are rounded as they are made.

        A run that goes on must go on in the same way.
        """
        del program
        return repr(self)


def ended(program: ClientProgram, broadcast: Received, *args: Any) -> tuple:
    """One client's sums, what it keeps, and its message if lengths vary."""
    message, kept = program.send(broadcast, *args)
    sums = counted(program, program.accept(broadcast.params, message))
    return sums, kept, message if program.varies_in_length else ()


def counted(program: ClientProgram, accepted: Accepted) -> tuple:
    """The sums of one client's `Update`; zeros if its update isn't finite."""
    sums = keras.tree.map_structure(
        ops.convert_to_tensor, (accepted.summand, accepted.metrics)
    )
    # A branch and not `where`, which would copy all the weights.
    summand, metrics = ops.cond(
        accepted.finite,
        lambda: sums,
        lambda: keras.tree.map_structure(ops.zeros_like, sums),
    )
    if program.stacked:
        summand = keras.tree.map_structure(
            lambda a: ops.expand_dims(a, 0), summand
        )
    count = ops.cast(accepted.finite, "int32")
    num_examples = count * accepted.num_examples
    return summand, metrics, count, num_examples, 1 - count


def partial_sum(
    program: ClientProgram,
    sums: tuple,
    client_ids: Sequence[str],
    kept: Sequence[Any],
    messages: Sequence[Any],
) -> Update:
    """The update of some clients.

    Args:
        program: What they ran.
        sums: The sums of `counted`.
        client_ids: Theirs.
        kept: What each keeps.
        messages: What each sent, where that varies in length.
    """
    states: dict[str, Any] = {}
    if keras.tree.flatten(kept[0]):
        states = dict(zip(client_ids, kept, strict=True))
    if program.varies_in_length:
        num_bytes = sum(map(program.bytes_up, messages))
    else:
        num_bytes = len(client_ids) * program.bytes_up()
    kind = StackedUpdate if program.stacked else Update
    return kind.of(sums, num_bytes, states)


@contextlib.contextmanager
def naming(client_ids: Sequence[str]) -> Iterator[None]:
    """Turns TensorFlow's InvalidArgumentError into a ValueError with ids."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ != "InvalidArgumentError":
            raise
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = next((n for n in lines[::-1] if "{{node" not in n), "")
        whose = (
            f"client {client_ids[0]!r}"
            if len(client_ids) == 1
            else f"one of the clients {list(client_ids)}"
        )
        raise ValueError(
            f"TensorFlow can't compute the loss of {whose}: {reason.strip()} "
            "Check their labels against the model's output and loss."
        ) from error
