"""The data of many clients, as a mapping from client id to arrays."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from fedlearn import checks, seeds
from fedlearn.data import element as el
from fedlearn.data.client_id import as_client_ids, unknown_client
from fedlearn.data.formats.arrays import read_arrays, read_clients
from fedlearn.data.formats.client_files import read_client_files
from fedlearn.data.formats.compact_file import CompactFile, save_clients
from fedlearn.data.formats.csv_file import read_csv
from fedlearn.data.formats.dataframe import Roles, read_dataframe
from fedlearn.data.formats.hugging_face import read_hugging_face
from fedlearn.data.formats.leaf import read_leaf
from fedlearn.data.formats.tf_data import to_tf_dataset
from fedlearn.data.formats.tff_hdf5 import read_tff_hdf5
from fedlearn.data.formats.tff_sqlite import read_tff_sqlite, write_tff_sqlite
from fedlearn.data.sources import ClientColumns, ExampleSplit, Mapped, Source
from fedlearn.data.summary import heterogeneity, summary_lines

_Path = str | PathLike[str]


class FederatedDataset(Mapping[str, Any]):
    """A read-only mapping from client id to that client's arrays.

    `ds[client_id]` is `(x, y)`, `(x, y, sample_weight)`, or a dict of
    features as the file stores them. Each of `x`, `y` and `sample_weight` is
    an array or a dict, tuple or list of arrays (several inputs or outputs).
    The first axis of each array counts the client's examples; a client may
    have none. Arrays are read-only views: copy one to change it, or use
    `map`.

    Build one with a class method `from_...`; or `load` what `save` wrote.
    Clients are sorted as strings ("10" before "2") where rows are grouped by
    id or read from a file, and else in the order given. An id may be a
    string, integer, UUID or time stamp, and is kept as a string. Data are read
    at once and held in memory, except by `load`, `from_files` and
    `from_tff_hdf5`, which read a client when it is asked for.

    What cannot be honoured is a `ValueError`: no clients or rows, missing
    ids, columns or values, labels that are NaN, arrays that don't fit
    together or hold no numbers. A file that isn't there is a
    `FileNotFoundError`, one that is damaged, cut short or of another kind a
    `fl.data.FormatError`, a client that isn't there a `KeyError`.

    New data sets made from one share its arrays.

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
    """

    def __init__(
        self,
        source: Source,
        class_names: tuple[str, ...] | None = None,
        client_ids: tuple[str, ...] | None = None,
    ) -> None:
        self._source = source
        self._class_names = class_names
        self._client_ids = (
            source.client_ids if client_ids is None else client_ids
        )

    # A mapping compares by value, which arrays do not support.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    # -- from data in memory ------------------------------------------------

    @classmethod
    def from_clients(
        cls,
        clients: Mapping[Any, Any],
        class_names: Sequence[str] | None = None,
    ) -> "FederatedDataset":
        """From a dict of each client's arrays.

        Args:
            clients: From client id to `(x,)`, `(x, y)`,
                `(x, y, sample_weight)` or a dict of features, of anything
                that NumPy makes an array of; NumPy arrays are not copied. A
                `tf.data.Dataset` or `keras.utils.PyDataset` is read once,
                now. Clients have the same structure and shapes, but for the
                number of examples; where their dtypes differ in width, all
                get the one that holds all exactly.
            class_names: Names of the labels' classes, in order; by default
                those that appear, sorted, if labels are texts. Labels that
                are numbers count the names from 0, unless all names are
                numbers: then each label is the class of that name.

        Example:

        >>> ds = FederatedDataset.from_clients({"a": ([[1.0], [2.0]], [0, 1])})
        >>> ds["a"][1]
        array([0, 1])
        """
        return cls(*read_clients(clients, class_names))

    @classmethod
    def from_arrays(
        cls,
        x: Any,
        y: Any,
        client_ids: Any,
        sample_weight: Any = None,
        class_names: Sequence[str] | None = None,
    ) -> "FederatedDataset":
        """From pooled arrays and the id of the client that has each row.

        Args:
            x: `(examples, ...)` array, or a dict, tuple or list of them.
            y: The same; for a model trained on `x` alone, pass `y=x`.
            client_ids: `(examples,)` ids.
            sample_weight: `(examples,)` numbers, if wanted.
            class_names: As of `from_clients`; of a pandas column of
                categories, by default those, in their order.

        Example:

        >>> ds = FederatedDataset.from_arrays(
        ...     [5, 6, 7], [0, 1, 0], list("bab"))
        >>> ds["b"]
        (array([5, 7]), array([0, 0]))
        """
        parts = (x, y) if sample_weight is None else (x, y, sample_weight)
        return cls(*read_arrays(parts, client_ids, class_names))

    @classmethod
    def from_tf_datasets(
        cls, datasets: Mapping[Any, Any], batched: bool | None = None
    ) -> "FederatedDataset":
        """From one `tf.data.Dataset` a client.

        Args:
            datasets: From client id to a finite data set of `(x, y)`,
                `(x, y, sample_weight)` or dicts.
            batched: Whether an element is a batch. By default it is told
                from the shapes, or an error: a scalar component, or first
                axes of different lengths, mean single examples; first axes
                all of unknown length mean batches.
        """
        return cls(*read_clients(datasets, None, batched, "from_tf_datasets"))

    @classmethod
    def from_dataframe(
        cls,
        df: Any,
        client: Any = None,
        label: Any = None,
        features: Iterable[Any] | Mapping[str, Iterable[Any]] | None = None,
        missing: str | Mapping[Any, Any] = "error",
        class_names: Sequence[str] | None = None,
    ) -> "FederatedDataset":
        """From a data frame with a column that says whose a row is.

        Works with pandas, and with any data frame that has `columns` and
        whose `df[column]` has `to_numpy()`.

        Args:
            df: One row an example. Or a dict from client id to the data
                frame of that client; columns are then matched by their
                names, in whatever order.
            client: Column of client ids; None with a dict of data frames.
            label: Column of labels. Integers and booleans become `int64`,
                other numbers `float32`, texts the numbers of classes, whose
                names `class_names` has.
            features: Columns of `x`; all the others by default. A dict of
                lists of columns makes `x` a dict, for several inputs.
            missing: What is done where a value, or a client's column, is
                missing: "error"; or "mean", "median" or "zero", of all
                clients' rows, which fill it. A column with gaps gets another
                one, of 1 where it was filled and else 0, after all features.
                Or a dict from columns to one of these words or to a number,
                as in `missing={"age": 54.4}`: each column in it gets another
                one, with gaps or without, so that different tables get the
                same columns; gaps of others are an error.
            class_names: As of `from_arrays`.

        Returns:
            A data set of `(x, y)` with `x` of shape `(n, features)`,
            `float32`, and `y` of shape `(n,)`. Columns of integers that
            `float32` can't hold, such as ids above 2**24, are `int64`; an
            error, where `float32` would change what other columns hold.

        Example:

        >>> import pandas as pd
        >>> df = pd.DataFrame({"user": ["u2", "u1", "u2"],
        ...                    "age": [30, 40, 50], "bought": [0, 1, 1]})
        >>> ds = FederatedDataset.from_dataframe(
        ...     df, client="user", label="bought")
        >>> ds["u2"]
        (array([[30.],
               [50.]], dtype=float32), array([0, 1]))
        """
        roles = Roles(client, label, features, missing, class_names)
        return cls(*read_dataframe(df, roles))

    @classmethod
    def from_hugging_face(
        cls,
        dataset: Any,
        client: str,
        label: str | None = None,
        features: Iterable[str] | None = None,
    ) -> "FederatedDataset":
        """From a data set of Hugging Face's library `datasets`.

        Args:
            dataset: A `datasets.Dataset` (one split).
            client: Column of client ids.
            label: Column of labels; without it, clients are dicts.
            features: Columns to keep; all the others by default.

        Returns:
            A data set of dicts by column; or, with `label`, of `(x, y)`,
            where `x` is an array if one feature is kept, and else a dict.
            Texts are object arrays of `bytes`, labels the numbers of classes
            as of `from_dataframe`.
        """
        return cls(*read_hugging_face(dataset, client, label, features))

    # -- from files ---------------------------------------------------------

    @classmethod
    def from_csv(
        cls,
        path: Any,
        client: str | None = None,
        label: str | None = None,
        features: Iterable[str] | Mapping[str, Iterable[str]] | None = None,
        delimiter: str = ",",
        decimal: str = ".",
        missing: str | Mapping[Any, Any] = "error",
        class_names: Sequence[str] | None = None,
    ) -> "FederatedDataset":
        """From a CSV file with a column that says whose a row is.

        Args:
            path: A UTF-8 file whose first line names the columns. Or a list
                of files, one a client, named by the file's name without its
                ending; or a dict from client id to file.
            client: Column of client ids, taken as they are written. None
                with a file for each client.
            label, features, missing, class_names: As of `from_dataframe`.
                True and False are read as 1 and 0, in any case of letters; an
                empty cell, NA, NaN, NULL, None and ? as missing; but a label
                that `class_names` has, as "None" or "2", is that class.
            delimiter: What stands between two cells.
            decimal: What stands before a fraction: "." or ",".

        Returns:
            As `from_dataframe`.

        Example:

        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "shops.csv")
        >>> _ = path.write_text("shop,size,sold\\nx,1.5,0\\ny,2,1\\nx,3,1\\n")
        >>> ds = FederatedDataset.from_csv(path, client="shop", label="sold")
        >>> ds["x"][1]
        array([0, 1])
        """
        roles = Roles(client, label, features, missing, class_names)
        return cls(*read_csv(path, roles, delimiter, decimal))

    @classmethod
    def from_files(
        cls,
        folder: _Path,
        read: Callable[[Path], Any] | None = None,
        pattern: str | None = None,
    ) -> "FederatedDataset":
        """From a folder with a file, or a folder, for each client.

        Args:
            folder: The folder. The name of a file, without its last ending,
                or of a folder is the client's id; what begins with a dot is
                left out.
            read: From the path of a client to its arrays. By default NumPy's
                `.npz` files are read: arrays named `x` and `y` (and
                `sample_weight`) give a tuple, others a dict.
            pattern: Which names count, as in a shell: by default `"*.npz"`,
                or with `read` all.

        Example:

        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> np.savez(folder / "ann.npz", x=[[1.0]], y=[0])
        >>> FederatedDataset.from_files(folder)["ann"]
        (array([[1.]]), array([0]))
        """
        return cls(read_client_files(folder, read, pattern))

    @classmethod
    def from_leaf(cls, directory: _Path) -> "FederatedDataset":
        """From the JSON files of LEAF (Caldas et al. 2018).

        Args:
            directory: A folder of one part, as `data/train`, whose `.json`
                files have different users each; or one such file.

        Returns:
            A data set of dicts of `x` and `y`: `float32`, or for texts
            object arrays of `bytes`; `y` is `int64` if all of it are whole
            numbers.

        Example:

        >>> import json, pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "all_data.json")
        >>> _ = path.write_text(json.dumps({"users": ["u"], "num_samples": [1],
        ...     "user_data": {"u": {"x": [[0.5]], "y": [3]}}}))
        >>> FederatedDataset.from_leaf(path)["u"]["y"]
        array([3])
        """
        return cls(read_leaf(directory))

    @classmethod
    def from_tff_sqlite(
        cls, path: _Path, split: str | None = None
    ) -> "FederatedDataset":
        """From a SQLite file of TensorFlow Federated; needs no TensorFlow.

        A file under LZMA (`.xz`, or the older `.lzma`) is unpacked to a
        temporary one: EMNIST's takes 4.7 GB on disk. What is read takes as
        few bytes as hold it: EMNIST digits 0.27 GB.

        Args:
            path: The file.
            split: A split's name, such as `"train"`. By default all: a
                client in several has the examples of all, as with TFF.

        Returns:
            A data set of dicts of the stored features, by name: `float32`,
            `int64`, or object arrays of `bytes`; of shape `(n, length)`, or
            `(n,)` where each example has one value.
        """
        return cls(read_tff_sqlite(path, split))

    @classmethod
    def from_tff_hdf5(cls, path: _Path) -> "FederatedDataset":
        """From an HDF5 file, as TensorFlow Federated used before SQLite.

        HDF5 itself may never return from a damaged file with texts: `save`
        what is to be kept.

        Args:
            path: The file. Unpack a `.tar.bz2` first.

        Returns:
            A data set of dicts of the stored features; texts as object
            arrays of `bytes`.

        Example:

        >>> import h5py, pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "people.h5")
        >>> with h5py.File(path, "w") as f:
        ...     f["examples/ann/label"] = [0, 1]
        >>> FederatedDataset.from_tff_hdf5(path)["ann"]["label"]
        array([0, 1])
        """
        return cls(read_tff_hdf5(path))

    @classmethod
    def load(cls, path: _Path) -> "FederatedDataset":
        """From a file that `save` wrote; opens in milliseconds.

        Clients have the order, structure and dtypes that were saved, texts as
        object arrays; each is compared with its checksum the first time.
        """
        source = CompactFile(path)
        return cls(source, source.class_names)

    # -- the mapping --------------------------------------------------------

    @property
    def client_ids(self) -> tuple[str, ...]:
        """The clients, each once."""
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
        return client_id in self._members

    @functools.cached_property
    def _members(self) -> frozenset[str]:
        return frozenset(self._client_ids)

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

        Read without its arrays, except after a `map` without `same_length`.
        """
        self._check(client_id)
        return self._source.num_examples(client_id)

    @property
    def knows_sizes(self) -> bool:
        """Whether `num_examples` reads no client's arrays."""
        return getattr(self._source, "knows_sizes", True)

    @property
    def source(self) -> Source:
        """Where clients are read from, of which these may be some."""
        return self._source

    @property
    def element_spec(self) -> Any:
        """An `ArraySpec` (shape without the axis of examples, and dtype) for
        each array, in the structure of the first client that has examples.

        Example:

        >>> ds = FederatedDataset.from_clients({"a": ([[1, 2]], [0])})
        >>> ds.element_spec[0].shape
        (2,)
        """
        if not self._client_ids:
            raise ValueError("A data set without clients has no element_spec.")
        filled = (i for i in self._client_ids if self._source.num_examples(i))
        return el.spec_of(self._source.load(next(filled, self._client_ids[0])))

    # -- other data sets from this one --------------------------------------

    def _of(
        self, source: Source, client_ids: tuple[str, ...]
    ) -> "FederatedDataset":
        return FederatedDataset(source, self._class_names, client_ids)

    def _picked(self, places: np.ndarray) -> "FederatedDataset":
        ids = tuple(self._client_ids[k] for k in places.tolist())
        return self._of(self._source, ids)

    def select(self, client_ids: Iterable[str]) -> "FederatedDataset":
        """The data set of these clients, each once, in this order.

        Example:

        >>> ds = FederatedDataset.from_arrays(range(3), range(3), list("abc"))
        >>> ds.select(["c", "a"]).client_ids
        ('c', 'a')
        """
        chosen = as_client_ids(client_ids)
        for client_id in chosen:
            self._check(client_id)
        return self._of(self._source, chosen)

    def sample(self, num_clients: int, seed: int) -> "FederatedDataset":
        """`num_clients` of the clients, drawn uniformly, each at most once.

        Example:

        >>> ds = FederatedDataset.from_arrays(range(3), range(3), list("abc"))
        >>> len(ds.sample(2, seed=0))
        2
        """
        if not 1 <= num_clients <= len(self):
            raise ValueError(
                f"num_clients is {num_clients!r}, but this data set has "
                f"{len(self):,} clients. Expected 1 to {len(self):,}."
            )
        return self._picked(
            seeds.permutation(len(self), seed, "sample")[:num_clients]
        )

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
        source = Mapped(self._source, fn, same_length)
        return self._of(source, self._client_ids)

    def split(
        self, fraction: float, seed: int
    ) -> tuple["FederatedDataset", "FederatedDataset"]:
        """Divides the clients at random: to evaluate on clients never seen.

        Args:
            fraction: Part of the clients, in (0, 1), that goes to the first
                data set, rounded so that neither is empty.
            seed: An integer.

        Example:

        >>> ds = FederatedDataset.from_arrays(range(5), range(5), list("abcde"))
        >>> [len(part) for part in ds.split(0.8, seed=0)]
        [4, 1]
        """
        checks.fraction("fraction", fraction, one=False)
        total = len(self)
        if total < 2:
            raise ValueError(
                f"Cannot split {total} client(s) in two. Expected at least "
                "2; to divide each client's examples use split_examples."
            )
        num_first = min(max(int(fraction * total + 0.5), 1), total - 1)
        order = seeds.permutation(total, seed, "split")
        return (
            self._picked(np.sort(order[:num_first])),
            self._picked(np.sort(order[num_first:])),
        )

    def split_examples(
        self, fraction: float, seed: int
    ) -> tuple["FederatedDataset", "FederatedDataset"]:
        """Divides each client's examples at random, lazily; as `split`.

        Both data sets have all the clients. A client with two examples or
        more has at least one on each side; an only one goes to the larger
        side (the first, if `fraction` is 0.5). Which examples go where
        depends on `seed` and the client's id alone. They keep their order.

        Example:

        >>> ds = FederatedDataset.from_clients({"a": (range(5), range(5))})
        >>> train, test = ds.split_examples(0.8, seed=0)
        >>> train.num_examples("a"), test.num_examples("a")
        (4, 1)
        """
        checks.fraction("fraction", fraction, one=False)
        first, second = (
            ExampleSplit(self._source, fraction, seed, side)
            for side in (True, False)
        )
        ids = self._client_ids
        return self._of(first, ids), self._of(second, ids)

    # -- other forms --------------------------------------------------------

    def pooled(self) -> Any:
        """All examples in one structure of arrays in memory, client after
        client in the order of `client_ids`.

        Example:

        >>> ds = FederatedDataset.from_arrays(range(3), [1, 0, 1], list("aba"))
        >>> ds.pooled()[1]
        array([1, 1, 0])
        """
        if not self._client_ids:
            raise ValueError("A data set without clients cannot be pooled.")
        source, ids = self._source, self._client_ids
        if isinstance(source, ClientColumns) and ids == source.client_ids:
            return source.all_examples()
        return el.concatenate(
            [source.load(i) for i in ids], [f"Client {i!r}" for i in ids]
        )

    def to_tf_dataset(self, client_id: str) -> Any:
        """One client's examples as an unbatched `tf.data.Dataset`.

        Elements are as `keras.Model.fit` takes them once batched; lists
        become tuples, which is what tf.data takes for a structure.
        """
        return to_tf_dataset(self[client_id])

    def save(self, path: _Path) -> None:
        """Writes all clients to one compact file, for `load`.

        An HDF5 file (`fedlearn.data.formats.compact_file` has its layout)
        that is written and read client by client. Integers take as few bytes
        as hold them, and floats of up to 256 different values, such as those
        of images, one byte each; what is read again has the same dtypes and
        bits, which checksums vouch for. A file that is there is replaced when
        the new one is complete.

        Example:

        >>> import pathlib, tempfile
        >>> ds = FederatedDataset.from_clients({"a": ([[2.0]], [1])})
        >>> path = pathlib.Path(tempfile.mkdtemp(), "clients.h5")
        >>> ds.save(path)
        >>> FederatedDataset.load(path)["a"]
        (array([[2.]]), array([1]))
        """
        save_clients(path, self._source, self._client_ids, self._class_names)

    def to_tff_sqlite(self, path: _Path, split: str = "train") -> None:
        """Writes a SQLite file that TensorFlow Federated reads.

        One row an example, each a `tf.train.Example`: texts as bytes, floats
        as `float32`, integers and booleans as `int64`, arrays flattened. Of
        tuples, the features are called `x`, `y` and `sample_weight`.

        Args:
            path: Where to. A file that is there gets the split added to it.
            split: The split's name, which the file may not have.

        Example:

        >>> import pathlib, tempfile
        >>> ds = FederatedDataset.from_clients({"a": ([[2.0]], [1])})
        >>> path = pathlib.Path(tempfile.mkdtemp(), "clients.sqlite")
        >>> ds.to_tff_sqlite(path)
        >>> FederatedDataset.from_tff_sqlite(path, "train")["a"]
        {'x': array([2.], dtype=float32), 'y': array([1])}
        """
        write_tff_sqlite(self, path, split)

    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Prints how many clients and examples there are, and of what kind.

        For integer labels (`y`, or the feature `label`) also how much clients
        differ: see `heterogeneity`. Reads every client once.

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
        for line in summary_lines(self, self._class_names):
            print_fn(line)

    def heterogeneity(self) -> dict[str, float]:
        """How much the integer labels of clients differ, in numbers.

        Each client counts once, whatever its size; those without examples
        are left out. Reads every client once.

        Returns:
            A dict of

            - `label_entropy_pooled`, `label_entropy_mean`: entropy in bits of
              the labels of all examples, and its mean over clients;
            - `label_distance_mean`, `_q25`, `_median`, `_q75`, `_max`: total
              variation distance of clients' mixes of labels from that of all
              examples, 0 (alike) to 1;
            - `label_distance_by_chance`: about what the mean would be if the
              examples were dealt at random to clients of these sizes;
            - `single_label_clients`: share of clients with one label only.

        Example:

        >>> ds = FederatedDataset.from_clients(
        ...     {"a": ([[1.0]], [1]), "b": ([[2.0]], [0])})
        >>> ds.heterogeneity()["label_distance_mean"]
        0.5
        """
        return heterogeneity(self)
