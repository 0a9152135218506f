"""The ways to make a `FederatedDataset`, one class method each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedlearn.data import element as el
from fedlearn.data.class_names import (
    categories_of,
    check_class_names,
    is_text,
    number_classes,
)
from fedlearn.data.client_data import read_client_data
from fedlearn.data.client_id import as_client_ids, client_of_rows, ids_array
from fedlearn.data.formats.table import Roles
from fedlearn.data.sources import Source, group_rows, in_memory

if TYPE_CHECKING:
    from fedlearn.data.federated_dataset import FederatedDataset


def _number_labels(
    elements: Mapping[str, el.Element], class_names: Sequence[str] | None
) -> tuple[dict[str, el.Element], tuple[str, ...] | None]:
    """Elements whose labels are numbers, and the names of the classes."""
    names = check_class_names(class_names)
    numbered = dict(elements)
    labels = {
        i: e[1]
        for i, e in elements.items()
        if isinstance(e, tuple) and len(e) > 1 and isinstance(e[1], np.ndarray)
    }
    if names is None and not any(map(is_text, labels.values())):
        return numbered, None
    if len(labels) < len(elements):
        raise ValueError(
            "There are class names, but not all clients have labels in one "
            "array. Expected (x, y) with an array y."
        )
    whose = [i if len(labels) == 1 else f"Client {i!r}" for i in labels]
    numbers, names = number_classes([*labels.values()], whose, names)
    for client_id, y in zip(labels, numbers, strict=True):
        x, _, *weight = elements[client_id]
        numbered[client_id] = (x, y, *weight)
    return numbered, names


def pooled_examples(
    parts: tuple, who: str, class_names: Sequence[str] | None = None
) -> tuple[el.Element, tuple[str, ...] | None]:
    """Pooled `(x, y)` or `(x, y, sample_weight)`, with labels that are numbers.

    Args:
        parts: What a user gave.
        who: Begins the messages.
        class_names: Of the labels; by default those that appear, if they are
            texts.

    Returns:
        The element, and the names of the classes, if they have any.
    """
    element = el.as_element(parts, who, text_labels=True)
    numbered, names = _number_labels(
        {who: element}, class_names or categories_of(parts[1])
    )
    return numbered[who], names


class Constructors:
    """What `FederatedDataset` inherits: `from_clients` and its like."""

    if TYPE_CHECKING:

        def __new__(
            cls,
            source: Source,
            client_ids: tuple[str, ...] | None = None,
            class_names: tuple[str, ...] | None = None,
        ) -> "FederatedDataset": ...

    @classmethod
    def from_clients(
        cls,
        clients: Mapping[Any, Any],
        class_names: Sequence[str] | None = None,
    ) -> "FederatedDataset":
        """From a dict of each client's arrays.

        Args:
            clients: From client id (a string, integer, UUID or time stamp;
                kept as a string) to `(x, y)`, `(x, y, sample_weight)` or a
                dict of features; `(x,)` for a model whose loss needs no
                labels. Anything that NumPy makes an array of will do; NumPy
                arrays are not copied. A `tf.data.Dataset` or
                `keras.utils.PyDataset` of such is read once, now. All
                clients have the same structure and shapes, but for the number
                of examples, which may be 0. Where clients differ in the width
                of integers, of floats or of texts, all get the dtype that
                holds all of them exactly. Labels that are texts become the
                numbers of classes; see `class_names`.
            class_names: Names of the labels' classes, in order; by default
                those that appear, sorted, if labels are texts. Labels that
                are numbers count the names from 0, unless all names are
                numbers (or True and False): then each label is the class of
                that name.

        Returns:
            A data set with the clients in the order of the dict.

        Raises:
            ValueError: If there are no clients, two ids are the same string,
                a client's arrays differ in length, clients differ in
                structure, labels are NaN, or an array holds no numbers.

        Example:

        >>> from fedlearn import FederatedDataset
        >>> ds = FederatedDataset.from_clients({"a": ([[1.0], [2.0]], [0, 1])})
        >>> ds["a"][1]
        array([0, 1])
        """
        if not isinstance(clients, Mapping):
            raise TypeError(
                f"from_clients got a {type(clients).__name__}. Expected a "
                "dict from client id to (x, y)."
            )
        if not clients:
            raise ValueError(
                "from_clients got no clients. Expected at least one."
            )
        ids = as_client_ids(clients)
        return cls._from_elements(
            {
                i: read_client_data(value, f"Client {i!r}", text_labels=True)
                for i, value in zip(ids, clients.values(), strict=True)
            },
            class_names,
        )

    @classmethod
    def _from_elements(
        cls,
        elements: Mapping[str, el.Element],
        class_names: Sequence[str] | None = None,
    ) -> "FederatedDataset":
        numbered, names = _number_labels(elements, class_names)
        for client_id, element in numbered.items():
            el.check_labels(element, f"Client {client_id!r}")
        return cls(in_memory(numbered), class_names=names)

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
            y: The same; for a model trained on `x` alone, pass `y=x`. Texts
                become the numbers of classes; see `class_names`.
            client_ids: `(examples,)` strings, integers, UUIDs or time stamps.
            sample_weight: `(examples,)` numbers, if wanted.
            class_names: Names of the labels' classes, in order; by default
                those that appear, sorted (of a pandas column of categories,
                those, in their order), if labels are texts.

        Returns:
            A data set with the clients sorted as strings; a client's rows
            keep their order.

        Raises:
            ValueError: If the lengths differ, there are no rows, an id is
                missing, labels are NaN, or an array holds no numbers.

        Example:

        >>> from fedlearn import FederatedDataset
        >>> import numpy as np
        >>> ds = FederatedDataset.from_arrays(
        ...     np.arange(6.0).reshape(3, 2), [0, 1, 0], ["b", "a", "b"])
        >>> ds.client_ids
        ('a', 'b')
        >>> ds["b"][0]
        array([[0., 1.],
               [4., 5.]])
        """
        parts = (x, y) if sample_weight is None else (x, y, sample_weight)
        element, names = pooled_examples(parts, "from_arrays", class_names)
        ids = ids_array(client_ids)
        if ids.ndim != 1 or len(ids) != el.num_examples(element):
            raise ValueError(
                f"client_ids has shape {ids.shape}, but x and y have "
                f"{el.num_examples(element):,} examples. Expected one id for "
                "each example."
            )
        if not len(ids):
            raise ValueError("from_arrays got no examples. Expected some.")
        names_of_rows, codes = client_of_rows(ids)
        gaps = el.missing_labels(element)
        if gaps is not None:
            first = codes[gaps[1][0]]
            el.check_labels(
                el.take(element, codes == first),
                f"Client {names_of_rows[first]!r}",
            )
        return cls(group_rows(element, codes, names_of_rows), class_names=names)

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
                other numbers `float32`; texts, and pandas's categories, the
                numbers of classes, whose names `class_names` has.
            features: Columns of `x`; all the others by default. A dict of
                lists of columns makes `x` a dict, for a model with several
                inputs.
            missing: What is done where a value is missing, or all of a
                column at some client: "error", or "mean", "median" or
                "zero", which fill it. The mean is that of all clients' rows.
                A column that has gaps gets another one, of 1 where it was
                filled and else 0; these follow all features, in their order.
                What fills is computed of all these rows, of each client and
                also of those that will test. Or a dict from columns to one
                of these words or to a number: each column in it gets another
                one, with gaps or without, and gaps of others are an error. So
                training and test data of different tables have the same
                columns, filled with the same `missing={"age": 54.4}`, and
                nothing is told of any client's rows.
            class_names: Names of all classes, in order, where not all of
                them appear here or they are to be in another order than the
                alphabet's (of categories, their own).

        Returns:
            A data set of `(x, y)` with `x` of shape `(n, features)`,
            `float32`, and `y` of shape `(n,)`; clients sorted as strings (of
            a dict, in its order), rows in their order. Where `float32`
            can't hold every whole number, as of ids above 2**24, `x` is
            `int64` if all of its columns are integers. Fractions are
            rounded to `float32`, as Keras does it.

        Raises:
            ValueError: If a column is missing, holds no numbers, has missing
                values, or `float32` would change what it holds; named, with
                a way out.

        Example:

        >>> from fedlearn import FederatedDataset
        >>> import pandas as pd
        >>> df = pd.DataFrame({"user": ["u2", "u1", "u2"],
        ...                    "age": [30, 40, 50], "bought": [0, 1, 1]})
        >>> ds = FederatedDataset.from_dataframe(
        ...     df, client="user", label="bought")
        >>> ds["u2"]
        (array([[30.],
               [50.]], dtype=float32), array([0, 1]))
        """
        from fedlearn.data.formats.dataframe import read_dataframe

        roles = Roles(client, label, features, missing, class_names)
        source, names = read_dataframe(df, roles)
        return cls(source, class_names=names)

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
                ending; or a dict from client id to file. Columns are then
                matched by their names.
            client: Column of client ids, taken as they are written. None
                with a file for each client.
            label: Column of labels: `int64` if all are integers or all are
                True or False, `float32` if they are other numbers; texts
                become the numbers of classes, whose names `class_names` has.
            features, missing, class_names: As of `from_dataframe`. True and
                False are read as 1 and 0, in any case of letters; an empty
                cell, NA, NaN, NULL, None and ? as missing; but a label that
                `class_names` has, as "None" or "2", is that class.
            delimiter: What stands between two cells.
            decimal: "," where numbers are written as 1,5.

        Returns:
            As `from_dataframe`.

        Raises:
            FormatError: If the file is no such CSV (a row of another length,
                no header, not UTF-8), with the line.
            ValueError: If a column does not exist, holds text, or has empty
                cells; named, with the first line and a way out.

        Example:

        >>> from fedlearn import FederatedDataset
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "shops.csv")
        >>> with open(path, "w") as f:
        ...     _ = f.write("shop,size,sold\\nx,1.5,0\\ny,2,1\\nx,3,1\\n")
        >>> ds = FederatedDataset.from_csv(path, client="shop", label="sold")
        >>> ds["x"][1]
        array([0, 1])
        """
        from fedlearn.data.formats.csv_file import read_csv

        roles = Roles(client, label, features, missing, class_names)
        source, names = read_csv(path, roles, delimiter, decimal)
        return cls(source, class_names=names)

    @classmethod
    def from_tf_datasets(
        cls, datasets: Mapping[Any, Any], batched: bool | None = None
    ) -> "FederatedDataset":
        """From one `tf.data.Dataset` a client; each is read once, now.

        Args:
            datasets: From client id to a finite data set of `(x, y)`,
                `(x, y, sample_weight)` or dicts.
            batched: Whether an element is a batch. By default it is told
                from the shapes: a scalar component, or first axes of
                different lengths, mean single examples; first axes all of
                unknown length mean batches.

        Returns:
            A data set with the clients in the order of the dict.

        Raises:
            ValueError: If the shapes do not tell whether a data set is
                batched, its examples differ in shape, or it is endless.
        """
        from fedlearn.data.formats.tf_data import read_tf_dataset

        if not isinstance(datasets, Mapping):
            raise TypeError(
                f"from_tf_datasets got a {type(datasets).__name__}. Expected "
                "a dict from client id to tf.data.Dataset."
            )
        if not datasets:
            raise ValueError(
                "from_tf_datasets got no clients. Expected at least one."
            )
        ids = as_client_ids(datasets)
        return cls._from_elements(
            {
                i: read_tf_dataset(d, f"Client {i!r}", batched, True)
                for i, d in zip(ids, datasets.values(), strict=True)
            }
        )

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "FederatedDataset":
        """From a file that `save` wrote.

        Opens in milliseconds and holds only the clients that are being read;
        each costs one slice of the file, and is compared with its checksum when
        it is first read.

        Args:
            path: The file.

        Returns:
            A data set with the clients, in the order and with the structure
            and dtypes that were saved; texts as object arrays.

        Raises:
            FileNotFoundError: If there is no such file.
            FormatError: If it is cut short, damaged, or no such file.
        """
        from fedlearn.data.formats.compact_file import CompactFile

        source = CompactFile(path)
        return cls(source, class_names=source.class_names)

    @classmethod
    def from_tff_sqlite(
        cls, path: str | PathLike[str], split: str | None = None
    ) -> "FederatedDataset":
        """From a SQLite file of TensorFlow Federated; needs no TensorFlow.

        The file may be plain or compressed with LZMA (`.xz`, or the older
        `.lzma` container; told by its content, not its name). A compressed
        one is unpacked to a temporary file, since SQLite must seek, and that
        file is removed again: for EMNIST it takes 4.7 GB on disk.

        The whole split is read now, in one pass, and held in memory.
        Integers are kept in as few bytes as hold them, and floats of up to
        256 different values in one byte each: EMNIST digits takes 0.27 GB.
        To read a large file often, `save` what it gives and `load` that.

        Args:
            path: The file.
            split: A split's name, such as `"train"`. By default all splits:
                a client that is in several has the examples of all of them,
                as with TFF.

        Returns:
            A data set of dicts of the stored features, by name: `float32`,
            `int64`, or object arrays of `bytes`; of shape `(n, length)`, or
            `(n,)` where each example has one value. Clients are sorted as
            strings; examples are in the order of the file.

        Raises:
            FileNotFoundError: If there is no such file.
            FormatError: If it is cut short, damaged, or no such file.
            ValueError: If there is no such split; the message lists them.
        """
        from fedlearn.data.formats.tff_sqlite import read_tff_sqlite

        return cls(read_tff_sqlite(path, split))

    @classmethod
    def from_tff_hdf5(cls, path: str | PathLike[str]) -> "FederatedDataset":
        """From an HDF5 file, as TensorFlow Federated used before SQLite.

        Data set `/examples/<client id>/<feature>` holds a feature of all
        examples of a client. A client is read when it is asked for. HDF5
        itself may never return from a damaged or hostile file with texts of
        no fixed length: read those from a source that you trust, and `save`
        what is to be kept.

        Args:
            path: The file. Unpack a `.tar.bz2` first.

        Returns:
            A data set of dicts of the stored features; texts as object
            arrays of `bytes`. Clients are sorted as strings.

        Raises:
            FileNotFoundError: If there is no such file.
            FormatError: If it is cut short, damaged, or no such file.

        Example:

        >>> from fedlearn import FederatedDataset
        >>> import h5py, os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "people.h5")
        >>> with h5py.File(path, "w") as f:
        ...     f["examples/ann/label"] = [0, 1]
        >>> FederatedDataset.from_tff_hdf5(path)["ann"]["label"]
        array([0, 1])
        """
        from fedlearn.data.formats.tff_hdf5 import read_tff_hdf5

        return cls(read_tff_hdf5(path))

    @classmethod
    def from_leaf(cls, directory: str | PathLike[str]) -> "FederatedDataset":
        """From the JSON files of LEAF (Caldas et al. 2018).

        All is read now, and held in memory.

        Args:
            directory: A folder of one part, as `data/train`, whose `.json`
                files have different users each; or one such file.

        Returns:
            A data set of dicts of `x` and `y`: `float32`, or for texts
            object arrays of `bytes`; `y` is `int64` if all of it are whole
            numbers. Clients are sorted as strings.

        Raises:
            FileNotFoundError: If there is no such folder or file.
            FormatError: If a file is cut short, damaged, or of another kind,
                or a user is in two.

        Example:

        >>> from fedlearn import FederatedDataset
        >>> import json, os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "all_data.json")
        >>> data = {"users": ["u"], "num_samples": [1],
        ...         "user_data": {"u": {"x": [[0.5]], "y": [3]}}}
        >>> with open(path, "w") as f:
        ...     json.dump(data, f)
        >>> FederatedDataset.from_leaf(path)["u"]["y"]
        array([3])
        """
        from fedlearn.data.formats.leaf import read_leaf

        return cls(read_leaf(directory))

    @classmethod
    def from_files(
        cls,
        folder: str | PathLike[str],
        read: Callable[[Path], Any] | None = None,
        pattern: str | None = None,
    ) -> "FederatedDataset":
        """From a folder with a file, or a folder, for each client.

        A client is read when it is asked for.

        Args:
            folder: The folder. The name of a file, without its last ending,
                or of a folder is the client's id; what begins with a dot is
                left out.
            read: From the path of a client to its arrays: `(x, y)`,
                `(x, y, sample_weight)` or a dict. By default NumPy's `.npz`
                files are read: arrays named `x` and `y` (and
                `sample_weight`) give a tuple, others a dict.
            pattern: Which names count, as in a shell: by default `"*.npz"`,
                or with `read` all.

        Returns:
            A data set with the clients sorted as strings.

        Raises:
            FileNotFoundError: If there is no such folder.
            FormatError: If it holds nothing that matches, two files of one
                client, a link to elsewhere, or a damaged `.npz` file.

        Example:

        >>> from fedlearn import FederatedDataset
        >>> import os, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> np.savez(os.path.join(folder, "ann.npz"), x=[[1.0]], y=[0])
        >>> FederatedDataset.from_files(folder)["ann"]
        (array([[1.]]), array([0]))
        """
        from fedlearn.data.formats.client_files import read_client_files

        return cls(read_client_files(folder, read, pattern))

    @classmethod
    def from_hugging_face(
        cls,
        dataset: Any,
        client: str,
        label: str | None = None,
        features: Iterable[str] | None = None,
    ) -> "FederatedDataset":
        """From a data set of Hugging Face's library `datasets`.

        All rows are read now, and held in memory.

        Args:
            dataset: A `datasets.Dataset` (one split).
            client: Column of client ids.
            label: Column of labels; without it, clients are dicts.
            features: Columns to keep; all the others by default.

        Returns:
            A data set of dicts by column; or, with `label`, of `(x, y)`,
            where `x` is an array if one feature is kept, and else a dict.
            Texts are object arrays of `bytes`; labels that are texts become
            the numbers of classes, whose names `class_names` has, as it has
            those of a `ClassLabel`. Clients are sorted as strings, rows in
            their order.

        Raises:
            ValueError: If a column is missing, or holds neither numbers nor
                texts of one shape.
        """
        from fedlearn.data.formats.hugging_face import read_hugging_face

        source, names = read_hugging_face(dataset, client, label, features)
        return cls(source, class_names=names)
