import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from fedlearn.data import element as el
from fedlearn.data.client_data import (
    is_py_dataset,
    is_tf_dataset,
    read_client_data,
)
from fedlearn.data.client_id import as_client_ids
from fedlearn.keras_model.functional_model import FunctionalModel


class Client(NamedTuple):
    """One client of a round.

    `data` is `(x,)`, `(x, y)` or `(x, y, sample_weight)`, each a structure of
    arrays with a row for each example; `state` what the client kept from its
    last round, `()` for nothing.
    """

    id: str
    data: tuple
    num_examples: int
    state: Any = ()


class Cohort:
    """The clients of one round, checked against the model as they are read.

    `clients` is a mapping from ids to data, or a sequence of data, whose ids
    are then "0", "1", ....
    """

    def __init__(
        self,
        clients: Any,
        model: FunctionalModel,
        state_of: Callable[[str], Any] = lambda client_id: (),
    ):
        self._model = model
        self._state_of = state_of
        self.class_names = getattr(clients, "class_names", None)
        if isinstance(clients, Mapping):
            # As `fit` has them: 1.0 is "1", and 1 beside "1" is an error.
            self.ids = list(as_client_ids(clients))
            self._read = [(lambda key=key: clients[key]) for key in clients]
            self._count = getattr(clients, "num_examples", None)
        elif isinstance(clients, Sequence) and not _is_one_client(clients):
            items = [
                client_arrays(item, str(i), model)
                for i, item in enumerate(clients)
            ]
            self.ids = [str(i) for i in range(len(items))]
            self._read = [(lambda item=item: item) for item in items]
            self._count = None
        else:
            raise TypeError(
                "`clients` must be a FederatedDataset, or a list with one "
                "element for each client: `(x, y)` arrays, "
                "`(x, y, sample_weight)` arrays, a tf.data.Dataset, or a "
                "keras.utils.PyDataset. "
                f"Received: {_kind(clients)}. For a single client, put it in "
                "a list: `[(x, y)]`."
            )
        if not self.ids:
            raise ValueError(
                "A round needs at least one client, and `clients` is empty. "
                "Select some, for example `dataset.sample(10, seed=0)`."
            )

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, positions: Sequence[int]) -> "Cohort":
        """Some of the clients."""
        part = copy.copy(self)
        part.ids = [self.ids[i] for i in positions]
        part._read = [self._read[i] for i in positions]
        return part

    def num_examples(self, position: int) -> int:
        """A client's number of examples, without reading it if possible."""
        if self._count is not None:
            return int(self._count(self.ids[position]))
        return self._load(position)[1]

    def read(self, position: int) -> Client:
        """A client's arrays; a ValueError if the model can't take them."""
        client_id = self.ids[position]
        data, size = self._load(position)
        if size:
            self._model.prepare(data, client_id)
            return Client(client_id, data, size, self._state_of(client_id))
        # Nothing is known of the shapes that were meant by an empty list:
        # those of another client of this cohort, and not of one before, or a
        # round would depend on the rounds before it.
        for other in range(len(self)):
            if self.num_examples(other):
                like, _ = self._load(other)
                self._model.prepare(like, self.ids[other])
                data = keras.tree.map_structure(lambda a: a[:0], like)
                break
        else:
            if self._model.no_examples is None:
                self._model.prepare(data, client_id)
            data = self._model.no_examples or data
        return Client(client_id, data, 0, self._state_of(client_id))

    def _load(self, position: int) -> tuple[tuple, int]:
        client_id = self.ids[position]
        arrays = client_arrays(self._read[position](), client_id, self._model)
        data = _element(arrays, client_id)
        arrays = data
        if not all(map(_is_ready, data)):
            data = keras.tree.map_structure(
                lambda a: _array(a, client_id), data
            )
            arrays = keras.tree.flatten(data)
            _check_no_text(data[1:], client_id)
        _check_range(arrays, client_id)
        sizes = {len(a) for a in arrays}
        if len(sizes) != 1:
            raise ValueError(
                f"The arrays of client {client_id!r} have different numbers "
                f"of examples: {sorted(sizes)}. Each needs one row for each "
                "example."
            )
        return data, sizes.pop()

    def __iter__(self) -> Iterator[Client]:
        return (self.read(i) for i in range(len(self)))


