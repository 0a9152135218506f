import warnings

import numpy as np
import pytest

import fedlearn as fl
from fedlearn.runs.left_out import LeftOut
from tests import zoo

pytestmark = pytest.mark.backend_free


def told(caught):
    """The texts of warnings, without those of other packages."""
    return [
        str(w.message) for w in caught if issubclass(w.category, UserWarning)
    ]


def clients(*spoiled, value=np.nan, count=4):
    made = {}
    for k in range(count):
        x, y = zoo.points(6, seed=k)
        if k in spoiled:
            x[1:3, 0] = value
        made[f"site_{k}"] = (x, y)
    return made


def process():
    return fl.FederatedAveraging(
        zoo.classifier(), client=fl.LocalTraining(batch_size=3)
    )


def fit(data, **arguments):
    return process().fit(data, rounds=3, verbose=0, **arguments)


def test_clients_with_nan_are_named_once():
    with pytest.warns(UserWarning, match="left out") as caught:
        history = fit(clients(2))
    assert history.history["num_rejected"] == [1.0, 1.0, 1.0]
    (text,) = told(caught)
    assert "'site_2' (x: NaN in 2 of 6)" in text
    assert "site_1" not in text
    (file,) = {w.filename for w in caught if w.category is UserWarning}
    assert file == __file__


def test_those_found_later_are_told_at_the_end():
    rounds = iter([["site_0", "site_1"], ["site_1", "site_3"], ["site_3"]])

    class Named(fl.samplers.Sampler):
        def get_config(self):
            return {}

        def _sample(self, round_num):
            return [self.client_ids.index(i) for i in next(rounds)]

    data = fl.FederatedDataset.from_clients(clients(1, 3))
    with pytest.warns(UserWarning, match="left out") as caught:
        fit(data, sampler=Named(data, 2))
    first, last = told(caught)
    assert first.startswith("Clients are left out")
    assert "'site_1'" in first
    assert "'site_3'" not in first
    assert last.startswith("More clients are left out")
    assert "'site_3'" in last
    assert "'site_1'" not in last


def test_clean_data_are_not_looked_at():
    with warnings.catch_warnings(record=True) as caught:
        fit(clients())
    assert told(caught) == []


def test_reasons_by_array():
    data = {
        "a": ({"age": np.array([1.0, np.inf]), "n": np.array([1, 2])}, [0, 1]),
        "b": (
            {"age": np.array([np.nan, np.nan]), "n": np.array([1, 2])},
            [0, 1],
        ),
    }
    found = LeftOut()
    LeftOut().look({"a": ([1.0],)}, 0)
    with pytest.warns(UserWarning, match="left out") as caught:
        found.look(fl.FederatedDataset.from_clients(data), 2)
    (text,) = told(caught)
    assert "'a' (x['age']: infinity in 1 of 2)" in text
    assert "'b' (x['age']: NaN in 2 of 2)" in text
    found.tell()  # no more
