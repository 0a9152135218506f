"""One participant's code, in a form that isn't Python any more."""

import collections
import functools
import inspect
import types
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import backend
from fedlearn.core.federated_type_error import FederatedTypeError
from fedlearn.core.structure import children, flatten, mapped, pack
from fedlearn.core.types import (
    FunctionType,
    StructType,
    TensorType,
    Type,
    tensors,
    to_type,
)

if backend.name == "jax":
    from fedlearn.core import stablehlo as form
else:
    from fedlearn.core import graph_def as form  # type: ignore[no-redef]


# Whether the function of a local computation is being written down.
_inside: ContextVar[bool] = ContextVar("inside", default=False)


class LocalComputation:
    """A computation of one participant: see `local_computation`.

    Called with arrays it gives NumPy arrays; inside of another's function it
    becomes a part of that.

    Attributes:
        type: A `FunctionType`.
        artifacts: What runs it, as bytes: by a 1 for each argument that
            there is many of, one a client, and a 0 for the others; "" is once.
    """

    def __init__(
        self,
        name: str,
        type_: FunctionType,
        artifacts: dict[str, bytes],
        fn: Callable | None = None,
    ):
        self.__name__, self.type, self.artifacts = name, type_, artifacts
        self._fn = fn
        self._loaded: dict[str, Callable] = {}

    def __repr__(self) -> str:
        return f"<local computation {self.__name__}: {self.type}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        parameter: Any = self.type.parameter
        value: Any = args[0] if len(args) == 1 else args
        if kwargs:
            names = parameter.names[: len(args)]
            value = {**dict(zip(names, args, strict=True)), **kwargs}
        leaves: Any = ()
        if parameter is not None:
            array = _tensor if _inside.get() else None
            leaves = flatten(value, parameter, self.__name__, (), array)
        if _inside.get():
            results = (self._fn or functools.partial(self.run, ()))(*leaves)
            return pack(
                iter(results), self.type.result, collections.OrderedDict
            )
        return pack(map(to_numpy, self.run((), *leaves)), self.type.result)

    def run(self, many: Sequence[bool], *leaves: Any) -> Sequence[Any]:
        """Runs it on flat arrays, along the first axis of some of them."""
        key = lane_key(many)
        if key not in self._loaded:
            if self._fn is None and key not in self.artifacts:
                one = functools.partial(self.run, ())
                return _along(many, ops.map, one)(*leaves)
            # Also if it was just made: what runs is what is saved.
            data = self.artifact(key)
            self._loaded[key] = form.load(data, self._types(key))
        return self._loaded[key](*leaves)

    def _types(self, key: str) -> list[TensorType]:
        """What an artifact takes."""
        types = tensors(self.type.parameter)
        for i, flag in enumerate(key):
            if flag == "1":
                shape = "_lanes", *types[i].shape
                types[i] = TensorType(types[i].dtype, shape)
        return types

    def artifact(self, key: str) -> bytes:
        """One of `artifacts`, made if need be."""
        if key not in self.artifacts:
            many = [flag == "1" for flag in key]
            types = self._types(key)
            try:
                fn = _along(many, _side_by_side, self._fn)
                self.artifacts[key] = form.export(fn, types)
            except Exception:
                # JAX knows no convolutions of an unknown number of lanes,
                # TensorFlow no lanes of recurrent layers' gradients.
                if not key:
                    raise
                fn = _along(many, ops.map, self._fn)
                self.artifacts[key] = form.export(fn, types)
        return self.artifacts[key]


def _tensor(value: Any, t: TensorType, at: str, shape: Any) -> Any:
    """A tensor of another's function, checked as far as it is known."""
    tensor = ops.convert_to_tensor(value)
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    fits = dtype == t.dtype.name and len(shape) == len(tensor.shape)
    for wanted, length in zip(shape, tensor.shape, strict=False):
        known = isinstance(wanted, int) and isinstance(length, int)
        fits = fits and (not known or wanted == length)
    if not fits:
        found = f"{dtype}{list(tensor.shape)}"
        raise FederatedTypeError(
            f"{at} must be {TensorType(t.dtype, shape)}. Received: {found}."
        )
    return tensor


def _along(many: Sequence[bool], over: Callable, fn: Any) -> Callable:
    """A function along the first axis of some arrays, and with the others."""

    def run(*leaves):
        def one(rows):
            given = iter(rows)
            pairs = zip(many, leaves, strict=True)
            return tuple(fn(*(next(given) if m else x for m, x in pairs)))

        return over(one, [x for m, x in zip(many, leaves, strict=True) if m])

    return run if many else fn


def _side_by_side(fn: Callable, rows: Any) -> Any:
    return backend.vmap(fn)(rows)


def lane_key(many: Sequence[bool]) -> str:
    """Under which `artifacts` has what runs along these arguments."""
    return "".join("01"[flag] for flag in many) if any(many) else ""


