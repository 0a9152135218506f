"""Which clients evaluate which models."""

import numpy as np

from fedlearn import seeds

# As few as are needed for models to be compared on the same clients, and each
# client has little to do.
MODELS_PER_CLIENT = 4


def design(
    num_models: int, num_clients: int, clients_per_model: int, seed: int
) -> np.ndarray:
    """A bool array, a row a model and a column a client: who evaluates what.

    Every model has exactly `clients_per_model` clients, drawn at random, and
    every client that is drawn at most `MODELS_PER_CLIENT` models, or as many
    as it takes; any two models share about the same number of clients, as in
    a balanced incomplete block design.

    >>> design(4, 9, clients_per_model=3, seed=0).sum(axis=1).tolist()
    [3, 3, 3, 3]
    """
    total = num_models * clients_per_model
    per_client = max(
        min(num_models, MODELS_PER_CLIENT), -(-total // num_clients)
    )
    order = seeds.permutation(num_clients, seed, "evaluate_many", "clients")
    drawn = order[: -(-total // per_client)]
    chosen = np.zeros((num_models, num_clients), bool)
    left = np.full(num_models, clients_per_model)
    together = np.zeros((num_models, num_models))
    for i, client in enumerate(drawn):
        # Without those that may still be put off, each time one of the models
        # that are furthest behind, and of these one that has been together
        # the least with those that this client has already.
        lots = seeds.uniform(num_models, seed, "evaluate_many", "models", i)
        mine: list[int] = []
        for _ in range(min(per_client, left.sum())):
            open_ = left.copy()
            open_[mine] = -1
            met = together[:, mine].sum(axis=1)
            mine.append(int(np.lexsort((lots, met, -open_))[0]))
        chosen[mine, client] = True
        left[mine] -= 1
        together[np.ix_(mine, mine)] += 1
    return chosen
