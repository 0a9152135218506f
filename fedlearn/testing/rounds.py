"""Rounds of a tiny process, as both batteries run them."""

import math
import os
import tempfile
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from fedlearn.messages.server_state import ServerState
from fedlearn.process import LearningProcess
from fedlearn.runs import state_file
from fedlearn.runs.client_states import ClientStates
from fedlearn.testing import tiny_regression
from fedlearn.testing.pytrees import (
    all_finite,
    host,
    require_close,
    require_same,
    require_same_layout,
)
from fedlearn.testing.rule import Broken


def require_training(
    aggregator: Any, num_clients: int, tolerance: float
) -> None:
    """Raises `Broken` if an aggregator doesn't train, and go on, in a process.

    Two rounds move the weights and leave all finite; going on from a saved
    state is the same bit for bit; both executors agree.
    """
    process = tiny_regression.process(aggregator)
    cohort = tiny_regression.cohort(num_clients)
    start = process.initialize(seed=7)
    one = _round(process, start, cohort)
    two = _round(process, one, cohort)
    if all(
        (a == b).all()
        for a, b in zip(host(two.trainable), host(start.trainable), strict=True)
    ):
        raise Broken("After two rounds no weight of the model has moved.")
    loaded = saved_and_loaded(one, start, process.client_state)
    resumed = _round(process, loaded, cohort)
    require_same(
        resumed, two, "The state of a run that went on from a saved state"
    )
    process = tiny_regression.process(aggregator, "vectorized")
    other = _round(process, process.initialize(seed=7), cohort)
    other = _round(process, other, cohort)
    require_close(
        (other.trainable, other.aggregator, other.client_states),
        (two.trainable, two.aggregator, two.client_states),
        tolerance,
        "The state with executor='vectorized', against 'sequential'",
    )


def _round(
    process: LearningProcess, state: ServerState, cohort: Any
) -> ServerState:
    before = host(state)
    after, metrics = process.next(state, cohort)
    require_same(state, before, "The state that was given to a round")
    # A private aggregator may leave it out.
    if rejected := metrics.get("num_rejected"):
        raise Broken(f"{rejected:g} clients with finite updates were left out.")
    if not all_finite((after.trainable, after.aggregator)):
        raise Broken("After a round, weights or states aren't finite.")
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    if bad:
        raise Broken(f"The metrics {bad} aren't finite.")
    return after


def require_state(run: Callable[[], list[Any]], first: Any, kept: Any) -> None:
    """Raises `Broken` unless states stay as they were and can be saved.

    Args:
        run: Gives the states after each of some rounds from `first`.
        first: The state before them.
        kept: What a client keeps.
    """
    states = run()
    for number, state in enumerate(states, 1):
        require_same_layout(state, first, f"The state after {number} rounds")
    require_same(
        run(),
        states,
        "Rounds run again from the first state, as if nothing had been before",
    )
    after, before = (
        ServerState(
            trainable=[],
            non_trainable=[],
            optimizer=[],
            aggregator=state,
            client_states=ClientStates(
                {"a": kept} if keras.tree.flatten(kept) else {}
            ),
            round_num=np.asarray(1, np.int64),
            seed=np.asarray(0, np.int64),
        )
        for state in (states[0], first)
    )
    loaded = saved_and_loaded(after, before, kept)
    require_same(
        (loaded.aggregator, loaded.client_states),
        (after.aggregator, after.client_states),
        "The state, saved and loaded",
    )


def saved_and_loaded(
    state: ServerState, like: ServerState, client_state: Any
) -> ServerState:
    """A state after a trip through a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "state")
        state_file.save(path, state)
        loaded, _ = state_file.load(path, like, client_state)
    return loaded
