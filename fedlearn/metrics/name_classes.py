from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def name_classes(
    metrics: Mapping[str, Any],
    names: Sequence[str] | None,
    metric_names: Iterable[str],
) -> dict[str, Any]:
    """Metrics with a value for each class, by the names of the classes.

    A metric of the model that is itself called `recall_0` keeps its name.

    >>> metrics = {"loss": 0.5, "recall_0": 1.0, "recall_1": 0.5}
    >>> name_classes(metrics, ["cat", "dog"], ["recall"])
    {'loss': 0.5, 'recall_cat': 1.0, 'recall_dog': 0.5}
    """
    own = set(metric_names)
    renamed: dict[str, str] = {}
    for metric in own if names else ():
        pairs = {f"{metric}_{k}": n for k, n in enumerate(names or ())}
        if (
            pairs.keys() <= metrics.keys() - own
            and f"{metric}_{len(pairs)}" not in metrics
        ):
            renamed |= {key: f"{metric}_{n}" for key, n in pairs.items()}
    return {renamed.get(key, key): value for key, value in metrics.items()}
