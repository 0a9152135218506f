"""A component on trial, and the rules that hold for all kinds of them."""

import functools
import math
import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import backend, seeds
from fedlearn.algorithms.federated_averaging import FederatedAveraging
from fedlearn.clients.local_training import LocalTraining
from fedlearn.encoders.encoder import Spec
from fedlearn.messages.server_state import ServerState
from fedlearn.process import LearningProcess
from fedlearn.runs import state_file
from fedlearn.runs.client_states import ClientStates
from fedlearn.testing.compare import (
    all_finite,
    host,
    require_close,
    require_same,
    require_same_layout,
)
from fedlearn.testing.rule import Broken, Rule

# Of several variables, with numbers of elements that are no powers of two.
DEFAULT_SPEC = (
    keras.KerasTensor((5, 3), "float32"),
    keras.KerasTensor((7,), "float32"),
    keras.KerasTensor((), "float32"),
)


class Trial:
    """A component, and the two halves of its round as functions of arrays.

    A subclass says what these are, and which `parts` of a client's half are
    compared.
    """

    parts: tuple[str, ...]
    attributes: tuple[str, ...]

    def __init__(
        self, subject: Any, spec: Spec, num_clients: int, tolerance: float
    ):
        self.subject = subject
        self.built = subject.build(spec)
        self.spec = spec
        self.num_clients = num_clients
        self.tolerance = tolerance
        self.compiled = backend.jit(self.client)

    def client(self, shared: Any, own: Any) -> dict[str, Any]:
        """A client's half of a round."""
        raise NotImplementedError

    def server(self, shared: Any, total: Any) -> dict[str, Any]:
        """The server's: its `state`, `metrics`, and what else it makes."""
        raise NotImplementedError

    def total(self) -> Any:
        """What the server gets."""
        raise NotImplementedError

    def aggregator(self) -> Any:
        """What trains in a process."""
        raise NotImplementedError

    @functools.cached_property
    def shared(self) -> dict[str, Any]:
        """What is the same for all clients of the first round."""
        state = self.built.init()
        return {
            "state": state,
            "noise": self.built.draw(state, generator()),
            "seed": ops.convert_to_tensor(words("round")),
        }

    def own(self, client: int = 0, value: Any = None) -> dict[str, Any]:
        """What is a client's own."""
        value = normal(self.spec, client) if value is None else value
        init = getattr(self.built, "init_memory", tuple)
        return {
            "value": [ops.convert_to_tensor(v) for v in value],
            "seed": ops.convert_to_tensor(words("client", client)),
            "memory": init(),
            "num_examples": ops.convert_to_tensor(np.float32(1 + client)),
        }

    @functools.cached_property
    def clients(self) -> list[dict[str, Any]]:
        """All clients' halves, eagerly."""
        return [
            host(self.client(self.shared, self.own(k)))
            for k in range(self.num_clients)
        ]

    @functools.cached_property
    def served(self) -> dict[str, Any]:
        """The server's half, eagerly."""
        return host(self.server(self.shared, self.total()))


def pure(trial: Trial) -> None:
    """Nothing that it is given changes, and nothing is remembered."""
    arguments = trial.shared, trial.own(), trial.total()
    before, config = host(arguments), trial.built.get_config()
    trial.client(*arguments[:2])
    again = host(trial.server(arguments[0], arguments[2]))
    require_same(arguments, before, "What was given to it")
    if trial.built.get_config() != config:
        raise Broken(
            f"Its config was {config}, and after a round it is "
            f"{trial.built.get_config()}."
        )
    require_same(again, trial.served, "The same round a second time")


def seeded(trial: Trial) -> None:
    """Equal seeds make equal numbers, whatever global seeds are."""
    with other_global_seeds():
        again = host(trial.client(trial.shared, trial.own()))
        drawn = trial.built.draw(trial.shared["state"], generator())
        served = host(trial.server(trial.shared, trial.total()))
    require_same(
        again, trial.clients[0], "A second time, from the same seeds, a client"
    )
    require_same(drawn, trial.shared["noise"], "Drawn at the server again")
    require_same(served, trial.served, "A second time, the server's part")


