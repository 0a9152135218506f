"""An audit of the claimed epsilon that could fail, and does on planted bugs.

The attack of Andrew et al. 2024, "One-shot empirical privacy estimation for
federated learning", arXiv:2302.03098: among the clients of a private run are
canaries, which send random directions in each round and keep to no rule. Each
is ten times as long as the clip norm and claims a thousand examples. How far
the weights have moved along each gives an epsilon. It must not refute the
claimed one; where a bug is planted (half the noise, no clip, clients counting
by examples) it must. Prints a line of JSON for each::

    python benchmarks/audit.py
"""

import argparse
import dataclasses
import json
import math
import os
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import ops

import fedlearn as fl
from fedlearn import backend
from fedlearn.aggregators import private_mean
from fedlearn.clients.program import seed_words
from fedlearn.privacy.audit import canary_epsilon

CLIP = 0.1
DELTA = 1e-5

# An aggregator that is right is refuted with a probability of 1e-4 at most:
# the inequality that the lower bound inverts then holds at every threshold,
# whatever the attack; and 400 canaries in 50,000 dimensions are as good as
# independent. (Half the noise was missed in none of 300 simulated runs of the
# default plan; the other bugs are far larger.)
CONFIDENCE = 1 - 1e-4

AT_ONCE = 50  # canaries, to spare memory


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run, and who takes part in each of its rounds.

    With many features the noise is longer than all updates together, so that
    the change of the weights is nearly noise alone, as the attack wants it.
    """

    features: int = 500
    classes: int = 100
    clients: int = 20
    canaries: int = 400
    rounds: int = 10
    # How far one client moves the sum of all rounds, in deviations of its
    # noise: the mu of Gaussian differential privacy.
    mu: float = 1.5

    @property
    def population(self):
        return self.clients + self.canaries

    @property
    def noise_multiplier(self):
        return math.sqrt(self.rounds) / self.mu

    @property
    def dimension(self):
        return self.features * self.classes

    @property
    def claimed(self):
        return fl.privacy.compute_epsilon(
            noise_multiplier=self.noise_multiplier,
            rounds=self.rounds,
            delta=DELTA,
            population=self.population,
            clients_per_round=self.population,
            sampler="full",
        )

    def aggregator(self, **arguments):
        return fl.aggregators.PrivateMean(
            CLIP,
            noise_multiplier=self.noise_multiplier,
            clients_per_round=self.population,
            **arguments,
        )


class HalfNoise(fl.encoders.GaussianNoise):
    def with_sensitivity(self, params, bound):
        return super().with_sensitivity(params, bound / 2)


class NoClip(fl.encoders.Clip):
    def encode(self, value, params, seed):
        _, stats = super().encode(value, params, seed)
        return value, stats


def as_it_is(plan):
    return plan.aggregator()


def compressed(plan):
    return plan.aggregator(
        encoders=[
            fl.encoders.HadamardRotation(),
            fl.encoders.UniformQuantization(2),
        ]
    )


def half_noise(plan):
    with mock.patch.object(private_mean, "GaussianNoise", HalfNoise):
        return plan.aggregator()


def no_clip(plan):
    with mock.patch.object(private_mean, "Clip", NoClip):
        return plan.aggregator()


def weighted(plan):
    aggregator = plan.aggregator()
    aggregator.weighting = "num_examples"
    return aggregator


RIGHT = (as_it_is, compressed)
WRONG = (half_noise, no_clip, weighted)


def attack(plan, aggregator, seed=0):
    """Trains among canaries; their cosines with the change of the weights."""
    rng = np.random.default_rng(seed)
    process = _process(plan, aggregator)
    data = _clients(plan, rng)
    directions = rng.normal(size=(plan.canaries, plan.dimension))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    directions = directions.astype("float32")
    send = _canaries(process)
    start = state = process.initialize(seed)
    for _ in range(plan.rounds):
        broadcast = process.broadcast(state)
        total = sum(
            process.client_update(broadcast, d, process.client_seed(state, i))
            for i, d in data.items()
        )
        seeds = np.stack(
            [
                seed_words(process.client_seed(state, f"canary {k}"))
                for k in range(plan.canaries)
            ]
        )
        total += send(broadcast, 10 * CLIP * directions, seeds)
        state, _ = process.server_update(state, broadcast, total)
    change = _flat(state.trainable) - _flat(start.trainable)
    return directions @ change / np.linalg.norm(change)


def _process(plan, aggregator):
    model = keras.Sequential(
        [
            keras.Input((plan.features,)),
            keras.layers.Dense(
                plan.classes, use_bias=False, kernel_initializer="zeros"
            ),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return fl.FederatedAveraging(
        model,
        client=fl.LocalTraining(batch_size=10),
        aggregator=aggregator,
    )


def _clients(plan, rng):
    """Twenty examples each, of classes that a linear model can tell apart."""
    centres = rng.normal(size=(plan.classes, plan.features))
    y = rng.integers(0, plan.classes, (plan.clients, 20))
    x = centres[y] + rng.normal(size=(*y.shape, plan.features))
    return {
        f"client {k}": (x[k].astype("float32"), y[k])
        for k in range(plan.clients)
    }


def _canaries(process):
    """From directions `(canaries, dimension)` to the sum of their updates."""
    aggregator = process.aggregator
    (spec,) = process.update_spec

    @backend.jit
    def summed(params, directions, seeds):
        def one(direction, seed):
            update = [ops.reshape(direction, spec.shape)]
            message = aggregator.encode(update, params, seed)
            examples = ops.convert_to_tensor(1000.0)
            return aggregator.summand(message, examples, params)

        summands = backend.vmap(one)(directions, seeds)
        return keras.tree.map_structure(lambda a: ops.sum(a, axis=0), summands)

    def send(broadcast, directions, seeds):
        nobody = process.empty_update(broadcast)
        total = nobody
        for start in range(0, len(directions), AT_ONCE):
            some = directions[start : start + AT_ONCE]
            summand = summed(
                broadcast.params,
                ops.convert_to_tensor(some),
                ops.convert_to_tensor(seeds[start : start + AT_ONCE]),
            )
            total += nobody._replace(
                summand=summand, num_clients=nobody.num_clients + len(some)
            )
        return total

    return send


def _flat(arrays):
    return np.concatenate([np.ravel(backend.to_numpy(a)) for a in arrays])


def report(plan, make, seed):
    cosines = attack(plan, make(plan), seed)
    found = canary_epsilon(cosines, plan.dimension, DELTA, CONFIDENCE)
    print(
        json.dumps(
            {
                "aggregator": make.__name__,
                "claimed": round(plan.claimed, 2),
                "estimate": round(found.estimate, 2),
                "lower_bound": round(found.lower_bound, 2),
                "refuted": found.lower_bound > plan.claimed,
                "should_be": make in WRONG,
            }
        ),
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for make in (*RIGHT, *WRONG):
        report(Plan(), make, arguments.seed)


if __name__ == "__main__":
    main()
