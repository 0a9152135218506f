"""What a process is and what its rounds take, as a table."""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fedlearn import serialization, training
from fedlearn.advice.units import counted, in_bytes
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.runs.run_privacy import RunPrivacy
from fedlearn.samplers import Sampler

if TYPE_CHECKING:
    from fedlearn.process import LearningProcess


def summary(
    process: "LearningProcess",
    data: Any = None,
    rounds: int | None = None,
    clients_per_round: int | None = None,
    sampler: Sampler | None = None,
    print_fn: Callable[[str], Any] = print,
) -> None:
    """Prints what the process is and what its rounds take.

    Model and parameters, what clients compute, how updates are put together,
    and the bytes that a client sends and gets in a round, measured on messages
    of its own; with `data`, also who takes part and epsilon. Nothing is
    trained.

    Args:
        data: As for `fit`; one client is read.
        rounds: After how many rounds epsilon is told; None for one.
        clients_per_round: As for `fit`.
        sampler: As for `fit`.
        print_fn: What each line is given to.

    Example:

    >>> import keras, numpy as np
    >>> import fedlearn as fl
    >>> model = keras.Sequential(
    ...     [keras.Input((2,)), keras.layers.Dense(1)], name="line")
    >>> model.compile(keras.optimizers.SGD(0.1), "mse")
    >>> client = (np.ones((4, 2), "float32"), np.ones((4, 1), "float32"))
    >>> fl.FederatedAveraging(
    ...     model, fl.LocalTraining(epochs=5), aggregator="median"
    ... ).summary([client, client], print_fn=lambda line: print(line[:60]))
    FederatedAveraging
      model            Sequential 'line', 3 parameters, 3 of the
      client           LocalTraining(epochs=5)
      its optimizer    SGD(learning_rate=0.1)
      aggregator       Median()
      server optimizer SGD(learning_rate=1.0)
      clients are run  Vectorized(max_lanes=None) with 4 clients
      a client sends   136 B a round
      a client gets    92 B a round
      take part        all 2 clients in every round
    """
    print_fn(type(process).__name__)
    for name, text in _facts(process, data, rounds, clients_per_round, sampler):
        print_fn(f"  {name:<17}{text}")


def _facts(process, data, rounds, clients_per_round, sampler):
    model = process.model
    trained = sum(math.prod(v.shape) for v in model.trainable_variables)
    yield (
        "model",
        f"{type(model).__name__} {model.name!r}, "
        f"{model.count_params():,} parameters, {trained:,} of them trained",
    )
    client = getattr(process.client, "optimizer", None) or model.optimizer
    yield "client", serialization.shown(process.client)
    yield "its optimizer", serialization.shown(client)
    yield "aggregator", serialization.shown(process.aggregator)
    yield "server optimizer", serialization.shown(process.server_optimizer)
    yield "clients are run", process.executor.plan(process.program)
    dataset = None if data is None else training.as_dataset(data, process)
    yield from _traffic(process, dataset)
    state = process.state
    if dataset is not None:
        seed = 0 if state is None else int(state.seed)
        chosen = training.chosen_sampler(
            process, dataset, sampler, clients_per_round, seed
        )
        yield "take part", _who(chosen, dataset)
        yield from _privacy(RunPrivacy(process, dataset, chosen), rounds)
    elif process.aggregator.noise or getattr(process.client, "dp", None):
        yield "privacy", "depends on who is drawn: give `data`, as to fit"
    if state is not None:
        yield "trained", counted(int(state.round_num), "round")


def _traffic(
    process: "LearningProcess", data: FederatedDataset | None
) -> Iterator[tuple[str, str]]:
    """Bytes of one client in one round, measured on messages."""
    model = process.functional_model
    if data is not None:  # whose examples Keras builds its metrics with
        first = next((i for i in data if data.num_examples(i)), None)
        if first is not None:
            process.cohort(data.select([first])).read(0)
    up, down = client_bytes(process)
    more = ", and its metrics" if model.no_examples is None else ""
    if up is None:
        sent = "as many bytes as its update takes: see `bytes_up`"
    else:
        sent = f"{in_bytes(up)} a round{more}"
    yield "a client sends", sent
    yield "a client gets", f"{in_bytes(down)} a round"


def client_bytes(process: "LearningProcess") -> tuple[float | None, float]:
    """Bytes that a client sends and gets; None if they depend on the update."""
    state = process.initialize() if process.state is None else process.state
    down = process.bytes_down(process.broadcast(state))
    if process.program.varies_in_length:
        return None, down
    return process.program.bytes_up(), down


def _who(sampler: Sampler | None, data: FederatedDataset) -> str:
    if sampler is None:
        return f"all {counted(len(data), 'client')} in every round"
    return (
        f"{sampler.clients_per_round:g} of "
        f"{counted(len(sampler.client_ids), 'client')} in a round "
        f"({type(sampler).__name__})"
    )


def _privacy(
    privacy: RunPrivacy, rounds: int | None
) -> Iterator[tuple[str, str]]:
    for guarantee in privacy.guarantees:
        number = 1 if rounds is None else rounds
        yield (
            "privacy",
            f"{guarantee.log_name} {guarantee.epsilon(number):.4g} after "
            f"{counted(number, 'round')}, at delta {guarantee.delta:.3g}, for "
            f"one {guarantee.unit}",
        )