def config(trial: Trial) -> None:
    """A config makes an equal one, also through Keras's registry."""
    known = trial.subject.get_config()
    other = type(trial.subject).from_config(known)
    if other.get_config() != known:
        raise Broken(
            f"Its config is {known}, and that of from_config(get_config()) "
            f"is {other.get_config()}."
        )
    for name in trial.attributes:
        found, wanted = getattr(other, name), getattr(trial.subject, name)
        if found != wanted:
            raise Broken(
                f"`{name}` is {wanted!r}, and that of from_config(get_config())"
                f" {found!r}."
            )
    other = type(trial)(other, trial.spec, trial.num_clients, trial.tolerance)
    require_same(
        (other.clients, other.served),
        (trial.clients, trial.served),
        "A round with from_config(get_config())",
    )
    saved = keras.saving.serialize_keras_object(trial.subject)
    if keras.saving.deserialize_keras_object(saved) != trial.subject:
        raise Broken(f"Keras makes another one of {saved}.")


def compiled(trial: Trial) -> None:
    """Compiled, both halves are the same but for rounding."""
    first = host(trial.compiled(trial.shared, trial.own()))
    again = host(trial.compiled(trial.shared, trial.own()))
    require_same(again, first, "Compiled, a second time")
    served = backend.jit(trial.server)(trial.shared, trial.total())
    known = trial.clients[0] | {f"its {k}": v for k, v in trial.served.items()}
    found = first | {f"its {k}": v for k, v in host(served).items()}
    for part in (*trial.parts, *(f"its {k}" for k in trial.served)):
        require_close(
            found[part], known[part], trial.tolerance, f"Compiled, `{part}`"
        )


def vectorized(trial: Trial) -> None:
    """Clients side by side make what each makes alone."""
    lanes = [trial.own(k) for k in range(trial.num_clients)]
    stacked = keras.tree.map_structure(lambda *a: ops.stack(a), *lanes)

    def run(shared, stacked):
        def one(own):
            found = trial.client(shared, own)
            return {part: found[part] for part in trial.parts}

        return backend.vmap(one)(stacked)

    together = host(backend.jit(run)(trial.shared, stacked))
    for k, alone in enumerate(trial.clients):
        for part in trial.parts:
            require_close(
                keras.tree.map_structure(lambda a, k=k: a[k], together[part]),
                alone[part],
                trial.tolerance,
                f"In lane {k} of {trial.num_clients} clients, `{part}`",
            )


def state(trial: Trial) -> None:
    """States keep their layout over rounds, and can be saved."""
    first, kept = trial.shared["state"], trial.clients[0]["kept"]
    states, rng = [first], generator()
    for number in range(1, 4):
        shared = {
            **trial.shared,
            "state": states[-1],
            "noise": trial.built.draw(states[-1], rng),
        }
        states.append(trial.server(shared, trial.total())["state"])
        require_same_layout(
            states[-1], first, f"The state after {number} rounds"
        )
    after, before = (
        ServerState(
            trainable=[],
            non_trainable=[],
            optimizer=[],
            aggregator=s,
            client_states=ClientStates(
                {"a": kept} if keras.tree.flatten(kept) else {}
            ),
            round_num=np.asarray(1, np.int64),
            seed=np.asarray(0, np.int64),
        )
        for s in (states[1], first)
    )
    loaded = _saved_and_loaded(after, before, kept)
    require_same(
        (loaded.aggregator, dict(loaded.client_states)),
        (after.aggregator, dict(after.client_states)),
        "The state, saved and loaded",
    )


def training(trial: Trial) -> None:
    """Two rounds of a linear regression move its weights; they can be resumed
    from a file, bit for bit; both executors agree."""
    process, cohort = _process(trial.aggregator(), "sequential"), _cohort(trial)
    start = process.initialize(seed=7)
    one = _round(process, start, cohort)
    two = _round(process, one, cohort)
    pairs = zip(host(two.trainable), host(start.trainable), strict=True)
    if all((a == b).all() for a, b in pairs):
        raise Broken("After two rounds no weight of the model has moved.")
    loaded = _saved_and_loaded(one, start, process.client_state)
    require_same(
        _tree(_round(process, loaded, cohort)),
        _tree(two),
        "The state of a run that went on from a saved state",
    )
    process = _process(trial.aggregator(), "vectorized")
    other = _round(process, process.initialize(seed=7), cohort)
    other = _round(process, other, cohort)
    require_close(
        (other.trainable, other.aggregator, dict(other.client_states)),
        (two.trainable, two.aggregator, dict(two.client_states)),
        trial.tolerance,
        "The state with executor='vectorized', against 'sequential'",
    )