def to_numpy(x: Any) -> Any:
    """An array, or a number of NumPy."""
    # NumPy takes no scalars of bfloat16 from TensorFlow.
    return np.asarray(x.numpy() if hasattr(x, "numpy") else x)[()]


def local_computation(*types: Any) -> Callable[[Callable], LocalComputation]:
    """Decorator: what a single participant computes.

    The function is called once, with tensors of the given types, and becomes
    StableHLO (on JAX) or a graph (on TensorFlow). It may be written with
    `keras.ops`, a Keras model's `stateless_call`, or the backend's functions.
    Structures come as tuples, or as ordered dicts if they have names.

    Args:
        *types: One for each parameter, or what `to_type` makes a type of.

    Raises:
        FederatedTypeError: If it uses variables or tensors from outside,
            which would be frozen into it.

    >>> from keras import ops
    >>> @local_computation("float32", "float32")
    ... def exceeds(reading, threshold):
    ...     return ops.cast(reading > threshold, "float32")
    >>> exceeds.type
    (<reading=float32,threshold=float32> -> float32)
    >>> float(exceeds(21.0, 20.0))
    1.0
    """
    given = [to_type(t) for t in types]

    def decorate(fn: Callable) -> LocalComputation:
        names = list(inspect.signature(fn).parameters)
        if len(names) != len(given):
            raise FederatedTypeError(
                f"`{_name(fn)}` has the parameters {names}, and {len(given)} "
                "types are given."
            )
        if len(given) == 1:
            return trace(fn, given[0], spread=False)
        struct = StructType(dict(zip(names, given, strict=True)))
        return trace(fn, struct if given else None, spread=True)

    return decorate


def trace(
    fn: Callable, parameter: Type | None, spread: bool
) -> LocalComputation:
    """A function as a local computation; `spread` over its parameters."""
    name, fn = _name(fn), _as_now(fn)
    check_dtypes(parameter)
    result: Any = None

    def flat(*leaves: Any) -> tuple[Any, ...]:
        nonlocal result
        given = parameter or StructType([])
        # Ordered, since JAX sorts the keys of a dict.
        value = pack(iter(leaves), given, collections.OrderedDict)
        token = _inside.set(True)
        try:
            with _NoVariables(name):
                result = fn(*(children(value) if spread else [value]))
        finally:
            _inside.reset(token)
        if result is None:
            raise FederatedTypeError(f"`{name}` returns None.")
        found: list[Any] = []

        def convert(x: Any) -> Any:
            if isinstance(x, (str, bytes)):
                raise FederatedTypeError(
                    f"`{name}` returns {x!r}, and tensors are of numbers."
                )
            found.append(ops.convert_to_tensor(x))
            return found[-1]

        result = mapped(convert, result)
        return tuple(found)

    captured, shapes = form.trace(flat, tensors(parameter))
    if captured:
        raise FederatedTypeError(
            f"`{name}` uses {captured} tensors from outside, which would be "
            "frozen into it. Make them arguments; constants can be of NumPy."
        )
    of_shape = iter(shapes)

    def type_(x: Any) -> TensorType:
        dtype = keras.backend.standardize_dtype(x.dtype)
        return TensorType(dtype, next(of_shape))

    result = to_type(mapped(type_, result))
    return LocalComputation(name, FunctionType(parameter, result), {}, flat)


def _as_now(fn: Callable) -> Callable:
    """A function whose names go on to stand for what they do now.

    It is called again when its artifacts are made, after a loop around it has
    gone on, say.
    """
    if not isinstance(fn, types.FunctionType):
        return fn
    cells = []
    for cell in fn.__closure__ or ():
        try:
            cells.append(types.CellType(cell.cell_contents))
        except ValueError:  # empty, yet
            cells.append(cell)
    now = types.FunctionType(
        fn.__code__,
        dict(fn.__globals__),
        fn.__name__,
        fn.__defaults__,
        tuple(cells),
    )
    now.__kwdefaults__ = fn.__kwdefaults__
    return now


def check_dtypes(t: Type | None) -> None:
    """Refuses a type that the backend would silently make another of."""
    for tensor in tensors(t):
        if form.canonical_dtype(tensor.dtype) != tensor.dtype:
            raise FederatedTypeError(
                f"{tensor} is of 64 bits, and JAX computes with 32. Use "
                "another dtype, or jax.config.update('jax_enable_x64', True)."
            )


class _NoVariables(keras.StatelessScope):
    """Where reading a variable is an error."""

    def __init__(self, name: str):
        super().__init__()
        self._name = name

    def get_current_value(self, variable: Any) -> Any:
        raise FederatedTypeError(
            f"`{self._name}` uses the variable {variable.path}, whose value "
            "would be frozen into it. Make weights an argument, and call "
            "model.stateless_call(weights, non_trainable_weights, x)."
        )


def _name(fn: Callable) -> str:
    return getattr(fn, "__name__", type(fn).__name__)
