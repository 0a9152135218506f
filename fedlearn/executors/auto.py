import functools
import sys
import time
from collections.abc import Sequence
from typing import Any, ClassVar

import keras

from fedlearn import backend
from fedlearn.clients.cohort import Client, Cohort
from fedlearn.clients.program import ClientProgram
from fedlearn.executors import model_work
from fedlearn.executors.executor import Executor, Run, Seeds, Shard
from fedlearn.executors.processes import num_cores
from fedlearn.executors.sequential import Sequential
from fedlearn.executors.vectorized import Vectorized, num_vector_steps
from fedlearn.messages.broadcast import Received
from fedlearn.messages.update import Update


class Auto(Executor):
    """Chooses a plan for each cohort, by a rule and not by a clock.

    Vectorising pays where a client's step is too little work to keep the
    machine busy, and where many clients take steps together. So a cohort is
    vectorised if

    * a step is light: at most `MAX_STEP_WORK` multiplications in its forward
      pass. Above that (a convolution over 28 x 28 pixels) a single client
      keeps all cores busy, and weights of each client's own are slower than
      shared ones;
    * it saves steps: at least `MIN_LANES` clients a vectorised step on
      average. Cohorts of few clients with lengths all different don't;
    * the backend can: TensorFlow's `vectorized_map` takes minutes to trace a
      recurrent layer, and layers that change images, or that aren't Keras's
      own, can hold anything.
      XLA on CPU, for JAX, runs a convolution's filter gradient inside a loop
      20 to 100 times slower than outside, and on TensorFlow a convolution's
      long tracing eats what vectorising gains; so convolutions never are.

    `benchmarks/executors.py` measures both plans on several models; the
    numbers here are its crossing points on CPU.

    The rule looks at the model and at the clients' numbers of examples, so
    the same run made twice, or resumed on another machine, chooses the same.
    What it can't know (a loss or metric of one's own, say, that can't be
    vectorised) shows when the plan is first run: if that fails, and clients
    one after another don't, then clients with such examples are run so. Too
    little memory is no such failure, but an error.

    It starts no other processes, as they take memory and seconds. Where
    `executors.Processes` would pay, in long rounds of many clients on
    TensorFlow, it says so once, on `sys.stderr`.
    """

    MAX_STEP_WORK: ClassVar = {"tensorflow": 1e7, "jax": 1e6}
    MIN_LANES = 4.0

    def bind(self, program: ClientProgram) -> Run:
        if not self._is_light(program):
            return Sequential().bind(program)
        return _Runner(program, self.MIN_LANES)

    def plan(self, program: ClientProgram) -> str:
        if not self._is_light(program):
            return Sequential().plan(program)
        return (
            f"{Vectorized().plan(program)} with {self.MIN_LANES:g} clients a "
            f"step or more, {Sequential().plan(program)} with fewer"
        )

    def _is_light(self, program: ClientProgram) -> bool:
        model = program.model.model
        if program.per_example or model_work.convolves(model):
            return False
        if backend.name == "tensorflow" and not model_work.has_plain_layers(
            model
        ):
            return False
        work = program.batch_size * model_work.multiplications(model)
        return work <= self.MAX_STEP_WORK[backend.name]


class _Runner(Run):
    def __init__(self, program: ClientProgram, min_lanes: float):
        super().__init__(program)
        self._min_lanes = min_lanes
        self._runs = {
            "sequential": Sequential().bind(program),
            "vectorized": Vectorized().bind(program),
        }
        self._lengths = functools.cache(
            lambda size: [len(batch) for batch in program.batches(size, 0)]
        )
        # What tracing sees of a shard, where it failed: another shard's
        # failure must not change how this one is summed.
        self._failed: set[Any] = set()
        self._num_long = 0  # rounds

    def __call__(
        self, broadcast: Received, cohort: Cohort, seeds: Seeds
    ) -> Update:
        began = time.monotonic()
        total = super().__call__(broadcast, cohort, seeds)
        self._num_long += time.monotonic() - began >= _LONG
        # The first one compiles.
        if self._num_long == 3 and backend.name == "tensorflow":
            shards = self.shards(cohort)
            if len(shards) > 1 and shards[0].plan == "vectorized":
                _hint()
        return total

    def shards(self, cohort: Cohort) -> list[Shard]:
        sizes = [cohort.num_examples(i) for i in range(len(cohort))]
        steps = sum(len(self._lengths(size)) for size in sizes)
        together = max(num_vector_steps(sizes, self._lengths), 1)
        pays = steps >= self._min_lanes * together
        plan = "vectorized" if pays else "sequential"
        return [
            shard._replace(plan=plan)
            for shard in self._runs[plan].shards(cohort)
        ]

    def run_shard(
        self, broadcast: Received, cohort: Cohort, seeds: Seeds, plan: str = ""
    ) -> Update:
        if plan == "sequential":
            return self._runs[plan].run_shard(broadcast, cohort, seeds)
        # What goes wrong in reading them is no fault of the plan.
        clients: Any = list(cohort)
        if not self._failed or _kind(clients) not in self._failed:
            try:
                return self._runs[plan].run_shard(broadcast, clients, seeds)
            except MemoryError:  # of this machine: no plan may depend on it
                raise
            except Exception:  # what a layer raises can be anything
                pass
        # If the fault is the user's, this raises it again.
        total = self._runs["sequential"].run_shard(broadcast, clients, seeds)
        self._failed.add(_kind(clients))
        return total


_LONG = 1.0  # seconds


@functools.cache  # once is enough
def _hint() -> None:
    cores = num_cores()
    if cores > 1:
        print(
            "fedlearn: TensorFlow keeps about one core busy with the clients "
            f"of this model, of {cores}. Rounds may be faster with "
            "executor='processes', once these have started.",
            file=sys.stderr,
        )


def _kind(clients: Sequence[Client]) -> frozenset:
    """Shapes and dtypes of all examples of a shard."""
    return frozenset(
        tuple(
            (a.shape[1:], a.dtype.name) for a in keras.tree.flatten(client.data)
        )
        for client in clients
    )