def check_metrics(metrics: dict[str, Any]) -> None:
    """Raises `Broken` unless all are finite scalars."""
    for name, metric in metrics.items():
        if np.shape(metric) != () or not all_finite(metric):
            raise Broken(f"The metric {name!r} is {metric}.")


PURE = Rule(
    "pure",
    "Make new lists, dicts and arrays, and change neither what you are given "
    "nor the object itself.",
    pure,
)
SEEDS = Rule(
    "seeds",
    "Draw from the `seed` of `params` and `encode`, or from the `rng` of "
    "`draw`, and from nothing else.",
    seeded,
)
CONFIG = Rule(
    "config",
    "Keep every argument of the constructor as an attribute of its name, or "
    "return all of them from `get_config`.",
    config,
)
COMPILED = Rule(
    "compiled",
    "Use keras.ops, no `if` on the values of arrays, and no NumPy on them.",
    compiled,
)
VECTORIZED = Rule(
    "vectorized",
    "Where clients' arrays are used, take operations that a map over clients "
    "knows, and give axes counted from within one client's array.",
    vectorized,
)
STATE = Rule(
    "state",
    "Keep a pytree of arrays of fixed shapes and dtypes in the state, and "
    "nothing in the object itself.",
    state,
)
TRAINING = Rule(
    "training",
    "Run one round of fedlearn.FederatedAveraging with it and look at the "
    "state.",
    training,
)


def normal(spec: Spec, client: int = 0, scale: float = 1.0) -> list[np.ndarray]:
    """A client's normal numbers, times `scale`, on the host."""
    sizes = [math.prod(s.shape) for s in spec]
    numbers = scale * seeds.normal(sum(sizes), "battery", "value", client)
    arrays = np.split(numbers, np.cumsum(sizes)[:-1])
    # NumPy's names don't have bfloat16.
    dtypes = [ops.convert_to_numpy(ops.zeros((), s.dtype)).dtype for s in spec]
    return [
        a.reshape(s.shape).astype(d)
        for a, s, d in zip(arrays, spec, dtypes, strict=True)
    ]


def words(*key: seeds.Key) -> np.ndarray:
    """A seed as encoders get it, int32 of shape `(2,)`."""
    return seeds.bits(1, "battery", "seed", *key).view(np.int32)


def generator() -> np.random.Generator:
    """The server's randomness."""
    return seeds.generator("battery", "server")


@contextmanager
def other_global_seeds() -> Iterator[None]:
    """Other global seeds for a while; nothing may depend on them."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    keras.random.uniform(())  # moves Keras's own on
    np.random.seed(1)
    random.seed(1)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def _cohort(trial: Trial) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Clients with 8 or 4 examples of a linear function each, by id."""
    cohort = {}
    for k in range(trial.num_clients):
        size = 4 if k == 1 else 8
        x = seeds.normal(3 * size, "tiny regression", k).reshape(size, 3)
        y = x @ np.array([[1.0], [-2.0], [0.5]]) + 0.1 * k
        cohort[f"client_{k}"] = x.astype("float32"), y.astype("float32")
    return cohort


def _process(aggregator: Any, executor: str) -> LearningProcess:
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="ones")]
    )
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    return FederatedAveraging(
        model,
        client=LocalTraining(batch_size=4, shuffle=False),
        aggregator=aggregator,
        executor=executor,
    )


def _round(
    process: LearningProcess, state: ServerState, cohort: Any
) -> ServerState:
    before = host(_tree(state))
    after, metrics = process.next(state, cohort)
    require_same(_tree(state), before, "The state that was given to a round")
    # A private run may leave it out.
    if rejected := metrics.get("num_rejected"):
        raise Broken(f"{rejected:g} clients with finite updates were left out.")
    if not all_finite((after.trainable, after.aggregator)):
        raise Broken("After a round, weights or states aren't finite.")
    check_metrics(metrics)
    return after


def _tree(state: ServerState) -> Any:
    # Whether a mapping is a part of a tree depends on Keras's backend.
    return {**state._asdict(), "client_states": dict(state.client_states)}


def _saved_and_loaded(
    state: ServerState, like: ServerState, client_state: Any
) -> ServerState:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "state")
        state_file.save(path, state)
        loaded, _ = state_file.load(path, like, client_state)
    return loaded
