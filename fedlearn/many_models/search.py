import dataclasses
import inspect
import json
import math
import os
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from fedlearn import checks
from fedlearn.advice.did_you_mean import did_you_mean
from fedlearn.algorithms.federated_averaging import FederatedAveraging
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.data.fingerprint import fingerprint
from fedlearn.many_models.comparison import Comparison
from fedlearn.many_models.evaluate_many import evaluate_many
from fedlearn.many_models.search_space import Candidate, candidates
from fedlearn.process import LearningProcess
from fedlearn.runs import atomic_file, run_identity
from fedlearn.training import as_dataset

FILE = "search.json"


class Rung(NamedTuple):
    """What came of training some candidates equally long.

    Attributes:
        rounds: How many rounds each had been trained, of all rungs so far.
        comparison: Of them on the validation clients.
    """

    rounds: int
    comparison: Comparison

    @property
    def alive(self) -> list[str]:
        """The candidates that haven't failed, the best first."""
        failed = self.comparison.failed
        return [n for n in self.comparison.ranking if n not in failed]


@dataclasses.dataclass(repr=False)
class Search:
    """What a search of hyper-parameters found.

    Attributes:
        candidates: The hyper-parameters by the candidates' names.
        rungs: From the first, of all candidates, to the last.
        budget: What there was to spend, in rounds of single clients.
        spent: What of it was spent, counted.
        process: That of the best candidate, trained.
    """

    candidates: dict[str, Candidate]
    rungs: list[Rung]
    budget: int
    spent: int
    process: LearningProcess

    @property
    def comparison(self) -> Comparison:
        """Of the candidates that were left at last; who could be the best."""
        return self.rungs[-1].comparison

    @property
    def best(self) -> Candidate:
        """The hyper-parameters of the best candidate."""
        return self.candidates[self.comparison.ranking[0]]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A table, the best first: each candidate where it was last compared.

        For each a dict of `candidate`, its hyper-parameters, `rounds`, the
        metric, its `standard_error` over the validation clients, and `failed`.
        """
        rows: dict[str, dict[str, Any]] = {}
        for rounds, found in reversed(self.rungs):
            for name in found.ranking:
                row = {
                    "candidate": name,
                    **self.candidates[name],
                    "rounds": rounds,
                    found.metric: found.mean[name],
                    "standard_error": found.standard_error[name],
                    "failed": name in found.failed,
                }
                rows.setdefault(name, row)
        return sorted(rows.values(), key=lambda row: row["failed"])

    def __repr__(self) -> str:
        metric = self.comparison.metric
        width = max(9, *map(len, self.candidates))
        lines = [
            f"{len(self.candidates)} candidates, "
            f"{self.spent:,} of {self.budget:,} client rounds spent",
            f"{'candidate':{width}}  rounds  {metric}",
        ]
        for row in self.rows:
            told = f"{row[metric]:.4g} ± {row['standard_error']:.2g}"
            lines.append(
                f"{row['candidate']:{width}}  {row['rounds']:6}  "
                + ("failed: not finite" if row["failed"] else told)
            )
        others = self.comparison.contenders[1:]
        if others:
            lines.append(f"Not told apart from the first: {'; '.join(others)}.")
        return "\n".join(lines)


def rungs(num_candidates: int, total: int, eta: int) -> list[tuple[int, int]]:
    """How many candidates train for how many rounds more, rung by rung.

    Successive halving (Jamieson and Talwalkar 2016, algorithm 1) with `eta`
    for 2: every rung gets an equal part of the `total` of rounds, and one in
    eta goes on. What doesn't divide evenly goes to the last rung.

    >>> rungs(9, total=60, eta=3)
    [(9, 3), (3, 11)]
    """
    counts = [num_candidates]
    while counts[-1] > 1:
        counts.append(-(-counts[-1] // eta))
    counts = counts[:-1] or [1]
    each = [total // (len(counts) * count) for count in counts]
    spent = sum(n * r for n, r in zip(counts, each, strict=True))
    each[-1] += (total - spent) // counts[-1]
    return list(zip(counts, each, strict=True))


def search(
    build: Callable[..., Any],
    space: Any,
    data: Any,
    budget: int,
    method: str = "halving",
    eta: int = 3,
    num_candidates: int | None = None,
    clients_per_round: int | None = None,
    validation_data: Any = None,
    metric: str = "loss",
    mode: str = "auto",
    seed: int = 0,
    directory: Any = None,
    verbose: int = 1,
) -> Search:
    """Searches hyper-parameters, of clients and server alike.

    Candidates begin with the same weights (`build` is called after
    `keras.utils.set_random_seed`), train on the same clients with the same
    seeds, and are compared on the same clients, which none is trained on.
    One that diverges, so that no update of a round or not its metric is
    finite, ranks last and trains no further.

    Args:
        build: `build(**hyperparameters)` returns a process, or a compiled
            model for `FederatedAveraging`, or a pair `(model, client)`.
        space: A dict from hyper-parameters to lists of values, or to ranges
            `(low, high, "log")` or `(low, high, "linear")`, which give whole
            numbers between whole numbers; or a list of dicts.
        data: Clients, as for `fit`.
        budget: How many rounds of single clients to spend on training: a
            round of 10 clients costs 10. At most that is spent, as much as
            can be where candidates of a rung are trained equally long.
        method: `"halving"` trains all candidates a little, keeps the best
            third, and so on (Jamieson and Talwalkar 2016); `"grid"` trains
            all combinations of lists equally, `"random"` those that are drawn.
        eta: With halving, one of so many goes on.
        num_candidates: How many to draw at random; None for all combinations.
        clients_per_round: Who takes part in a round, as in `fit`.
        validation_data: Clients to compare on; None for a fifth of `data`'s
            clients, drawn by `seed`, without whom candidates are trained.
        metric: Whose mean over validation clients is compared.
        mode: As for `evaluate_many`.
        seed: Of all that is random.
        directory: A folder for the search's results and the candidates'
            checkpoints. A search that was killed goes on from it, and finds
            what an unbroken one would have found, bit for bit.
        verbose: 1 for a line a rung, 0 for silence.

    Returns:
        A `Search`, whose `best`, `rows`, `comparison` and `process` say more;
        `fl.plot.search` draws it.

    Raises:
        TypeError: If `build` returns none of these.
        ValueError: If the space is empty, `build` doesn't take one of its
            hyper-parameters, the budget doesn't last for a round of each
            rung, `directory` has another search, or all candidates fail.

    Example:

    >>> import keras, numpy as np, fedlearn as fl
    >>> x = np.ones((4, 1), "float32")
    >>> clients = {str(i): (x, (2 + i / 10) * x) for i in range(10)}
    >>> def build(learning_rate):
    ...     model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    ...     model.compile(keras.optimizers.SGD(learning_rate), "mse")
    ...     return model
    >>> found = fl.search(
    ...     build, {"learning_rate": [0.001, 0.01, 0.1]}, clients, budget=72,
    ...     verbose=0)
    >>> found.best, found.spent
    ({'learning_rate': 0.1}, 72)
    """
    checks.one_of("method", method, ("halving", "random", "grid"))
    budget = checks.whole("budget", budget)
    checks.whole("eta", eta, least=2)
    if (method == "grid" and num_candidates) or (
        method == "random" and num_candidates is None
    ):
        raise ValueError(
            "`num_candidates` says how many candidates method='random' draws "
            f"(a grid has all). Received: method={method!r}, num_candidates="
            f"{num_candidates}."
        )
    tried = {
        _name(candidate): candidate
        for candidate in candidates(space, num_candidates, seed)
    }
    for candidate in tried.values():
        _check_arguments(build, candidate)
    if not isinstance(data, FederatedDataset):
        data = as_dataset(data, _built(build, next(iter(tried.values())), seed))
    if validation_data is None:
        data, validation_data = data.split(0.8, seed)
    cost = clients_per_round or len(data)
    total = budget // cost
    plan = [(len(tried), total // len(tried))]
    if method == "halving":
        plan = rungs(len(tried), total, eta)
    if not all(rounds for _, rounds in plan):
        least = len(plan) * len(tried) * cost
        raise ValueError(
            f"budget={budget} pays for {total} rounds of {cost} clients, too "
            f"few for {len(tried)} candidates in {len(plan)} "
            f"rung{'s' * (len(plan) > 1)}. Give at least {least}, or fewer "
            "candidates."
        )
    identity = {
        "candidates": tried,
        "plan": plan,
        "clients_per_round": clients_per_round,
        "metric": metric,
        "mode": mode,
        "seed": int(seed),
        "data": fingerprint(data),
    }
    if isinstance(validation_data, FederatedDataset):
        identity["validation_data"] = fingerprint(validation_data)
    train = _Training(build, tried, data, clients_per_round, seed, directory)
    kept = _Kept(directory, identity)

    def evaluated(models):
        return evaluate_many(models, validation_data, None, metric, mode)

    if not kept.rungs:
        # What can't be evaluated is told before anything is trained.
        process = train.process(next(iter(tried)))
        evaluated([(process, process.initialize(seed))])
    names, rounds, spent = list(tried), 0, 0
    for number, (_, more) in enumerate(plan):
        rounds += more
        spent += len(names) * more * cost
        if number == len(kept.rungs):
            good = [name for name in names if train(name, rounds)]
            if good:
                processes = {name: train.process(name) for name in good}
                kept.add(rounds, evaluated(processes), names)
        alive = kept.rungs[number].alive if number < len(kept.rungs) else []
        if not alive:
            raise ValueError(
                f"After {rounds} rounds no candidate has finite updates and a "
                f"finite {metric!r}, so there is nothing to choose from. The "
                "usual cause are learning rates that are too high."
            )
        found = kept.rungs[number].comparison
        following = [count for count, _ in plan[number + 1 :]] or [1]
        names = alive[: following[0]]
        for name in train.processes.keys() - set(names):
            # Compiled programs take memory.
            del train.processes[name]
        if verbose:
            print(
                f"Rung {number + 1} of {len(plan)}: {len(found.models)} "
                f"candidates up to round {rounds}; best {metric} "
                f"{found.mean[names[0]]:.4g} with {names[0]}",
                flush=True,
            )
    train(names[0], rounds)
    return Search(tried, kept.rungs, budget, spent, train.process(names[0]))


@dataclasses.dataclass
class _Training:
    """Trains candidates on, and remembers those that were trained last."""

    build: Callable[..., Any]
    candidates: dict[str, Candidate]
    data: FederatedDataset
    clients_per_round: int | None
    seed: int
    directory: Any
    processes: dict[str, LearningProcess] = dataclasses.field(
        default_factory=dict
    )

    def process(self, name: str) -> LearningProcess:
        if name not in self.processes:
            candidate = self.candidates[name]
            self.processes[name] = _built(self.build, candidate, self.seed)
        return self.processes[name]

    def __call__(self, name: str, rounds: int) -> bool:
        """Trains until there are so many rounds; whether that went well."""
        process, folder = self.process(name), None
        done = 0 if process.state is None else int(process.state.round_num)
        if done == rounds:
            return True
        if self.directory is not None:
            number = list(self.candidates).index(name)
            folder = os.path.join(self.directory, f"candidate-{number}")
            done = 0  # with a folder rounds count from the beginning
        with warnings.catch_warnings():
            # Such a candidate ranks last, and the result says so.
            warnings.filterwarnings("ignore", "In round .* no client's update")
            logs = process.fit(
                self.data,
                rounds - done,
                clients_per_round=self.clients_per_round,
                seed=self.seed,
                checkpoint_dir=folder,
                verbose=0,
            ).history
        taken, rejected = logs.get("num_clients"), logs.get("num_rejected")
        return not any(
            r and not n
            for n, r in zip(taken or (), rejected or (), strict=True)
        )


class _Kept:
    """The rungs that are done, in a file if there is a directory."""

    def __init__(self, directory: Any, identity: dict[str, Any]):
        self.rungs: list[Rung] = []
        self._path = None
        if directory is None:
            return
        self._path = os.path.join(directory, FILE)
        described = json.dumps(run_identity.describe(identity))
        self._identity = json.loads(described)
        if not os.path.exists(self._path):
            return
        with open(self._path, encoding="utf-8") as file:
            written = json.load(file)
        differ = run_identity.differences(written["identity"], self._identity)
        if differ:
            raise ValueError(
                f"{self._path} is of another search: {'; '.join(differ)}. Go "
                "on with the same arguments, or give another `directory`."
            )
        self.rungs = [
            Rung(rounds, Comparison(values, metric, mode))
            for rounds, values, metric, mode in written["rungs"]
        ]

    def add(self, rounds: int, found: Comparison, names: list[str]) -> None:
        """Adds a rung; those of `names` that weren't compared have failed."""
        failed = dict.fromkeys(found.client_ids, math.nan)
        values = {name: found.values.get(name, failed) for name in names}
        comparison = Comparison(values, found.metric, found.mode)
        self.rungs.append(Rung(rounds, comparison))
        if self._path is not None:
            rungs = [(r, c.values, c.metric, c.mode) for r, c in self.rungs]
            written = {"identity": self._identity, "rungs": rungs}
            atomic_file.write(self._path, json.dumps(written).encode())


def _built(
    build: Callable[..., Any], candidate: Candidate, seed: int
) -> LearningProcess:
    """The process of a candidate, which begins with the seed's weights."""
    keras.utils.set_random_seed(int(seed) % 2**32)
    made = build(**candidate)
    if isinstance(made, LearningProcess):
        return made
    model, client = made if isinstance(made, tuple) else (made, None)
    if isinstance(model, keras.Model):
        return FederatedAveraging(model, client=client)
    raise TypeError(
        "`build` must return a process, a compiled keras.Model, or a pair "
        f"`(model, client)`. Received: {made!r}."
    )


def _check_arguments(build: Callable[..., Any], candidate: Candidate) -> None:
    signature = inspect.signature(build)
    try:
        signature.bind(**candidate)
    except TypeError as error:
        known = list(signature.parameters)
        hints = [did_you_mean(n, known) for n in candidate if n not in known]
        raise ValueError(
            f"`build` can't be called with {candidate}: {error}. It takes "
            f"{', '.join(known) or 'no arguments'}.{''.join(hints)}"
        ) from error


def _name(candidate: Candidate) -> str:
    parts = (f"{name}={value}" for name, value in candidate.items())
    return ", ".join(parts) or "default"
