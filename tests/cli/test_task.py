import types

import numpy as np
import pytest

from fedlearn.cli.task import task_of
from fedlearn.data import ArraySpec, FederatedDataset

pytestmark = pytest.mark.backend_free

X = np.zeros((2, 3), np.float32)


def flags(dataset, **values):
    return types.SimpleNamespace(dataset=dataset, **values)


class Unread:
    """Data that may be asked for their shapes only."""

    element_spec = (
        ArraySpec((28, 28, 1), np.dtype("float32")),
        ArraySpec((), np.dtype("int64")),
    )


@pytest.mark.parametrize(
    ("values", "num_classes"),
    [
        (flags("emnist"), 10),
        (flags("emnist", only_digits=None, source="synthetic"), 10),
        (flags("emnist", only_digits=False, source=None), 62),
        (flags("cifar100", source="/some/file"), 100),
        (flags("celeba"), 2),
    ],
)
def test_known_classes_are_not_counted(values, num_classes):
    assert task_of(values, Unread()).sizes == {
        "input_shape": (28, 28, 1),
        "num_classes": num_classes,
    }


def test_classes_of_a_file_of_ones_own_are_counted():
    data = FederatedDataset.from_clients(
        {"a": (X, [0, 35]), "b": (X[:0], np.zeros(0, int)), "c": (X, [4, 5])}
    )
    values = flags("emnist", source="/some/file", only_digits=None)
    assert task_of(values, data).sizes["num_classes"] == 36


def test_sequences_of_words():
    from fedlearn.datasets.stackoverflow import word_numbers

    rows = word_numbers(np.array([b"it is", b"so"], object), ["is", "it"], 4)
    x, y = rows[:, :-1], rows[:, 1:]
    data = FederatedDataset.from_clients({"0": (x[:0], y[:0]), "1": (x, y)})
    task = task_of(flags("stackoverflow"), data)
    # Padding, two words, the unknown word, a beginning, an end.
    assert task.sizes == {"vocab_size": 6}
    assert task.ignored == (0, 3, 4, 5)
    assert task.label == ArraySpec((4,), np.dtype("int32"))


def test_sequences_of_characters():
    y = np.zeros((2, 80), np.int32)
    data = FederatedDataset.from_clients({"a": (y, y)})
    task = task_of(flags("shakespeare"), data)
    assert task.sizes == {"vocab_size": 90}
    assert task.ignored == (0,)


def test_tags():
    y = np.zeros((2, 7), np.float32)
    data = FederatedDataset.from_clients({"a": (X, y)})
    task = task_of(flags("stackoverflow"), data)
    assert task.sizes == {"input_shape": (3,), "num_tags": 7}


def test_labels_of_several_parts():
    data = FederatedDataset.from_clients({"a": (X, {"p": X, "q": X})})
    assert task_of(flags("digits"), data).label is None
