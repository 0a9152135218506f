"""fedlearn: federated learning for Keras 3 models.

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
        attacks,
        callbacks,
        clients,
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
    from fedlearn.process import (
        Broadcast,
        LearningProcess,
        ServerState,
        Update,
    )

# Public name -> the module that defines it.
_DEFINED_IN = {
    "Broadcast": "fedlearn.process",
    "FederatedAveraging": "fedlearn.algorithms.federated_averaging",
    "FederatedDataset": "fedlearn.data.federated_dataset",
    "LearningProcess": "fedlearn.process",
    "LocalTraining": "fedlearn.clients.local_training",
    "ServerState": "fedlearn.process",
    "Update": "fedlearn.process",
    "evaluate": "fedlearn.evaluation",
}

_SUBMODULES = (
    "aggregators",
    "algorithms",
    "attacks",
    "callbacks",
    "clients",
    "data",
    "datasets",
    "encoders",
    "executors",
    "metrics",
    "models",
    "optimizers",
    "partition",
    "plot",
    "privacy",
    "samplers",
    "seeds",
    "testing",
)

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
    "attacks",
    "callbacks",
    "clients",
    "data",
    "datasets",
    "encoders",
    "evaluate",
    "executors",
    "metrics",
    "models",
    "optimizers",
    "partition",
    "plot",
    "privacy",
    "samplers",
    "seeds",
    "testing",
]


def __getattr__(name: str) -> Any:
    if name in _DEFINED_IN:
        value = getattr(importlib.import_module(_DEFINED_IN[name]), name)
    elif name in _SUBMODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        import difflib

        public = {n.lower(): n for n in (*_DEFINED_IN, *_SUBMODULES)}
        near = difflib.get_close_matches(name.lower(), public, n=1)
        hint = f" Did you mean {public[near[0]]!r}?" if near else ""
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}.{hint}"
        )
    # Found once, a name is an ordinary module attribute from then on.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
