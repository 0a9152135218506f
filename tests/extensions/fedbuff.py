"""FedBuff: asynchronous rounds, which touch nothing of the package.

Nguyen et al. 2022, "Federated learning with buffered asynchronous
aggregation", arXiv:2106.06639, algorithm 1, on a clock that is simulated.
"""

import numpy as np

import fedlearn as fl
from fedlearn import backend, seeds
from fedlearn.messages.update import Update
from fedlearn.runs.schedule import Schedule, Turn


class FedBuff(fl.FederatedAveraging):
    """`concurrency` clients train at once; every `buffer_size` make a turn."""

    def __init__(self, model, *args, buffer_size, concurrency, durations, **kw):
        mean = fl.aggregators.Mean(
            weighting="uniform", denominator=float(buffer_size)
        )
        super().__init__(model, *args, aggregator=mean, **kw)
        self.buffer_size = buffer_size
        self.concurrency = concurrency
        self.durations = durations

    def schedule(self, sampler):
        return _Buffered(self.buffer_size, self.concurrency, self.durations)


class _Buffered(Schedule):
    """Remembers the time, the number of starts, and who is under way.

    A client's update is computed when it starts, of the weights of then, and
    counts when it is due: so no old weights have to be kept.
    """

    def __init__(self, buffer_size, concurrency, durations):
        self.buffer_size = buffer_size
        self.concurrency = concurrency
        self.durations = durations

    def initialize(self):
        return {"time": np.zeros(()), "starts": np.zeros((), int), "busy": {}}

    def next(self, process, state, kept, data):
        kept = {**kept, "busy": dict(kept["busy"])}
        broadcast = process.broadcast(state)
        self._start(process, state, broadcast, kept, data)
        total, took_part, staleness = 0, [], []
        while len(took_part) < self.buffer_size:
            # All that end at a moment report before anyone starts anew.
            busy = kept["busy"]
            first = min(busy, key=lambda i: (busy[i]["due"], busy[i]["start"]))
            client = busy.pop(first)
            kept["time"] = client["due"]
            behind = int(state.round_num - client["version"])
            update = Update.of(client["sums"], int(client["bytes"]), {})
            total += update.scaled((1 + behind) ** -0.5)
            took_part.append(first)
            staleness.append(behind)
            at_once = [i for i in busy if busy[i]["due"] == kept["time"]]
            if len(took_part) < self.buffer_size and not at_once:
                self._start(process, state, broadcast, kept, data)
        state, metrics = process.server_update(state, broadcast, total)
        metrics["staleness"] = float(np.mean(staleness))
        return Turn(state, kept, metrics, data.select(dict.fromkeys(took_part)))

    def _start(self, process, state, broadcast, kept, data):
        while len(kept["busy"]) < min(self.concurrency, len(data)):
            free = [i for i in data.client_ids if i not in kept["busy"]]
            number = int(kept["starts"])
            who = free[seeds.fold(int(state.seed), "who", number) % len(free)]
            seed = process.client_seed(state, who)
            update = process.client_update(broadcast, data[who], seed)
            kept["starts"] = np.asarray(number + 1)
            kept["busy"][who] = {
                "due": np.asarray(kept["time"] + self.durations[who], float),
                "start": np.asarray(number),
                "version": np.asarray(int(state.round_num)),
                "sums": backend.to_numpy(update.sums),
                "bytes": np.asarray(update.bytes_up),
            }
