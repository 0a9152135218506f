import numpy as np
import pytest

from fedlearn.data import FederatedDataset

pytestmark = pytest.mark.backend_free

tf = pytest.importorskip("tensorflow")

X = np.arange(15, dtype="float32").reshape(5, 3)
Y = np.arange(5)


def slices(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays)


def read(dataset, batched=None):
    return FederatedDataset.from_tf_datasets({"a": dataset}, batched)["a"]


def test_unbatched_and_batched_are_told_apart():
    for dataset in (slices(X, Y), slices(X, Y).batch(2)):
        x, y = read(dataset)
        np.testing.assert_array_equal(x, X)
        np.testing.assert_array_equal(y, Y)
        assert x.dtype == np.float32
        assert y.dtype == np.int64


def test_first_axes_of_different_length_are_no_batch():
    x, y = read(slices(X, np.eye(5, 2)))
    assert x.shape == (5, 3)
    assert y.shape == (5, 2)


def test_the_same_first_axis_is_ambiguous():
    with pytest.raises(ValueError, match=r"'a'.*first axes may be.*batched="):
        read(slices(X, X))
    assert read(slices(X, X), batched=False)[0].shape == (5, 3)
    fixed = slices(X[:4], Y[:4]).batch(2, drop_remainder=True)
    with pytest.raises(ValueError, match="first axes may be a batch"):
        read(fixed)
    assert read(fixed, batched=True)[0].shape == (4, 3)
    with pytest.raises(ValueError, match="scalar"):
        read(slices(X, Y), batched=True)


def test_dicts_nested_inputs_and_text():
    words = np.array([b"a\0", b"bcd"])
    stored = read(tf.data.Dataset.from_tensor_slices({"w": words, "n": [1, 2]}))
    assert stored["n"].tolist() == [1, 2]
    nested = read(slices({"p": X, "q": (X, X)}, Y, np.ones(5)))
    assert nested[0]["q"][1].shape == (5, 3)
    assert nested[2].tolist() == [1.0] * 5
    objects = np.array([b"a\0", b"bcd"], object)
    for batch in (False, True):
        dataset = tf.data.Dataset.from_tensor_slices(
            {"w": objects, "n": [1, 2]}
        )
        got = read(dataset.batch(2) if batch else dataset)
        assert got["w"].tolist() == [b"a\0", b"bcd"]


def test_empty_data_set():
    ds = FederatedDataset.from_tf_datasets(
        {"none": slices(X, Y).take(0), "b": slices(X, Y).batch(2)}
    )
    assert ds.client_ids == ("none", "b")
    assert ds["none"][0].shape == (0, 3)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: slices(X, Y).repeat(), ValueError, "endless"),
        (lambda: "ab", TypeError, "str"),
        (lambda: tf.data.Dataset.range(3), ValueError, r"Expected \(x, y\)"),
        (
            lambda: slices(tf.ragged.constant([[1], [2, 3]]), [0, 1]),
            TypeError,
            "RaggedTensor",
        ),
        (
            lambda: tf.data.Dataset.from_generator(
                lambda: iter([([1], 0), ([1, 2], 1)]),
                output_signature=(
                    tf.TensorSpec((None,), tf.int32),
                    tf.TensorSpec((), tf.int32),
                ),
            ),
            ValueError,
            "'a': .*different shapes",
        ),
    ],
)
def test_bad_data_sets(make, error, match):
    with pytest.raises(error, match=match):
        read(make())


def test_no_clients():
    with pytest.raises(ValueError, match="no clients"):
        FederatedDataset.from_tf_datasets({})
    with pytest.raises(TypeError, match="dict"):
        FederatedDataset.from_tf_datasets([slices(X, Y)])


def test_from_clients_reads_them_too():
    ds = FederatedDataset.from_clients(
        {"a": slices(X, Y), "b": slices(X, Y).batch(2), "c": (X[:1], Y[:1])}
    )
    for client_id, count in (("a", 5), ("b", 5), ("c", 1)):
        x, y = ds[client_id]
        np.testing.assert_array_equal(x, X[:count])
        np.testing.assert_array_equal(y, Y[:count])


def test_examples_without_labels():
    (x,) = read(slices(X), batched=False)
    np.testing.assert_array_equal(x, X)


def test_to_tf_dataset():
    ds = FederatedDataset.from_clients({"a": ([X, X * 2], Y)})
    dataset = ds.to_tf_dataset("a")
    assert int(dataset.cardinality()) == 5
    (first, second), y = list(dataset.as_numpy_iterator())[3]
    np.testing.assert_array_equal(first * 2, second)
    assert y == 3
    text = FederatedDataset.from_clients(
        {"a": {"t": np.array([b"to be", b"or"], object)}}
    )
    got = [e["t"] for e in text.to_tf_dataset("a").as_numpy_iterator()]
    assert got == [b"to be", b"or"]
    with pytest.raises(KeyError):
        ds.to_tf_dataset("b")
