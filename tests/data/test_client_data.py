import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn.data import FederatedDataset
from fedlearn.data.client_data import read_client_data
from tests import zoo

X = np.arange(10, dtype="float32").reshape(5, 2)
Y = np.arange(5)


class Batches(keras.utils.PyDataset):
    """`count` examples in batches of two, made by `make`."""

    def __init__(self, count=5, make=lambda *arrays: arrays):
        super().__init__()
        self._count = count
        self._make = make

    def __len__(self):
        return -(-self._count // 2)

    def __getitem__(self, index):
        rows = slice(2 * index, min(2 * index + 2, self._count))
        return self._make(X[rows], Y[rows])


def test_a_py_dataset_is_read_once_in_order():
    x, y = FederatedDataset.from_clients({"a": Batches()})["a"]
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)


def test_batches_of_tensors_dicts_and_x_alone():
    def tensors(x, y):
        return {"x": keras.ops.convert_to_tensor(x)}, y

    x, _ = read_client_data(Batches(make=tensors), "It")
    np.testing.assert_array_equal(x["x"], X)
    (x,) = read_client_data(Batches(make=lambda x, y: x), "It")
    np.testing.assert_array_equal(x, X)


def test_bad_batches():
    class Endless(Batches):
        def __len__(self):
            raise NotImplementedError

        num_batches = None

    with pytest.raises(ValueError, match="It: the PyDataset is endless"):
        read_client_data(Endless(), "It")
    with pytest.raises(ValueError, match="It: the PyDataset has no batches"):
        read_client_data(Batches(0), "It")
    with pytest.raises(ValueError, match=r"It, batch 0.*x has 2, y has 1"):
        read_client_data(Batches(make=lambda x, y: (x, y[:1])), "It")


def weights_after(data):
    model = zoo.classifier()
    process = fl.FederatedAveraging(
        model, client=fl.LocalTraining(keras.optimizers.SGD(0.1), batch_size=2)
    )
    process.fit(data, rounds=2, verbose=0)
    return [np.array(w) for w in process.model.get_weights()]


def test_fit_takes_what_keras_takes():
    tf = pytest.importorskip("tensorflow")
    x, y = zoo.points(6)

    class Half(keras.utils.PyDataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return x[3:], y[3:]

    arrays = {"a": (x[:3], y[:3]), "b": (x[3:], y[3:])}
    first = tf.data.Dataset.from_tensor_slices(arrays["a"])
    mixed = {
        # The model tells that two axes are a batch.
        "a": first.batch(3, drop_remainder=True),
        "b": Half(),
    }
    expected = weights_after(arrays)
    for data in (mixed, {"a": first, "b": arrays["b"]}):
        for ours, theirs in zip(weights_after(data), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_fit_compares_the_names_of_classes():
    x, _ = zoo.points(3)
    train = FederatedDataset.from_clients({"a": (x, ["ant", "bee", "cat"])})
    test = FederatedDataset.from_clients({"a": (x, ["ant", "cat", "cat"])})
    process = fl.FederatedAveraging(zoo.classifier())
    with pytest.raises(ValueError, match=r"'bee'.*class_names="):
        process.fit(train, rounds=1, validation_data=test, verbose=0)
    named = FederatedDataset.from_clients(
        {"a": (x, ["ant", "cat", "cat"])}, class_names=train.class_names
    )
    history = process.fit(train, rounds=1, validation_data=named, verbose=0)
    assert history.history["val_loss"]


def test_integers_that_the_backend_would_change():
    model = keras.Sequential(
        [keras.Input((1,), dtype="int32"), keras.layers.CategoryEncoding(3)]
    )
    model.add(keras.layers.Dense(1))
    model.compile("sgd", "mse")
    ids = np.array([[2**32 + 1], [2]])
    y = np.zeros((2, 1), "float32")
    process = fl.FederatedAveraging(model)
    state = process.initialize()
    if keras.backend.backend() == "jax":
        with pytest.raises(ValueError, match=r"'0' hold integers.*int32"):
            process.next(state, [(ids, y)])
    ids[0] = 2**31 - 1
    process.evaluate(state, [(ids % 3, y)])
