"""fedlearn: federated learning for Keras 3 models.

A compiled Keras model and a data set of many clients go in, an ordinary Keras
model comes out:

    import keras, fedlearn as fl

    train, test = fl.datasets.digits.load_data()
    model = fl.models.digits_cnn()
    model.compile("sgd", "sparse_categorical_crossentropy")
    process = fl.FederatedAveraging(model)
    process.fit(train, rounds=20, clients_per_round=10, validation_data=test)
    process.model.save("digits.keras")

To train and evaluate:

    FederatedAveraging  the process: `fit`, `evaluate`, and `next` for a round
    LocalTraining       what a client does in a round: batches, epochs, FedProx
    FederatedDataset    clients and their examples: `from_dataframe`, ...
    evaluate            metrics of any compiled Keras model over clients
    evaluate_many       which of many models is best, or can't be told
    search              hyper-parameters, by successive halving

Parts to choose from:

    aggregators   what the server makes of updates: private, robust, secure
    algorithms    by their papers: `FedAvg`, `FedProx`, `FedAdam`, ...
    callbacks     for `fit`, beside Keras's own: `PrivacyBudget`
    clients       what clients compute: `LocalTraining`, `ExampleDP`
    conditions    who is there, how long clients take, who drops out
    encoders      what happens to updates on their way: clip, noise, compress
    executors     how the clients of a round are run
    metrics       Keras metrics that text models need
    optimizers    server optimizers that Keras lacks
    samplers      who takes part in a round

Data and models to begin with:

    data          errors and descriptions of data files
    datasets      EMNIST, Shakespeare, hospitals, ...: `load_data()` in each
    models        the reference Keras models for them
    partition     pooled examples divided among made-up clients

To look at, and to look out:

    analytics     means, quantiles, vocabularies of all clients, without a model
    attacks       malicious clients, to test a rule with
    plot          pictures of a run
    privacy       epsilon of a plan or run, and the noise for a budget
    seeds         random numbers that are the same everywhere
    testing       what an encoder or aggregator of one's own must pass

A language for what runs where, without a model of Keras's:

    core          federated computations: typed, traced, called like functions

A round in halves, for who writes an algorithm or a deployment:

    LearningProcess, ServerState, Broadcast, Update

Names resolve on first use, so `import fedlearn` is cheap and imports no
backend:

>>> import fedlearn as fl
>>> fl.__version__
'0.1.0.dev0'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# `setup.py` reads this line as text: keep it a plain assignment.
__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from fedlearn import (
        aggregators,
        algorithms,
        analytics,
        attacks,
        callbacks,
        clients,
        conditions,
        core,
        data,
        datasets,
        encoders,
        executors,
        metrics,
        models,
        optimizers,
        partition,
        plot,
        privacy,
        samplers,
        seeds,
        testing,
    )
    from fedlearn.algorithms.federated_averaging import FederatedAveraging
    from fedlearn.clients.local_training import LocalTraining
    from fedlearn.data.federated_dataset import FederatedDataset
    from fedlearn.evaluation import evaluate
    from fedlearn.many_models.evaluate_many import evaluate_many
    from fedlearn.many_models.search import search
    from fedlearn.messages.broadcast import Broadcast
    from fedlearn.messages.server_state import ServerState
    from fedlearn.messages.update import Update
    from fedlearn.process import LearningProcess

# Public name -> the module that defines it; the others are modules.
_DEFINED_IN = {
    "Broadcast": "fedlearn.messages.broadcast",
    "FederatedAveraging": "fedlearn.algorithms.federated_averaging",
    "FederatedDataset": "fedlearn.data.federated_dataset",
    "LearningProcess": "fedlearn.process",
    "LocalTraining": "fedlearn.clients.local_training",
    "ServerState": "fedlearn.messages.server_state",
    "Update": "fedlearn.messages.update",
    "evaluate": "fedlearn.evaluation",
    "evaluate_many": "fedlearn.many_models.evaluate_many",
    "search": "fedlearn.many_models.search",
}

__all__ = [
    "Broadcast",
    "FederatedAveraging",
    "FederatedDataset",
    "LearningProcess",
    "LocalTraining",
    "ServerState",
    "Update",
    "aggregators",
    "algorithms",
    "analytics",
    "attacks",
    "callbacks",
    "clients",
    "conditions",
    "core",
    "data",
    "datasets",
    "encoders",
    "evaluate",
    "evaluate_many",
    "executors",
    "metrics",
    "models",
    "optimizers",
    "partition",
    "plot",
    "privacy",
    "samplers",
    "search",
    "seeds",
    "testing",
]


_SUBMODULES = [name for name in __all__ if name not in _DEFINED_IN]


def __getattr__(name: str) -> Any:
    if name in _DEFINED_IN:
        value = getattr(_import(_DEFINED_IN[name]), name)
    elif name in _SUBMODULES:
        value = _import(f"{__name__}.{name}")
    else:
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}.{_hint(name)}"
        )
    # Found once, a name is an ordinary module attribute from then on.
    globals()[name] = value
    return value


def _hint(name: str) -> str:
    import difflib
    import importlib.util
    import pathlib
    import re

    if importlib.util.find_spec(f"{__name__}.{name}"):
        return ""  # Python asks for a module here before it imports it
    # Read as text: whoever asks with `hasattr` wants nothing imported.
    listed = re.compile(rf'__all__ = \[[^]]*"{re.escape(name)}"')
    places = [
        f"fl.{file.parent.name}.{name}"
        for file in sorted(pathlib.Path(__file__).parent.glob("*/__init__.py"))
        if listed.search(file.read_text(encoding="utf-8"))
    ]
    if places:
        return f" It is {' or '.join(places)}."
    public = {n.lower(): n for n in __all__}
    near = difflib.get_close_matches(name.lower(), public, n=1)
    return f" Did you mean {public[near[0]]!r}?" if near else ""


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        from fedlearn.advice.missing_backend import explanation

        if text := explanation(error):
            raise ImportError(text) from error
        raise


def __dir__() -> list[str]:
    return sorted(__all__)
