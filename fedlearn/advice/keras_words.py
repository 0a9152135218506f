"""Arguments that Keras has elsewhere, and where they belong here."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

_CLIENT = (
    "what a client does in a round is said when the process is made: "
    "client=fl.LocalTraining({}=...)"
)
_ROWS = (
    "training data are those of clients: `data`, such as "
    "fl.FederatedDataset.from_arrays(x, y, client_ids)"
)
_WEIGHTS = (
    "weights of examples are part of the data: clients as "
    "(x, y, sample_weight), which `data.map(fn)` can make of (x, y)"
)
_ALL = "all examples are evaluated; for fewer clients: test.sample(100, seed=0)"
_MODEL = "the model is compiled with it: model.compile({}=...)"

FIT = {
    "epochs": "`rounds` is how many rounds to train; how often a client goes "
    "over its own examples in one is said when the process is made: "
    "client=fl.LocalTraining(epochs=...)",
    "initial_epoch": "a second `fit` goes on where the first ended; another "
    "state to start from is `initial_state`",
    "batch_size": _CLIENT.format("batch_size"),
    "shuffle": _CLIENT.format("shuffle"),
    "steps_per_epoch": _CLIENT.format("max_steps"),
    "x": _ROWS,
    "y": _ROWS,
    "sample_weight": _WEIGHTS,
    "class_weight": _CLIENT.format("class_weight"),
    "validation_split": "divide the data before: train, validation = "
    "data.split_examples(0.8, seed=0) inside each client, or "
    "data.split(0.8, seed=0) by clients; then validation_data=validation",
    "validation_steps": _ALL,
    "validation_batch_size": "batches don't change what evaluation gives",
    "optimizer": "clients use that of the compiled model, or "
    "client=fl.LocalTraining(optimizer); the server's is server_optimizer=, "
    "both when the process is made",
    "learning_rate": "it is the optimizer's: of the compiled model (or "
    "client=fl.LocalTraining(optimizer)) and of server_optimizer=, when the "
    "process is made",
    "loss": _MODEL.format("loss"),
    "metrics": _MODEL.format("metrics"),
    "num_rounds": "it is called `rounds`",
    "num_clients": "how many take part in a round is `clients_per_round`",
    "clients": "the clients' data are `data`",
}

_CLIENTS = (
    "clients are evaluated: process.evaluate(test), where test is a "
    "FederatedDataset or a list of (x, y), one for each"
)
EVALUATE = {
    "x": _CLIENTS,
    "y": _CLIENTS,
    "data": "it is called `clients`",
    "sample_weight": _WEIGHTS,
    "steps": _ALL,
    "verbose": "it prints nothing; leave it out",
    "return_dict": "it always returns a dict; leave it out",
}

PROCESS = {
    name: FIT[name]
    for name in (
        "epochs",
        "batch_size",
        "shuffle",
        "steps_per_epoch",
        "loss",
        "metrics",
    )
} | {
    "optimizer": "there are two: client=fl.LocalTraining(optimizer) (or that "
    "of the compiled model), and server_optimizer=",
    "learning_rate": "it is an optimizer's: of the compiled model, of "
    "client=fl.LocalTraining(optimizer), or of server_optimizer=",
    "encoders": "they go into an aggregator: "
    "aggregator=fl.aggregators.Mean(encoders)",
    "rounds": "say it to fit: process.fit(data, rounds=...)",
    "clients_per_round": "say it to fit: process.fit(data, rounds, "
    "clients_per_round=...)",
    "data": "give them to fit: process.fit(data, rounds)",
}

PRIVACY = {
    name: "it is said of the whole run: fl.FederatedAveraging(model, ..., "
    f"privacy=fl.privacy.Privacy({name}=...))"
    for name in ("delta", "secure_noise", "private_metrics")
}

CLIENT = {
    "learning_rate": "it is the optimizer's: "
    "fl.LocalTraining(keras.optimizers.SGD(learning_rate))",
    "steps_per_epoch": "it is called `max_steps`, of a whole round",
    "mu": "it is called `proximal`",
    "loss": _MODEL.format("loss"),
    "metrics": _MODEL.format("metrics"),
    "sample_weight": _WEIGHTS,
}


def answers(
    words: Mapping[str, str],
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Makes a function answer arguments that it hasn't, but Keras's has.

    >>> @answers({"epochs": "say `rounds`"})
    ... def fit(rounds): return rounds
    >>> fit(epochs=3)
    Traceback (most recent call last):
    TypeError: fit() has no argument `epochs`: say `rounds`.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        known = inspect.signature(function).parameters
        asked = {n: w for n, w in words.items() if n not in known}

        @functools.wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            called = function.__name__
            if called == "__init__":
                called = type(args[0]).__name__
            taken = list(known)[: len(args)]
            for name in kwargs:
                if name in asked:
                    raise TypeError(
                        f"{called}() has no argument `{name}`: {asked[name]}."
                    )
                if name in taken:  # by a subclass, which is made of it
                    raise TypeError(
                        f"{called}() sets `{name}` itself. Leave it out, or "
                        "take FederatedAveraging, which has it."
                    )
            return function(*args, **kwargs)

        return call

    return decorate
