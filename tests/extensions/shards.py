"""An executor of several processes, which touches nothing of the package.

Each worker makes the process again from its config, runs its share of the
cohort, and gives one partial sum back. Partial sums are added in the order of
the shards, so the total doesn't depend on which worker was faster.
"""

import functools
import json

import fedlearn as fl
from fedlearn import backend, executors
from fedlearn.clients.cohort import Cohort


class Shards(executors.Executor):
    """Runs shards of a cohort in the processes of a pool.

    Args:
        pool: A `concurrent.futures.ProcessPoolExecutor`, of processes that
            are spawned.
        num_shards: Into how many a cohort is divided.
    """

    def __init__(self, pool, num_shards):
        self.pool = pool
        self.num_shards = num_shards

    def bind(self, program):
        process = fl.LearningProcess(
            program.model.model,
            program.trainer.config,
            aggregator=program.aggregator,
            algorithm=program.trainer.algorithm,
        )

        def run(broadcast, cohort, seeds):
            work = list(zip(cohort, seeds, strict=True))
            size = -(-len(work) // self.num_shards)
            shards = [work[i : i + size] for i in range(0, len(work), size)]
            config = json.dumps(process.get_config())
            sent = backend.to_numpy(broadcast)
            parts = [
                self.pool.submit(_run, config, sent, shard) for shard in shards
            ]
            return sum(part.result(timeout=300) for part in parts)

        return run


@functools.cache
def _remade(config):
    process = fl.LearningProcess.from_config(json.loads(config))
    run = executors.Sequential().bind(process.program)
    return run, process.functional_model


def _run(config, broadcast, shard):
    run, model = _remade(config)
    states = {client.id: client.state for client, _ in shard}
    data = {client.id: client.data for client, _ in shard}
    total = run(
        broadcast,
        Cohort(data, model, states.get),
        [seed for _, seed in shard],
    )
    return type(total).of(
        backend.to_numpy(total.sums), total.bytes_up, dict(total.client_states)
    )
