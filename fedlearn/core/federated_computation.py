"""Computations of clients and server together."""

import functools
import inspect
import os
import pathlib
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fedlearn.core import federated_language, picture
from fedlearn.core.aggregates import AGGREGATES
from fedlearn.core.arguments import Arguments, Block, arguments
from fedlearn.core.executor import NUM_BLOCKS, Stage, chosen
from fedlearn.core.federated_type_error import FederatedTypeError
from fedlearn.core.local_computation import check_dtypes, form, to_numpy
from fedlearn.core.map_sum import (
    MapSum,
    NotOneRound,
    asks_again,
    lane_types,
    stages,
)
from fedlearn.core.program import Program
from fedlearn.core.program_bytes import decode, encode
from fedlearn.core.structure import pack
from fedlearn.core.types import (
    CLIENTS,
    FederatedType,
    FunctionType,
    sized,
    to_type,
    zipped,
)
from fedlearn.core.value import Trace, Value, as_value, emit, tracing
from fedlearn.executors.executor import Executor, Run
from fedlearn.runs import atomic_file


class FederatedComputation:
    """A program of clients and server: see `federated_computation`.

    Called, it runs in this process and gives what the server has in the end,
    as NumPy arrays: dicts of elements with names, tuples of others. What each
    client has is given as a list with one value a client; as arrays stacked
    over clients, in a dict or tuple if there are several; or as a
    `FederatedDataset`. Inside of another computation it becomes a part of
    that. `print` shows its operators.

    Attributes:
        type: A `FunctionType`.
        program: Its operators.
    """

    def __init__(self, program: Program):
        self.program = program
        self.__name__ = program.name
        parameter: Any = program.parameters or None
        if len(program.parameters) == 1:
            (parameter,) = program.parameters.values()
        self.type = FunctionType(parameter, program.type)
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        names = [inspect.Parameter(n, kind) for n in program.parameters]
        self.__signature__ = inspect.Signature(names)
        self._shows_clients = f"@{CLIENTS}" in str(program.type)
        self._placed: dict[int, tuple[Any, list[Run]]] = {}  # by executor

    def __repr__(self) -> str:
        return f"<federated computation {self.__name__}: {self.type}>"

    def __str__(self) -> str:
        return str(self.program)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        values = self._bound(args, kwargs)
        if tracing.get():
            return self._inlined(values)
        self.check_result()
        results = self._run(values)
        return pack(map(to_numpy, results), self.program.type)

    def check_result(self) -> None:
        """Refuses to show what single clients have."""
        if self._shows_clients:
            raise TypeError(
                f"{self.__name__} gives {self.program.type}, and what single "
                "clients have can't be looked at. Aggregate it, by "
                "federated_mean(...) for one; or call it inside of another "
                "computation."
            )

    def arguments(self, *args: Any, **kwargs: Any) -> Arguments:
        """Checked arguments, for the functions of `fl.core.compile`."""
        known, clients = arguments(self.program, self._bound(args, kwargs))
        return Arguments(known, clients.read())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes it to a file, which `fl.core.load` reads without its source.

        Raises:
            ValueError: If a function does more than compute: touches files,
                calls Python, or draws from a generator; or, on JAX, if it
                uses LAPACK (`solve`, `cholesky`, `qr`, `svd`, ...), whose
                kernels believe what a file says of shapes.
        """
        atomic_file.write(path, encode(self.program))

    def draw(self, ax: Any = None) -> Any:
        """Draws its operators: the server's above, the clients' below.

        What is sent to clients, and what is added up of them, is between the
        two, in blue and orange. From left to right is the order in time.

        Args:
            ax: Axes to draw on, about 2.3 inches wide for each operator that
                waits for another; None for new ones of the size it needs.

        Returns:
            The axes.
        """
        return picture.draw(self.program, ax)

    def to_federated_language(self) -> bytes:
        """It as bytes of federated-language's schema, `computation.proto`.

        Dimensions lose their names, and values at clients that are equal may
        be said to differ. Each `federated_seeds` is one parameter more, of
        clients; so that library's type may have more of them than `type`.
        Functions are TensorFlow graphs there, or, if they take sequences and
        on JAX, data that `fedlearn` alone runs.

        Raises:
            ValueError: If it has what the schema has no words for
                (`federated_collect`, a `modulus_bits`, a dtype), or a
                function does more than compute.
        """
        return federated_language.encode(self.program)

    @functools.cached_property
    def stages(self) -> list[MapSum]:
        """It as rounds, one after another."""
        return stages(self.program)

    @functools.cached_property
    def _whole(self) -> Callable:
        """All of it as one function, for clients in one block."""
        types = self.program.tensors()
        known = [types[i] for i in self.program.parameter_tensors(each=False)]

        def run(*arrays):
            given, clients = arrays[: len(known)], arrays[len(known) : -1]
            for stage in self.stages:
                results = stage.whole(given, clients, arrays[-1])
                given = (*given, *results)
            return results

        return form.jit(run, [*known, *lane_types(self.program)])

    def _run(self, values: Mapping[str, Any]) -> Any:
        executor = chosen.get()
        if executor and self.program.parameter_tensors(each=True):
            return self._run_by(executor, values)
        known, clients = arguments(self.program, values)
        blocks = clients.read()
        if len(blocks) < 2:
            none = Block((), np.zeros(0, np.int32))
            block = blocks[0] if blocks else none
            return self._whole(*known, *block.clients, block.index)
        for stage in self.stages:
            sent = stage.prepare(known)
            parts = (stage.client(sent, *block) for block in blocks)
            results = stage.finish(known, functools.reduce(stage.merge, parts))
            known = (*known, *results)
        return results

    def _run_by(self, executor: Executor, values: Mapping[str, Any]) -> Any:
        clients: Any
        known, clients = arguments(self.program, values, NUM_BLOCKS)
        try:
            runs = self._runs(executor)
            for stage, run in zip(self.stages, runs, strict=True):
                sent = stage.prepare(known)
                total = run(sent, clients, range(len(clients.blocks))).summand
                results = stage.finish(known, total)
                known = (*known, *results)
        except Exception as error:
            error.add_note(f"It was raised in {self.__name__}, on {executor}.")
            raise
        return results

    def _runs(self, executor: Executor) -> list[Run]:
        """Its stages where an executor runs them."""
        key, placed = id(executor), self._placed
        if key not in placed:
            data = encode(self.program, ours=True)
            runs = [
                executor.place(Stage(data, number, stage))
                for number, stage in enumerate(self.stages)
            ]
            alive = weakref.ref(executor, lambda _: placed.pop(key, None))
            placed[key] = alive, runs
        return placed[key][1]

    def _bound(self, args: Any, kwargs: Any) -> dict[str, Any]:
        """Arguments by the names of their parameters."""
        try:
            return self.__signature__.bind(*args, **kwargs).arguments
        except TypeError as error:
            takes = (f"{n}: {t}" for n, t in self.program.parameters.items())
            raise TypeError(
                f"{self.__name__} takes ({', '.join(takes)}): {error}."
            ) from None

    def _inlined(self, values: Mapping[str, Any]) -> Value:
        """Its operators as a part of the computation that is written down."""
        numbers: list[int] = []
        sizes: dict[str, Any] = {}
        for name, expected in self.program.parameters.items():
            what = f"`{name}` of {self.__name__}"
            value = as_value(values[name], what)
            received = zipped(value.type) or value.type
            difference = expected.difference(received, sizes)
            if difference:
                raise FederatedTypeError(f"{what} doesn't fit{difference}")
            numbers += value.numbers
        for op in self.program.ops:
            inputs = Value(op.type, tuple(numbers[i] for i in op.inputs))
            more = {"functions": op.functions, "constants": op.constants}
            t = sized(op.type, sizes)
            numbers += emit(op.kind, t, inputs, **more).numbers
        results = tuple(numbers[i] for i in self.program.results)
        return Value(sized(self.program.type, sizes), results)


def federated_computation(
    *types: Any,
) -> Callable[[Callable], FederatedComputation]:
    """Decorator: what clients and server compute together.

    The function is called once, now, with values of which only the types are
    known, and writes down the operators of `fl.core` that it calls.

    Args:
        *types: One for each parameter: a `FederatedType`, its text, or a
            `FederatedDataset`, which stands for its type.

    Raises:
        FederatedTypeError: If what it does has no type, with the line.

    >>> from fedlearn import core
    >>> @federated_computation(core.FederatedType("float32", core.CLIENTS))
    ... def average_temperature(readings):
    ...     return core.federated_mean(readings)
    >>> average_temperature.type
    ({float32}@CLIENTS -> float32@SERVER)
    >>> float(average_temperature([20.0, 21.0, 25.0]))
    22.0
    """
    given: list[Any] = [to_type(t) for t in types]
    for t in given:
        if not isinstance(t, FederatedType):
            raise FederatedTypeError(
                f"A parameter is at CLIENTS or SERVER: FederatedType({t}, "
                f"SERVER). Received: {t}."
            )
        check_dtypes(t)

    def decorate(fn: Callable) -> FederatedComputation:
        names = list(inspect.signature(fn).parameters)
        where = f"{fn.__code__.co_filename}:{fn.__code__.co_firstlineno}"
        if len(names) != len(given):
            raise TypeError(
                f"`{fn.__name__}` has the parameters {names}, and {len(given)} "
                f"types are given.\n  at {where}"
            )
        trace = Trace()
        values = map(trace.new, given)
        token = tracing.set(trace)
        try:
            out = fn(*values)
            if out is None:
                raise TypeError(f"`{fn.__name__}` returns None.\n  at {where}")
            result = as_value(out, f"What `{fn.__name__}` returns")
        finally:
            tracing.reset(token)
        program = Program(
            fn.__name__,
            dict(zip(names, given, strict=True)),
            tuple(trace.ops),
            result.numbers,
            result.type,
        )
        adds = [op for op in trace.ops if op.kind in AGGREGATES]
        if adds and not program.parameter_tensors(each=True):
            raise TypeError(
                f"Nothing says how many clients {adds[0].kind} is of: "
                f"`{fn.__name__}` has no parameter that differs between them."
                f"\n  at {where}"
            )
        return FederatedComputation(program)

    return decorate


def load(path: str | os.PathLike[str]) -> FederatedComputation:
    """A computation of a file that `save` wrote, which may be a stranger's.

    Raises:
        FormatError: If it is none, is damaged, was written on another
            backend, or if a function does more than compute.
    """
    data = pathlib.Path(path).read_bytes()
    return FederatedComputation(decode(data, os.fspath(path)))


def compile(computation: FederatedComputation) -> MapSum:
    """A computation of one round as prepare, client work, merge and finish.

    What is needed to run it anywhere: see `MapSum`.

    Raises:
        NotOneRound: If clients would have to be asked twice.

    >>> import functools
    >>> from fedlearn import core
    >>> @federated_computation(core.FederatedType("float32", core.CLIENTS))
    ... def total(readings):
    ...     return core.federated_sum(readings)
    >>> form = compile(total)
    >>> known, blocks = total.arguments([1.0, 2.0, 3.0])
    >>> sent = form.prepare(known)
    >>> parts = [form.client(sent, *block) for block in blocks]
    >>> (result,) = form.finish(known, functools.reduce(form.merge, parts))
    >>> float(result)
    6.0
    """
    computation.check_result()
    op = asks_again(computation.program)
    if op is not None:
        raise NotOneRound(
            f"{computation.__name__} is more than one round: {op.kind} at "
            f"{op.source} sends clients what was made of an aggregate, so they "
            "would be asked twice. Call it, which does so, or make two "
            "computations of it."
        )
    return computation.stages[0]
