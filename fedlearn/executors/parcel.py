import contextlib
import functools
import importlib
import inspect
import io
import mmap
import os
import pickle
import socket
import struct
import tempfile
import types
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cloudpickle
import keras
import numpy as np

from fedlearn.clients.program import ClientProgram
from fedlearn.keras_model import keras_internals, model_copy
from fedlearn.serialization import Configurable

_ALIGNED = 64
# Up to so many bytes go through the socket itself: few enough that its buffer
# holds all that a worker is given at once, if it doesn't read.
_SMALL = 2**14
_HEADER = struct.Struct("!QI")  # bytes in the socket; parts


class Parcel:
    """An object on its way to other processes of this machine.

    Large arrays are written once, to memory that the receivers map, so what
    they get is read-only and costs no copy. The memory has no name: it is gone
    with the last process that has it, however that ends.

    Any code of the user's may be in the object, in `__main__` too: it goes by
    `cloudpickle`. Models, clients' programs and what they are configured with
    are made again, by what they are made of.
    """

    def __init__(self, thing: Any):
        parts = pickled(thing)
        sizes = np.array([part.nbytes for part in parts], np.int64)
        pieces = [sizes.view(np.uint8).data, *parts]
        self._num_parts = len(parts)
        self._inline = b""
        self._descriptor: int | None = None
        if sum(_aligned(piece.nbytes) for piece in pieces) <= _SMALL:
            self._inline = b"".join(map(_padded, pieces))
            return
        self._descriptor = _memory()
        weakref.finalize(self, os.close, self._descriptor).atexit = False
        with open(self._descriptor, "wb", closefd=False) as file:
            for piece in pieces:
                file.write(piece)
                file.write(bytes(-piece.nbytes % _ALIGNED))

    def send(self, connection: socket.socket) -> None:
        """Sends it, once or several times.

        In one piece, so that a process that is stopped leaves no half of it,
        for which another one would wait.
        """
        header = _HEADER.pack(len(self._inline), self._num_parts)
        if self._descriptor is None:
            connection.sendall(header + self._inline)
        else:
            socket.send_fds(connection, [header], [self._descriptor])


def receive(connection: socket.socket) -> Any:
    """The object of a parcel that was sent; EOFError if the sender is dead."""
    header, descriptors, *_ = socket.recv_fds(connection, _HEADER.size, 1)
    header += _exactly(connection, _HEADER.size - len(header))
    num_bytes, num_parts = _HEADER.unpack(header)
    memory: Any = _exactly(connection, num_bytes)
    for descriptor in descriptors:
        try:
            memory = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
    memory = memoryview(memory)
    parts, start = [], _aligned(8 * num_parts)
    for size in np.frombuffer(memory, np.int64, num_parts).tolist():
        parts.append(memory[start : start + size])
        start += _aligned(size)
    return unpickled(parts)


def _exactly(connection: socket.socket, num_bytes: int) -> bytes:
    found = b""
    while len(found) < num_bytes:
        more = connection.recv(num_bytes - len(found))
        if not more:
            raise EOFError("the other process is dead")
        found += more
    return found


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // _ALIGNED) * _ALIGNED


def _padded(piece: memoryview) -> bytes:
    return bytes(piece).ljust(_aligned(piece.nbytes), b"\0")


