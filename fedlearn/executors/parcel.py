import functools
import importlib
import io
import mmap
import os
import pickle
import tempfile
import types
import weakref
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle
import keras
import numpy as np

from fedlearn.clients.program import ClientProgram
from fedlearn.keras_model import keras_internals, model_copy
from fedlearn.serialization import Configurable

_ALIGNED = 64
# Up to so many bytes go through the connection itself.
_SMALL = 2**16


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
        self._sizes = [part.nbytes for part in parts]
        self._inline: bytes | None = None
        self._file: Any = None
        if sum(self._sizes) <= _SMALL:
            self._inline = b"".join(parts)
            return
        self._file = _memory()
        weakref.finalize(self, self._file.close)
        for part in parts:
            self._file.write(part)
            self._file.write(bytes(-part.nbytes % _ALIGNED))
        self._file.flush()

    def send(self, connection: Connection, process_id: int) -> None:
        """Sends it, once or several times."""
        connection.send((self._sizes, self._inline))
        if self._file is not None:
            reduction.send_handle(connection, self._file.fileno(), process_id)


def receive(connection: Connection) -> Any:
    """The object of a parcel that was sent; EOFError if the sender is dead."""
    sizes, inline = connection.recv()
    if inline is not None:
        memory, step = memoryview(inline), 1
    else:
        descriptor = reduction.recv_handle(connection)
        try:
            mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
        memory, step = memoryview(mapped), _ALIGNED
    parts, start = [], 0
    for size in sizes:
        parts.append(memory[start : start + size])
        start += -(-size // step) * step
    return unpickled(parts)


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


def _memory() -> Any:
    """A file that has no name, in memory if possible."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("fedlearn"), "w+b")
    return tempfile.TemporaryFile(prefix="fedlearn-")


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
    for layer in keras_internals.layers(model):
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
        with model_copy.uncompiled(model):
            make, (file,) = model.__reduce__()
    finally:
        for function, name in functions.items():
            function.__name__ = name
    frozen = [not v.trainable for v in model.variables]
    arguments = keras_internals.compile_arguments(model)
    saved = np.frombuffer(file.getbuffer(), np.uint8)
    return _model, (make, saved, own, frozen, arguments)


def _is_of_keras(code: Any) -> bool:
    return code.__module__.split(".")[0] in ("keras", "builtins")


def _model(
    make: Callable[[io.BytesIO], keras.Model],
    saved: np.ndarray,
    own: Mapping[str, Any],
    frozen: list[bool],
    arguments: Mapping[str, Any],
) -> keras.Model:
    with keras.saving.custom_object_scope(own):
        model = make(io.BytesIO(saved.tobytes()))
    for variable, is_frozen in zip(model.variables, frozen, strict=True):
        variable.trainable = not is_frozen
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
