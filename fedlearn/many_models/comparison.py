import functools
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fedlearn import checks
from fedlearn.advice.did_you_mean import did_you_mean

# Two models whose numbers differ by less compute the same: float32 in another
# order of sums.
_ROUNDING = 1e-6


class Difference(NamedTuple):
    """How much higher a metric is of one model than of another.

    Attributes:
        difference: The first model's metric minus the second's.
        standard_error: Of the difference, over clients; NaN if unknown.
        interval: `(low, high)`, which has the true difference in the
            comparison's `confidence` of cases.
        p_value: How often models that don't differ would differ so much.
        num_clients: How many clients evaluated both.
    """

    difference: float
    standard_error: float
    interval: tuple[float, float]
    p_value: float
    num_clients: int


class Comparison:
    """A metric of several models on clients, and what can be said of it.

    Clients differ more than models do, so models are compared on the same
    clients. Where not every client evaluates every model, each value is taken
    as the sum of a model's effect and a client's, found by least squares (the
    intra-block analysis of Yates 1936, "Incomplete randomized blocks"): two
    models are then compared also through clients that share one of them with
    a third model. Standard errors take clients as a random sample, and models
    may be unequally noisy. Where all clients evaluate all models this is the
    mean of the paired differences and its usual standard error.

    Args:
        values: For each model's name, the metric by client id. Clients where
            it isn't a finite number for any model are left out.
        metric: Its name.
        mode: Whether the best is the `"min"` or the `"max"`.
        confidence: Of intervals, and of the choice of the best.

    Raises:
        ValueError: If there is no model, or one without clients.

    Example:

    >>> comparison = Comparison({
    ...     "a": {"anna": 0.5, "ben": 0.8, "cleo": 0.3, "dan": 0.4},
    ...     "b": {"anna": 0.6, "ben": 0.9, "cleo": 0.5, "dan": 0.5},
    ... }, "accuracy", "max")
    >>> comparison.best, round(comparison.mean["b"], 3)
    ('b', 0.625)
    >>> [round(x, 3) for x in comparison.paired("b", "a")[:2]]
    [0.125, 0.025]
    """

    def __init__(
        self,
        values: Mapping[str, Mapping[str, float]],
        metric: str = "loss",
        mode: str = "min",
        confidence: float = 0.95,
    ):
        if not values or not all(values.values()):
            raise ValueError(
                "There is nothing to compare: expected at least one model, and "
                "a client for each."
            )
        told = {
            client
            for own in values.values()
            for client, value in own.items()
            if math.isfinite(value)
        }
        if all(told & own.keys() for own in values.values()):
            values = {
                name: {c: v for c, v in own.items() if c in told}
                for name, own in values.items()
            }
        self.metric = metric
        self.mode = checks.one_of("mode", mode, ("min", "max"))
        self.confidence = checks.fraction("confidence", confidence, one=False)
        self.values = {n: dict(v) for n, v in values.items()}
        self.models = tuple(values)
        rows = {n: np.array([*v.values()], float) for n, v in values.items()}
        self.num_clients = {n: len(row) for n, row in rows.items()}
        self.mean = {n: float(row.mean()) for n, row in rows.items()}
        self.standard_error = {
            n: float(row.std(ddof=1) / len(row) ** 0.5)
            if len(row) > 1 and np.isfinite(row).all()
            else math.nan
            for n, row in rows.items()
        }
        self.failed = tuple(
            n for n, mean in self.mean.items() if not math.isfinite(mean)
        )
        ids = dict.fromkeys(c for own in values.values() for c in own)
        self.client_ids = tuple(ids)
        places = {c: i for i, c in enumerate(ids)}
        self._values = np.zeros((len(rows), len(ids)))
        self._asked = np.zeros(self._values.shape, bool)
        for i, (name, row) in enumerate(rows.items()):
            at = [places[c] for c in values[name]]
            self._values[i, at], self._asked[i, at] = row, True

    @property
    def ranking(self) -> tuple[str, ...]:
        """The models, the best on the same clients first, failed ones last."""
        sign = 1 if self.mode == "min" else -1
        effects = {n: sign * e for n, e in zip(*self._effects[:2], strict=True)}
        return tuple(sorted(self.models, key=lambda n: effects.get(n, np.inf)))

    @functools.cached_property
    def contenders(self) -> tuple[str, ...]:
        """The models that can't be told from the first of the ranking.

        A model is out if its paired difference from the first is beyond the
        noise, at a level divided by the number of comparisons with the first
        (Bonferroni). So at most a share of 1 - `confidence` of comparisons
        names one winner where several are equally good, and at most half as
        many lose the only best one. Failed models aren't among them.
        """
        alive = [n for n in self.ranking if n not in self.failed]
        level = (1 - self.confidence) / max(len(alive) - 1, 1)
        return tuple(
            name
            for name in alive
            if name == alive[0] or self.paired(alive[0], name).p_value > level
        )

    @property
    def best(self) -> str | None:
        """The only one of `contenders`; None if there are several."""
        return self.contenders[0] if len(self.contenders) == 1 else None

    def paired(self, a: str, b: str) -> Difference:
        """The metric of model `a` minus that of model `b`, on equal clients.

        Raises:
            ValueError: If there is no such model.
        """
        for name in (a, b):
            if name not in self.models:
                raise ValueError(
                    f"There is no model {name!r}. Expected one of "
                    f"{', '.join(self.models)}."
                    + did_you_mean(str(name), self.models)
                )
        rows = [self.models.index(n) for n in (a, b)]
        both = int(self._asked[rows].all(axis=0).sum())
        names, effects, influence, freedom = self._effects
        if a not in names or b not in names or freedom <= 0:
            raw = self.mean[a] - self.mean[b]
            return Difference(raw, np.nan, (-np.inf, np.inf), 1.0, both)
        from scipy import stats  # comes with scikit-learn

        i, j = names.index(a), names.index(b)
        difference = float(effects[i] - effects[j])
        error = float(np.linalg.norm(influence[i] - influence[j]))
        half = error * float(stats.t.ppf((1 + self.confidence) / 2, freedom))
        rounding = _ROUNDING * max(abs(self.mean[a]), abs(self.mean[b]))
        if abs(difference) <= rounding:
            p = 1.0
        elif error <= rounding:
            # The same at every client: all the signs agree.
            p = 0.5**freedom
        else:
            p = 2 * float(stats.t.sf(abs(difference) / error, freedom))
        interval = (difference - half, difference + half)
        return Difference(difference, error, interval, p, both)

    @functools.cached_property
    def _effects(self) -> tuple[list[str], np.ndarray, np.ndarray, float]:
        """Names, effects, and each client's part in their errors, by model.

        And degrees of freedom.
        """
        kept = [i for i, n in enumerate(self.models) if n not in self.failed]
        names = [self.models[i] for i in kept]
        asked = self._asked[kept].astype(float)
        asked[:, asked.sum(axis=0) < 2] = 0
        told = asked.any(axis=0)
        values = np.where(asked > 0, self._values[kept], 0)[:, told]
        asked = asked[:, told]
        if len(names) < 2 or not told.any():
            means = np.array([self.mean[n] for n in names])
            return names, means, np.zeros((len(names), 0)), 0.0

        def centred(array):
            return asked * (array - (asked * array).sum(0) / asked.sum(0))

        normal = np.diag(asked.sum(axis=1)) - (asked / asked.sum(0)) @ asked.T
        inverse = np.linalg.pinv(normal, hermitian=True)
        effects = inverse @ centred(values).sum(axis=1)
        residuals = centred(asked * (values - effects[:, None]))
        within, between = asked.sum() - asked.shape[1], len(names) - 1
        freedom = float(within / between - 1)
        if np.linalg.matrix_rank(normal, hermitian=True) < between:
            freedom = 0.0  # some models share no client, not even by others
        scale = np.sqrt((freedom + 1) / freedom) if freedom > 0 else np.nan
        return names, effects, scale * inverse @ residuals, freedom

    def __repr__(self) -> str:
        """A table, the best model first."""
        first = self.ranking[0]
        width = max(5, *map(len, self.models))
        lines = [
            f"{self.metric} ({self.mode}) of {len(self.models)} models on "
            f"{len(self.client_ids):,} clients, with standard errors",
            f"{'model':{width}}  clients        mean           "
            f"from {first} (interval of {self.confidence:.0%})",
        ]
        for name in self.ranking:
            line = (
                f"{name:{width}}  {self.num_clients[name]:7,}  "
                f"{self.mean[name]:10.4g} ± {self.standard_error[name]:<8.2g}"
            )
            if name in self.failed:
                line += "  not a finite number"
            elif name != first:
                told = self.paired(name, first)
                low, high = told.interval
                line += f"  {told.difference:+.3g} ({low:+.3g} to {high:+.3g})"
            lines.append(line.rstrip())
        if self.best is not None:
            lines.append(f"The best is {self.best}.")
        elif self.contenders:
            names = ", ".join(self.contenders)
            lines.append(f"Can't be told apart: {names}.")
        return "\n".join(lines)
