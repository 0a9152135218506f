"""A component on trial, and the rules that hold for all kinds of them.

A rule is a function that raises `Broken`, or whatever the component raises, if
the component on trial breaks it; its docstring says how to mend that.
"""

import functools
import math
import os
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import backend, seeds
from fedlearn.aggregators.aggregator import Aggregator
from fedlearn.algorithms.federated_averaging import FederatedAveraging
from fedlearn.clients.local_training import LocalTraining
from fedlearn.encoders.encoder import Spec
from fedlearn.messages import wire
from fedlearn.messages.server_state import ServerState
from fedlearn.process import LearningProcess
from fedlearn.runs import state_file
from fedlearn.testing.compare import (
    Broken,
    all_finite,
    host,
    require_same,
    require_same_layout,
)

# Of several variables, with numbers of elements that are no powers of two.
DEFAULT_SPEC = (
    keras.KerasTensor((5, 3), "float32"),
    keras.KerasTensor((7,), "float32"),
    keras.KerasTensor((), "float32"),
)


# Of a client's half of a round, what is compared.
_PARTS = ("kept", "summand")


class Trial:
    """A component, and the two halves of a round with it on arrays.

    Attributes:
        attributes: Of the component, those that a config must bring back.
    """

    attributes: tuple[str, ...] = ("reduction", "num_required", "noise")

    def __init__(
        self, subject: Any, spec: Spec, num_clients: int, tolerance: float
    ):
        self.subject = subject
        self.spec = spec
        self.num_clients = num_clients
        self.tolerance = tolerance

    @functools.cached_property
    def built(self) -> Aggregator:
        return self.aggregator().build(self.spec)

    def aggregator(self) -> Aggregator:
        """What has a round, and trains in a process."""
        return self.subject

    def client(self, shared: Any, own: Any) -> dict[str, Any]:
        params = self.built.params(shared["state"], shared["seed"])
        message, kept = self.built.encode(
            own["value"], params, own["seed"], own["memory"]
        )
        summand = self.built.summand(message, own["num_examples"], params)
        return {"message": message, "kept": kept, "summand": summand}

    def server(self, shared: Any, total: Any) -> dict[str, Any]:
        aggregate, state, metrics = self.built.finish(
            shared["state"],
            total,
            self.built.params(shared["state"], shared["seed"]),
            shared["noise"],
        )
        return {"aggregate": aggregate, "state": state, "metrics": metrics}

    @functools.cached_property
    def shared(self) -> dict[str, Any]:
        """What is the same for all clients of the first round."""
        state = self.built.init()
        return {
            "state": state,
            "noise": self.built.draw(state, generator()),
            "seed": ops.convert_to_tensor(words("round")),
        }

    def own(self, client: int = 0) -> dict[str, Any]:
        """What is a client's own."""
        return {
            "value": tensors(normal(self.spec, client)),
            "seed": ops.convert_to_tensor(words("client", client)),
            "memory": self.built.init_memory(),
            "num_examples": ops.convert_to_tensor(np.float32(1 + client)),
        }

    @functools.cached_property
    def clients(self) -> list[dict[str, Any]]:
        """All clients' halves, eagerly."""
        return [
            host(self.client(self.shared, self.own(k)))
            for k in range(self.num_clients)
        ]

    def summands(self) -> list[Any]:
        return [client["summand"] for client in self.clients]

    def total(self, summands: Sequence[Any] | None = None) -> Any:
        """The sum, or stack, of all clients' or some others' summands."""
        summands = self.summands() if summands is None else summands
        join = sum_of if self.built.reduction == "sum" else np.stack
        return tensors(keras.tree.map_structure(lambda *a: join(a), *summands))

    def serve(self, total: Any) -> dict[str, Any]:
        return host(self.server(self.shared, total))

    @functools.cached_property
    def served(self) -> dict[str, Any]:
        """The server's half, eagerly."""
        return self.serve(self.total())


