"""The data of many clients, as a mapping from client id to arrays."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike
from typing import Any

import numpy as np

from fedlearn import seeds
from fedlearn.data import element as el
from fedlearn.data.client_id import as_client_ids, unknown_client
from fedlearn.data.constructors import Constructors
from fedlearn.data.sources import (
    ClientColumns,
    ExampleSplit,
    Mapped,
    Source,
)
from fedlearn.data.summary import heterogeneity, summary_lines


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise ValueError(
            f"fraction is {fraction!r}. Expected a number between 0 and 1, "
            "both excluded: the part that goes to the first data set."
        )


class FederatedDataset(Constructors, Mapping[str, Any]):
    """A read-only mapping from client id to that client's arrays.

    `ds[client_id]` is `(x, y)`, `(x, y, sample_weight)`, or a dict of
    features as the file stores them. Each of `x`, `y` and `sample_weight` is
    an array or a dict, tuple or list of arrays (several inputs or outputs).
    The first axis of each array counts the client's examples; a client may
    have none. Arrays are read-only views: copy one to change it, or use
    `map`.

    Build one with a class method: `from_clients`, `from_arrays`,
    `from_dataframe`, `from_csv`, `from_tf_datasets`, `from_hugging_face`,
    `from_files`, `from_leaf`, `from_tff_sqlite`, `from_tff_hdf5`,
    `from_fedjax_sqlite`; or `load` what `save` wrote.
    `select`, `sample`, `map`, `split` and `split_examples` give new data
    sets that share the arrays of the old one.

    Example:

    >>> import numpy as np
    >>> ds = FederatedDataset.from_clients({
    ...     "ann": (np.zeros((3, 2), "float32"), np.array([0, 1, 1])),
    ...     "bob": (np.ones((1, 2), "float32"), np.array([0])),
    ... })
    >>> ds
    <FederatedDataset of 2 clients: 'ann', 'bob'>
    >>> x, y = ds["ann"]
    >>> x.shape, y.shape
    ((3, 2), (3,))
    >>> ds.num_examples("bob")
    1
    """

    def __init__(
        self,
        source: Source,
        client_ids: tuple[str, ...] | None = None,
        class_names: tuple[str, ...] | None = None,
    ) -> None:
        self._source = source
        self._class_names = class_names
        self._client_ids = (
            source.client_ids if client_ids is None else client_ids
        )
        # None: every client of the source is here, and the source knows them.
        self._members = None if client_ids is None else frozenset(client_ids)

    # A mapping compares by value, which arrays do not support.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    # -- the mapping --------------------------------------------------------

    @property
    def client_ids(self) -> tuple[str, ...]:
        """The clients, each once.

        Sorted as strings ("10" before "2") where rows are grouped by id or
        read from a file; in the order given by `from_clients` and `select`.
        """
        return self._client_ids

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the labels' classes: label `k` is `class_names[k]`.

        None unless labels were given as texts, or with `class_names=`. Kept
        by `select`, `map`, `split` and their like, and by `save`.

        Example:

        >>> ds = FederatedDataset.from_clients(
        ...     {"a": ([[1.0]], ["cat"]), "b": ([[2.0]], ["ant"])})
        >>> ds.class_names, ds["a"][1]
        (('ant', 'cat'), array([1]))
        """
        return self._class_names

    def __len__(self) -> int:
        return len(self._client_ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._client_ids)

    def __contains__(self, client_id: object) -> bool:
        if self._members is not None:
            return client_id in self._members
        return client_id in self._source

    def __getitem__(self, client_id: str) -> Any:
        self._check(client_id)
        return self._source.load(client_id)

    def __repr__(self) -> str:
        count = len(self)
        names = ", ".join(repr(i) for i in self._client_ids[:3])
        if count > 3:
            names += ", ..."
        plural = "" if count == 1 else "s"
        colon = ": " if count else ""
        return f"<FederatedDataset of {count:,} client{plural}{colon}{names}>"

    def _check(self, client_id: object) -> None:
        try:
            found = client_id in self
        except TypeError:  # not hashable
            found = False
        if not found:
            raise unknown_client(client_id, self._client_ids)

    def num_examples(self, client_id: str) -> int:
        """How many examples a client has.

        Read without its arrays, except after `map`: the function may drop
        examples, so it is run once for each client asked about, unless
        `same_length` says that it doesn't.

        Raises:
            KeyError: If there is no such client.
        """
        self._check(client_id)
        return self._source.num_examples(client_id)

    @property
    def element_spec(self) -> Any:
        """An `ArraySpec` (shape without the axis of examples, and dtype) for
        each array, in the structure of a client's arrays.

        Taken from the first client that has examples.

        Example:

        >>> ds = FederatedDataset.from_clients({"a": ([[1, 2]], [0])})
        >>> ds.element_spec[0].shape
        (2,)
        """
        if not self._client_ids:
            raise ValueError("A data set without clients has no element_spec.")
        first = None
        for client_id in self._client_ids:
            element = self._source.load(client_id)
            if el.num_examples(element):
                return el.spec_of(element)
            first = element if first is None else first
        return el.spec_of(first)

    # -- other data sets from this one --------------------------------------

    def _of(
        self, source: Source, client_ids: tuple[str, ...] | None
    ) -> "FederatedDataset":
        return FederatedDataset(source, client_ids, self._class_names)

    def select(self, client_ids: Iterable[str]) -> "FederatedDataset":
        """The data set of these clients, in this order.

        No ids give a data set without clients, as a round of Poisson
        sampling may.

        Raises:
            KeyError: If a client is not in this data set.
            ValueError: If one is named twice.

        Example:

        >>> ds = FederatedDataset.from_clients(
        ...     {i: ([[0.0]], [1]) for i in "abc"})
        >>> ds.select(["c", "a"]).client_ids
        ('c', 'a')
        """
        chosen = as_client_ids(client_ids)
        for client_id in chosen:
            self._check(client_id)
        return self._of(self._source, chosen)

    def sample(self, num_clients: int, seed: int) -> "FederatedDataset":
        """`num_clients` of the clients, drawn uniformly, each at most once.

        Raises:
            ValueError: If there are fewer clients than that, or it is < 1.

        Example:

        >>> ds = FederatedDataset.from_clients(
        ...     {i: ([[0.0]], [1]) for i in "abc"})
        >>> len(ds.sample(2, seed=0))
        2
        """
        if not 1 <= num_clients <= len(self):
            raise ValueError(
                f"num_clients is {num_clients!r}, but this data set has "
                f"{len(self):,} clients. Expected 1 to {len(self):,}."
            )
        order = seeds.permutation(len(self), seed, "sample")[:num_clients]
        ids = tuple(self._client_ids[i] for i in order.tolist())
        return self._of(self._source, ids)

    def map(
        self, fn: Callable[[Any], Any], same_length: bool = False
    ) -> "FederatedDataset":
        """The data set with each client's arrays changed by `fn`, lazily.

        Args:
            fn: Gets one client's arrays as stored (a tuple or a dict of
                read-only arrays) and returns `(x, y)`,
                `(x, y, sample_weight)` or a dict. It may change the number
                of examples. It runs each time a client is read, so it should
                give the same for the same arrays.
            same_length: True promises that `fn` keeps the number of
                examples, so that `num_examples` need not run it.

        Example:

        >>> ds = FederatedDataset.from_clients({"a": ([[2.0]], [1])})
        >>> ds.map(lambda client: (client[0] / 2, client[1]))["a"][0]
        array([[1.]])
        """
        if not callable(fn):
            raise TypeError(
                f"map got a {type(fn).__name__}. Expected a function of one "
                "client's arrays."
            )
        members = None if self._members is None else self._client_ids
        source = Mapped(self._source, fn, same_length)
        return self._of(source, members)

    def split(
        self, fraction: float, seed: int
    ) -> tuple["FederatedDataset", "FederatedDataset"]:
        """Divides the clients at random: to evaluate on clients never seen.

        Args:
            fraction: Part of the clients that goes to the first data set,
                rounded so that neither is empty.
            seed: An integer.

        Returns:
            Two data sets, with the clients in their order here.

        Raises:
            ValueError: If `fraction` is not in (0, 1), or there are fewer
                than two clients.

        Example:

        >>> ds = FederatedDataset.from_clients(
        ...     {i: ([[0.0]], [1]) for i in "abcde"})
        >>> [len(part) for part in ds.split(0.8, seed=0)]
        [4, 1]
        """
        _check_fraction(fraction)
        total = len(self)
        if total < 2:
            raise ValueError(
                f"Cannot split {total} client(s) in two. Expected at least "
                "2; to divide each client's examples use split_examples."
            )
        num_first = min(max(int(fraction * total + 0.5), 1), total - 1)
        order = seeds.permutation(total, seed, "split")
        parts = np.sort(order[:num_first]), np.sort(order[num_first:])
        first, second = (
            tuple(self._client_ids[i] for i in part.tolist()) for part in parts
        )
        return (
            self._of(self._source, first),
            self._of(self._source, second),
        )

    def split_examples(
        self, fraction: float, seed: int
    ) -> tuple["FederatedDataset", "FederatedDataset"]:
        """Divides each client's examples at random, lazily.

        Both data sets have all the clients. A client with two examples or
        more has at least one on each side. Its only example goes to the
        larger side (the first, if `fraction` is 0.5), and the other side of
        that client is empty. Which examples go where depends on `seed` and
        the client's id alone, not on the other clients. Examples keep their
        order.

        Args:
            fraction: Part of each client's examples that goes to the first
                data set, rounded.
            seed: An integer.

        Raises:
            ValueError: If `fraction` is not in (0, 1).

        Example:

        >>> import numpy as np
        >>> ds = FederatedDataset.from_clients(
        ...     {"a": (np.zeros((5, 2)), np.arange(5))})
        >>> train, test = ds.split_examples(0.8, seed=0)
        >>> train.num_examples("a"), test.num_examples("a")
        (4, 1)
        """
        _check_fraction(fraction)
        members = None if self._members is None else self._client_ids
        first, second = (
            self._of(ExampleSplit(self._source, fraction, seed, side), members)
            for side in (True, False)
        )
        return first, second

    # -- other forms --------------------------------------------------------

    def pooled(self) -> Any:
        """All examples of all clients in one structure of arrays.

        Client after client in the order of `client_ids`; in the structure
        of one client. All of it has to fit in memory.

        Raises:
            ValueError: If clients differ in structure, shape or dtype, or
                there are no clients.

        Example:

        >>> ds = FederatedDataset.from_clients(
        ...     {"a": ([[1.0]], [1]), "b": ([[2.0], [3.0]], [0, 1])})
        >>> ds.pooled()[1]
        array([1, 0, 1])
        """
        if not self._client_ids:
            raise ValueError("A data set without clients cannot be pooled.")
        if self._members is None and isinstance(self._source, ClientColumns):
            return self._source.all_examples()
        return el.concatenate(
            [self._source.load(i) for i in self._client_ids],
            [f"Client {i!r}" for i in self._client_ids],
        )

    def to_tf_dataset(self, client_id: str) -> Any:
        """One client's examples as an unbatched `tf.data.Dataset`.

        Elements are as `keras.Model.fit` takes them once batched: `(x, y)`,
        `(x, y, sample_weight)` or a dict. Lists become tuples, which is what
        tf.data takes for a structure.

        Raises:
            KeyError: If there is no such client.
            ImportError: If TensorFlow is not installed.
        """
        from fedlearn.data.formats.tf_data import to_tf_dataset

        return to_tf_dataset(self[client_id])

    def save(self, path: str | PathLike[str]) -> None:
        """Writes all clients to one compact file, for `load`.

        An HDF5 file that needs no more than a client's arrays in memory to
        be written or read (`fedlearn.data.formats.compact_file` has its
        layout). Integers take as few bytes as hold them, and floats of up to
        256 different values, such as those of images, one byte each; what is
        read again has the same dtypes and bits, which checksums vouch for.
        The file appears under its name when it is complete.

        Args:
            path: Where to; a file that is there is replaced.

        Raises:
            ValueError: If there are no examples, or clients differ in
                structure, shape or dtype.

        Example:

        >>> import os, tempfile
        >>> ds = FederatedDataset.from_clients({"a": ([[2.0]], [1])})
        >>> path = os.path.join(tempfile.mkdtemp(), "clients.h5")
        >>> ds.save(path)
        >>> FederatedDataset.load(path)["a"]
        (array([[2.]]), array([1]))
        """
        from fedlearn.data.formats.compact_file import save_clients

        save_clients(path, self._source, self._client_ids, self._class_names)

    def to_tff_sqlite(
        self, path: str | PathLike[str], split: str = "train"
    ) -> None:
        """Writes a SQLite file that TensorFlow Federated reads.

        One row an example, each a `tf.train.Example`: texts as bytes, floats
        as `float32`, integers and booleans as `int64`, arrays flattened. Of
        tuples, the features are called `x`, `y` and `sample_weight`. Clients
        are written one by one.

        Args:
            path: Where to. A file that is there gets the split added to it.
            split: The split's name.

        Raises:
            ValueError: If the file has that split already, or a client holds
                what the format cannot.
            FormatError: If the file that is there is of another kind.

        Example:

        >>> import os, tempfile
        >>> ds = FederatedDataset.from_clients({"a": ([[2.0]], [1])})
        >>> path = os.path.join(tempfile.mkdtemp(), "clients.sqlite")
        >>> ds.to_tff_sqlite(path)
        >>> FederatedDataset.from_tff_sqlite(path, "train")["a"]
        {'x': array([2.], dtype=float32), 'y': array([1])}
        """
        from fedlearn.data.formats.tff_sqlite import write_tff_sqlite

        write_tff_sqlite(self, path, split)

    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Prints how many clients and examples there are, and of what kind.

        One line each for the clients, the examples, their number a client
        (minimum, quartiles, maximum) and each array. For integer labels
        (`y`, or the feature `label`) it also says how much clients differ:
        the entropy of the labels of one client beside that of all; the
        total variation distance of clients' labels from those of all, beside
        what dealing the examples at random would give; and how many clients
        have one label only. Reads every client once.

        Args:
            print_fn: Called with each line of text.

        Example:

        >>> ds = FederatedDataset.from_clients(
        ...     {"a": ([[1.0]], [1]), "b": ([[2.0], [3.0]], [0, 0])})
        >>> ds.summary()
        FederatedDataset
          clients              2
          examples             3
          examples per client  min 1, quartiles 1 / 2 / 2, max 2
          x                    float64 (n, 1)
          y                    int64 (n,), 2 labels from 0 to 1
          label entropy        0.92 bits pooled, 0.00 mean per client
          label distance       0.50 mean, 0.67 max; dealt at random 0.33
          one label only       100% of clients
        """
        for line in summary_lines(self):
            print_fn(line)

    def heterogeneity(self) -> dict[str, float]:
        """The numbers of `summary` that say how much clients differ.

        See `fedlearn.data.summary.heterogeneity`. Reads every client once.

        Raises:
            ValueError: If the labels are no integers, one an example.

        Example:

        >>> ds = FederatedDataset.from_clients(
        ...     {"a": ([[1.0]], [1]), "b": ([[2.0]], [0])})
        >>> ds.heterogeneity()["label_distance_mean"]
        0.5
        """
        return heterogeneity(self)
