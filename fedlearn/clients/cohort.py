import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from fedlearn import backend
from fedlearn.data import element as el
from fedlearn.data.client_data import (
    is_py_dataset,
    is_tf_dataset,
    read_client_data,
)
from fedlearn.data.client_id import as_client_ids
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.data.sources import Source
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
    are then "0", "1", .... `state_of` gives what a client kept by its id.
    """

    def __init__(
        self,
        clients: Any,
        model: FunctionalModel,
        state_of: Callable[[str], Any] | None = None,
    ):
        self._model = model
        self._state_of = state_of or (lambda client_id: ())
        self._whole: Cohort | None = None
        self._clients = clients
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
                f"Received an object of type {type(clients).__name__}. For "
                "a single client, put it in a list: `[(x, y)]`."
            )
        if not self.ids:
            raise ValueError(
                "A round needs at least one client, and `clients` is empty. "
                "Select some, for example `dataset.sample(10, seed=0)`."
            )

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, positions: Sequence[int]) -> "Cohort":
        """Some of the clients, each as it is among all of them."""
        part = copy.copy(self)
        part._whole = self._whole or self
        part.ids = [self.ids[i] for i in positions]
        part._read = [self._read[i] for i in positions]
        return part

    @property
    def source(self) -> Source | None:
        """Where the clients are read from; None if they came one by one."""
        if isinstance(self._clients, FederatedDataset):
            return self._clients.source
        return None

    def prepare(self) -> None:
        """Reads a client if the model has seen none: it then has metrics."""
        if self._model.no_examples is None:
            self.read(0)

    def sent(self) -> Any:
        """What a worker is given of it; where it has a source, no data."""
        positions = range(len(self))
        states = [self.state(i) for i in positions]
        keeps = any(keras.tree.flatten(state) for state in states)
        return (
            self.ids,
            [self.given(i) for i in positions] if self.source is None else None,
            backend.to_numpy(states) if keeps else None,
        )

    @classmethod
    def received(
        cls, sent: Any, data: FederatedDataset | None, model: FunctionalModel
    ) -> "Cohort":
        """The cohort of what was `sent`, with the data of its source."""
        ids, own, states = sent
        clients: Any = own and dict(zip(ids, own, strict=True))
        if data is not None:
            clients = data.select(ids)
        state_of = states and dict(zip(ids, states, strict=True)).__getitem__
        return cls(clients, model, state_of)

    def state(self, position: int) -> Any:
        """What a client keeps."""
        return self._state_of(self.ids[position])

    def given(self, position: int) -> Any:
        """A client's data as they were given, of arrays."""
        return client_arrays(
            self._read[position](), self.ids[position], self._model
        )

    @property
    def knows_sizes(self) -> bool:
        """Whether `num_examples` reads no client that isn't in memory."""
        if isinstance(self._clients, FederatedDataset):
            return self._clients.knows_sizes
        return not isinstance(self._clients, Mapping)

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
        everyone = self._whole or self
        for other in range(len(everyone)):
            if everyone.num_examples(other):
                like, _ = everyone._load(other)
                self._model.prepare(like, everyone.ids[other])
                data = keras.tree.map_structure(lambda a: a[:0], like)
                break
        else:
            if self._model.no_examples is None:
                self._model.prepare(data, client_id)
            data = self._model.no_examples or data
        return Client(client_id, data, 0, self._state_of(client_id))

    def _load(self, position: int) -> tuple[tuple, int]:
        client_id = self.ids[position]
        data = self._read[position]()
        if not _is_ready(data):
            data = client_arrays(data, client_id, self._model)
            if isinstance(data, (list, tuple)):
                while len(data) > 1 and data[-1] is None:
                    data = data[:-1]
            data = el.as_element(data, f"Client {client_id!r}")
            if isinstance(data, dict):
                raise ValueError(
                    f"Client {client_id!r}: got a dict with the keys "
                    f"{sorted(data)}. Expected (x, y) or (x, y, "
                    "sample_weight). Make it so with `dataset.map(fn)`, for "
                    "example `dataset.map(lambda d: (d['pixels'], "
                    "d['label']))`."
                )
            data = keras.tree.map_structure(_as_keras, data)
        if keras.backend.backend() == "jax":
            for array in el.arrays(data):
                _check_range(array, client_id)
        return data, el.num_examples(data)

    def __iter__(self) -> Iterator[Client]:
        return (self.read(i) for i in range(len(self)))


def _is_one_client(clients: Sequence) -> bool:
    # `next(state, (x, y))` instead of `next(state, [(x, y)])`.
    return isinstance(clients, tuple) and any(
        isinstance(c, np.ndarray) for c in clients
    )


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


def _is_ready(data: Any) -> bool:
    """Whether it is what most clients are, quickly."""
    return (
        isinstance(data, tuple)
        and 1 <= len(data) <= 3
        and all(
            isinstance(a, np.ndarray)
            and a.ndim > 0
            and a.dtype.kind in "fiub"
            and a.dtype != np.float64
            for a in data
        )
        and len({len(a) for a in data}) == 1
    )


def _as_keras(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.float64:
        return array.astype(keras.backend.floatx())
    return array


def _check_range(array: np.ndarray, client_id: str) -> None:
    """Raises for integers that JAX would wrap around, without a word."""
    if array.dtype.kind not in "iu" or array.dtype.itemsize < 8:
        return
    import jax

    held = np.iinfo(jax.dtypes.canonicalize_dtype(array.dtype))
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if low < held.min or high > held.max:
        raise ValueError(
            f"The data of client {client_id!r} hold integers from {low} "
            f"to {high}, and JAX keeps integers as {held.dtype}, up to "
            f"{held.max}: it would make others of them. Number such ids "
            "anew, from 0, or call jax.config.update('jax_enable_x64', "
            "True) before anything else."
        )