def pickled(thing: Any) -> list[memoryview]:
    """An object as bytes, and after them those of its large arrays."""
    large: list[memoryview] = []

    def keeps(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes >= 2**12:
            large.append(view)
        return view.nbytes < 2**12

    head = io.BytesIO()
    _Pickler(head, protocol=5, buffer_callback=keeps).dump(thing)
    return [head.getbuffer(), *large]


def unpickled(parts: Sequence[Any]) -> Any:
    """The object of `pickled`, whose large arrays are where they are."""
    return pickle.loads(parts[0], buffers=parts[1:])


def _memory() -> int:
    """A file that has no name, in memory if possible."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("fedlearn")
    with tempfile.TemporaryFile(prefix="fedlearn-") as file:
        return os.dup(file.fileno())


class _Pickler(cloudpickle.Pickler):
    def reducer_override(self, thing: Any) -> Any:
        if type(thing) is ClientProgram:
            return _program, (
                thing.model.model,
                thing.trainer.config,
                thing.aggregator,
                thing.trainer.algorithm,
                thing.model.no_examples,
            )
        if isinstance(thing, Configurable):
            return functools.partial(type(thing), **thing.get_config()), ()
        if isinstance(thing, keras.Model):
            return _reduced_model(thing)
        if isinstance(thing, keras.optimizers.Optimizer):
            own = {
                keras.saving.get_registered_name(type(part)): type(part)
                for part in vars(thing).values()
                if isinstance(
                    part, keras.optimizers.schedules.LearningRateSchedule
                )
            }
            return _optimizer, (type(thing), thing.get_config(), own)
        if isinstance(thing, keras.Variable):
            value = np.array(keras.ops.convert_to_numpy(thing.value))
            return _variable, (value, thing.dtype, thing.trainable)
        if isinstance(thing, (keras.metrics.Metric, keras.Layer)):
            return object.__reduce_ex__(thing, 2)
        return super().reducer_override(thing)


def _program(
    model: keras.Model,
    client: Any,
    aggregator: Any,
    algorithm: Any,
    no_examples: Any,
) -> ClientProgram:
    # By its name, as processes are built on executors.
    process = importlib.import_module("fedlearn.process").LearningProcess(
        model, client, aggregator=aggregator, algorithm=algorithm
    )
    process.build(
        keras.tree.map_structure(
            lambda a: types.SimpleNamespace(shape=a.shape[1:], dtype=a.dtype),
            no_examples,
        )
    )
    return process.program


def _reduced_model(model: keras.Model) -> tuple[Callable, tuple]:
    """As Keras's file has it, with the user's own classes and functions.

    What it is compiled with goes by itself: Keras's form of losses and metrics
    leaves arguments out.
    """
    own: dict[str, Any] = {}
    functions: dict[types.FunctionType, str] = {}
    layers = keras_internals.layers(model)
    for layer in layers:
        for part in (layer, *vars(layer).values()):
            if isinstance(part, types.FunctionType):
                functions.setdefault(part, part.__name__)
            elif not _is_of_keras(type(part)):
                own[keras.saving.get_registered_name(type(part))] = type(part)
    try:
        # Keras finds functions by their names, and those of lambdas not at
        # all: for a moment each has one of its own.
        for number, function in enumerate(functions):
            if not _is_of_keras(function):
                function.__name__ = f"function_{number}"
                own[function.__name__] = function
        with model_copy.uncompiled(model), _accepted_arguments(layers):
            make, (file,) = model.__reduce__()
    finally:
        for function, name in functions.items():
            function.__name__ = name
    parts = (*layers, *model.variables)
    frozen = [not part.trainable for part in parts]
    arguments = keras_internals.compile_arguments(model)
    saved = np.frombuffer(file.getbuffer(), np.uint8)
    return _model, (make, saved, own, frozen, arguments)


@contextlib.contextmanager
def _accepted_arguments(layers: Sequence[keras.Layer]) -> Iterator[None]:
    """Has layers without a `get_config` of their own saved so that they load.

    Keras saves more than an `__init__` without `**kwargs` takes.
    """
    changed = []
    try:
        for layer in layers:
            cls = type(layer)
            if _is_of_keras(cls) or not _is_of_keras(cls.get_config):
                continue
            taken = inspect.signature(cls.__init__).parameters
            if any(p.kind is p.VAR_KEYWORD for p in taken.values()):
                continue
            config = dict(layer.get_config())
            for name in {"name", "trainable", "dtype"} - taken.keys():
                config.pop(name, None)
            vars(layer)["get_config"] = functools.partial(dict, config)
            changed.append(layer)
        yield
    finally:
        for layer in changed:
            del vars(layer)["get_config"]


def _is_of_keras(code: Any) -> bool:
    return code.__module__.split(".")[0] in ("keras", "builtins")


def _model(
    make: Callable[[io.BytesIO], keras.Model],
    saved: np.ndarray,
    own: Mapping[str, Any],
    frozen: list[bool],
    arguments: Mapping[str, Any],
) -> keras.Model:
    with (
        keras.saving.custom_object_scope(own),
        warnings.catch_warnings(),  # of what is built by the first clients
    ):
        warnings.simplefilter("ignore")
        try:
            model = make(io.BytesIO(saved.tobytes()))
        except Exception as error:
            raise ValueError(
                f"Keras can't make the model again. {error}\nGive its class a "
                "`get_config` that returns the arguments of its `__init__`."
            ) from error
    parts = (*keras_internals.layers(model), *model.variables)
    for part, is_frozen in zip(parts, frozen, strict=True):
        part.trainable = not is_frozen
    model.compile(**arguments)
    return model


def _optimizer(
    cls: type[keras.optimizers.Optimizer],
    config: dict[str, Any],
    own: Mapping[str, Any],
) -> keras.optimizers.Optimizer:
    with keras.saving.custom_object_scope(own):
        return cls.from_config(config)


def _variable(value: np.ndarray, dtype: str, trainable: bool) -> keras.Variable:
    return keras.Variable(value, dtype=dtype, trainable=trainable)