def _is_one_client(clients: Sequence) -> bool:
    # `next(state, (x, y))` instead of `next(state, [(x, y)])`.
    return isinstance(clients, tuple) and any(
        isinstance(c, np.ndarray) for c in clients
    )


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {[type(v).__name__ for v in value]}"
    return f"an object of type {type(value).__name__}"


def client_arrays(item: Any, client_id: str, model: FunctionalModel) -> Any:
    """Arrays of a `tf.data.Dataset` or `PyDataset`; others as they are."""
    if not is_tf_dataset(item) and not is_py_dataset(item):
        return item
    batched = None
    if is_tf_dataset(item):
        batched = _is_batched(item.element_spec, model)
    return read_client_data(item, f"Client {client_id!r}", batched)


def _is_batched(spec: Any, model: FunctionalModel) -> bool | None:
    # The model's input tells a batch of examples from an example, where the
    # data set's shapes alone may not.
    inputs = keras.tree.flatten(getattr(model.model, "inputs", None))
    arrays = keras.tree.flatten(spec)
    if not arrays or not inputs or inputs[0] is None:
        return None
    rank, wanted = arrays[0].shape.rank, len(inputs[0].shape)
    return {wanted: True, wanted - 1: False}.get(rank)


def _element(data: Any, client_id: str) -> tuple:
    if isinstance(data, list):
        data = tuple(data)
    if not isinstance(data, tuple) or not 1 <= len(data) <= 3:
        if isinstance(data, Mapping):
            received = f"a dict with the keys {sorted(data)}"
            hint = (
                " Make it so with `dataset.map(fn)`, for example "
                "`dataset.map(lambda d: (d['pixels'], d['label']))`."
            )
        else:
            received = _kind(data)
            hint = ""
        raise ValueError(
            f"The data of client {client_id!r} must be `(x, y)` or "
            f"`(x, y, sample_weight)`. Received: {received}.{hint}"
        )
    while len(data) > 1 and data[-1] is None:
        data = data[:-1]
    # To Keras a list, an empty one too, is a structure.
    data = tuple(_lists_as_arrays(part) for part in data)
    if any(part is None for part in data):
        raise ValueError(
            f"The data of client {client_id!r} has None for x or y."
        )
    return data


def _lists_as_arrays(part: Any) -> Any:
    if isinstance(part, list) and not part:
        return np.zeros(0)
    if isinstance(part, (list, tuple)) and not el.is_structure(part):
        return np.asarray(part)
    return part


def _is_ready(value: Any) -> bool:
    return (
        isinstance(value, np.ndarray)
        and value.dtype.kind in "fiub"
        and value.dtype != np.float64
    )


def _array(value: Any, client_id: str) -> np.ndarray:
    array = np.asarray(value)
    if array.ndim == 0 or not (
        array.dtype.kind in "fiubSU"  # text is for a TextVectorization layer
        or array.dtype.name == "bfloat16"
        or (
            array.dtype == object
            and all(isinstance(v, (str, bytes)) for v in array.flat)
        )
    ):
        raise ValueError(
            f"The data of client {client_id!r} must be arrays of numbers "
            "with one row for each example. Received an array of dtype "
            f"{array.dtype} and shape {array.shape}."
        )
    if array.dtype == np.float64:  # as Keras does
        array = array.astype(keras.backend.floatx())
    return array


def _check_range(arrays: Sequence[np.ndarray], client_id: str) -> None:
    """Raises for integers that JAX would wrap around, without a word."""
    if keras.backend.backend() != "jax":
        return
    wide = [
        a
        for a in arrays
        if a.dtype.kind in "iu" and a.dtype.itemsize == 8 and a.size
    ]
    if not wide:
        return
    import jax

    for array in wide:
        held = np.iinfo(jax.dtypes.canonicalize_dtype(array.dtype))
        low, high = int(array.min()), int(array.max())
        if low < held.min or high > held.max:
            raise ValueError(
                f"The data of client {client_id!r} hold integers from {low} "
                f"to {high}, and JAX keeps integers as {held.dtype}, up to "
                f"{held.max}: it would make others of them. Number such ids "
                "anew, from 0, or call jax.config.update('jax_enable_x64', "
                "True) before anything else."
            )


def _check_no_text(labels: tuple, client_id: str) -> None:
    if any(a.dtype.kind in "SUO" for a in keras.tree.flatten(labels)):
        raise ValueError(
            f"The labels of client {client_id!r} are text. Map them to "
            "integers first, with the same table for all clients."
        )