def sum_of(arrays: Sequence[Any]) -> Any:
    """One after another, in their own dtype."""
    return functools.reduce(lambda a, b: a + b, arrays)


def tensors(tree: Any) -> Any:
    """All arrays of a pytree, as tensors of the backend."""
    return keras.tree.map_structure(ops.convert_to_tensor, tree)


def check_rules(
    trial: Trial,
    rules: Mapping[str, Callable[[Any], None]],
    skip: Sequence[str],
) -> None:
    """AssertionError at the first of the rules that the component breaks."""
    for name in skip:
        if name not in rules:
            raise ValueError(
                f"There is no rule {name!r} to skip. Rules are {[*rules]}."
            )
    for name, check in rules.items():
        if name in skip:
            continue
        try:
            check(trial)
        except Exception as error:
            what = str(error)
            if not isinstance(error, Broken):
                what = f"It raised {type(error).__name__}: {error}"
            mend = " ".join((check.__doc__ or "").split())
            raise AssertionError(
                f"{type(trial.subject).__name__} breaks the rule {name!r}. "
                f"{what} {mend}"
            ) from error


def pure(trial: Trial) -> None:
    """Make new lists, dicts and arrays, and change neither what you are given
    nor the object itself."""
    arguments = trial.shared, trial.own(), trial.total()
    before, config = host(arguments), trial.built.get_config()
    trial.client(*arguments[:2])
    again = trial.serve(arguments[2])
    require_same(arguments, before, "What was given to it")
    if (after := trial.built.get_config()) != config:
        raise Broken(f"Its config was {config}, and after a round is {after}.")
    require_same(again, trial.served, "The same round a second time")


def seeded(trial: Trial) -> None:
    """Draw from the `seed` of `params` and `encode`, or from the `rng` of
    `draw`, and from nothing else."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    keras.random.uniform(())  # moves Keras's own on
    np.random.seed(1)
    random.seed(1)
    try:
        again = host(trial.client(trial.shared, trial.own()))
        drawn = trial.built.draw(trial.shared["state"], generator())
        served = trial.serve(trial.total())
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
    require_same(
        again, trial.clients[0], "A second time, from the same seeds, a client"
    )
    require_same(drawn, trial.shared["noise"], "Drawn at the server again")
    require_same(served, trial.served, "A second time, the server's part")


def config(trial: Trial) -> None:
    """Keep every argument of the constructor as an attribute of its name, or
    return all of them from `get_config`."""
    known = trial.subject.get_config()
    other = type(trial.subject).from_config(known)
    pairs = {"Its config": (other.get_config(), known)}
    for name in trial.attributes:
        pair = getattr(other, name), getattr(trial.subject, name)
        pairs[f"`{name}`"] = pair
    for what, (found, wanted) in pairs.items():
        if found != wanted:
            raise Broken(
                f"{what} is {wanted!r}, and that of from_config(get_config()) "
                f"{found!r}."
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
    """Use keras.ops, no `if` on the values of arrays, and no NumPy on them."""
    client, server = backend.jit(trial.client), backend.jit(trial.server)
    first = host(client(trial.shared, trial.own()))
    again = host(client(trial.shared, trial.own()))
    require_same(again, first, "Compiled, a second time")
    served = host(server(trial.shared, trial.total()))
    pairs = {k: (first[k], trial.clients[0][k]) for k in _PARTS}
    pairs |= {f"its {k}": (served[k], v) for k, v in trial.served.items()}
    for part, (found, known) in pairs.items():
        require_same(found, known, f"Compiled, `{part}`", trial.tolerance)


def vectorized(trial: Trial) -> None:
    """Where clients' arrays are used, take operations that a map over clients
    knows, and give axes counted from within one client's array."""
    lanes = [trial.own(k) for k in range(trial.num_clients)]
    stacked = keras.tree.map_structure(lambda *a: ops.stack(a), *lanes)

    def run(shared, stacked):
        def one(own):
            found = trial.client(shared, own)
            return {part: found[part] for part in _PARTS}

        return backend.vmap(one)(stacked)

    together = host(backend.jit(run)(trial.shared, stacked))
    for k, alone in enumerate(trial.clients):
        for part in _PARTS:
            require_same(
                keras.tree.map_structure(lambda a, k=k: a[k], together[part]),
                alone[part],
                f"In lane {k} of {trial.num_clients} clients, `{part}`",
                trial.tolerance,
            )


def state(trial: Trial) -> None:
    """Keep a pytree of arrays of fixed shapes and dtypes in the state, and
    nothing in the object itself."""
    first = after = trial.shared["state"]
    rng = generator()
    for number in range(1, 4):
        noise = trial.built.draw(after, rng)
        shared = {**trial.shared, "state": after, "noise": noise}
        after = trial.server(shared, trial.total())["state"]
        require_same_layout(after, first, f"The state after {number} rounds")


def sent(trial: Trial) -> None:
    """Encode to nested lists, tuples and dicts of arrays of numbers, with all
    that decoding needs in them or in `params`."""
    built, first = trial.built, trial.clients[0]
    sent = wire.unpack(wire.pack(built.to_wire(first["message"])))
    message = tensors(built.from_wire(sent, first["message"]))
    params = built.params(trial.shared["state"], trial.shared["seed"])
    found = built.summand(message, trial.own()["num_examples"], params)
    require_same(found, first["summand"], "The summand of a message's bytes")


def training(trial: Trial) -> None:
    """Run one round of fedlearn.FederatedAveraging with it and look at the
    state."""
    cohort, process = _cohort(trial), _process(trial, "sequential")
    start = process.initialize(seed=7)
    one = _round(process, start, cohort)
    two = _round(process, one, cohort)
    pairs = zip(host(two.trainable), host(start.trainable), strict=True)
    if all((a == b).all() for a, b in pairs):
        raise Broken("After two rounds no weight of the model has moved.")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "state")
        state_file.save(path, one)
        loaded, _ = state_file.load(path, start, process.client_state)
    what = "The state of a run that went on from a saved state"
    require_same(_tree(_round(process, loaded, cohort)), _tree(two), what)
    process = _process(trial, "vectorized")
    other = process.initialize(seed=7)
    for _ in range(2):
        other = _round(process, other, cohort)
    what = "The state with executor='vectorized', against 'sequential'"
    parts = ("trainable", "aggregator", "client_states")
    found, known = (
        [_tree(state)[part] for part in parts] for state in (other, two)
    )
    require_same(found, known, what, trial.tolerance)


def check_metrics(metrics: dict[str, Any]) -> None:
    """Raises `Broken` unless all are finite scalars."""
    for name, metric in metrics.items():
        if np.shape(metric) != () or not all_finite(metric):
            raise Broken(f"The metric {name!r} is {metric}.")


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


def _cohort(trial: Trial) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Clients with 8 or 4 examples of a linear function each, by id."""
    cohort, slopes = {}, np.array([[1.0], [-2.0], [0.5]])
    for k in range(trial.num_clients):
        size = 4 if k == 1 else 8
        x = seeds.normal(3 * size, "tiny regression", k).reshape(size, 3)
        y = x @ slopes + 0.1 * k
        cohort[f"client_{k}"] = x.astype("float32"), y.astype("float32")
    return cohort


def _process(trial: Trial, executor: str) -> LearningProcess:
    dense = keras.layers.Dense(1, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((3,)), dense])
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    client = LocalTraining(batch_size=4, shuffle=False)
    return FederatedAveraging(
        model, client, aggregator=trial.aggregator(), executor=executor
    )


def _round(process: LearningProcess, state: Any, cohort: Any) -> ServerState:
    after, metrics = process.next(state, cohort)
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
