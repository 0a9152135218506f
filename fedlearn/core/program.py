"""What a computation is once it is written down: a list of operators."""

from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from fedlearn.core.local_computation import LocalComputation
from fedlearn.core.types import (
    CLIENTS,
    FederatedType,
    TensorType,
    Type,
    tensors,
)


class Op(NamedTuple):
    """One operator.

    Attributes:
        kind: Its name, as users write it.
        functions: The local computations that it takes.
        inputs: The numbers of the tensors that it takes.
        constants: Arrays that it takes.
        type: Of what it gives.
        first: The number of the first tensor that it gives.
        source: The user's file and line.
    """

    kind: str
    functions: tuple[LocalComputation, ...]
    inputs: tuple[int, ...]
    constants: tuple[Any, ...]
    type: FederatedType
    first: int
    source: str

    @property
    def outputs(self) -> range:
        return range(self.first, self.first + len(tensors(self.type)))

    @property
    def at_clients(self) -> bool:
        return self.type.placement == CLIENTS


class Program(NamedTuple):
    """Operators on numbered tensors; structures are in the types alone.

    Tensors are numbered from 0: those of the parameters first, then what the
    operators give, in order.
    """

    name: str
    parameters: dict[str, FederatedType]
    ops: tuple[Op, ...]
    results: tuple[int, ...]
    type: Type

    def tensors(self) -> list[TensorType]:
        """The type of each."""
        types = [*self.parameters.values(), *(op.type for op in self.ops)]
        return [tensor for t in types for tensor in tensors(t)]

    def parameter_tensors(self, each: bool) -> list[int]:
        """Those that each client has for itself, or the others."""
        flags = [
            t.placement == CLIENTS and not t.all_equal
            for t in self.parameters.values()
            for _ in tensors(t)
        ]
        return [i for i, flag in enumerate(flags) if flag == each]

    def __str__(self) -> str:
        owners: list[tuple[str, range]] = []  # by tensor: of what, all of that

        def add(name: str, t: Type) -> None:
            whole = range(len(owners), len(owners) + len(tensors(t)))
            owners.extend([(name, whole)] * len(whole))

        def text(numbers: tuple[int, ...]) -> str:
            def run(pair: tuple[int, int]) -> Any:
                return owners[pair[1]], pair[1] - pair[0]  # one after another

            parts = []
            for ((name, whole), _), pairs in groupby(enumerate(numbers), run):
                found = [n - whole.start for _, n in pairs]
                part = f"[{found[0]}:{found[-1] + 1}]"
                parts.append(name + part * (len(found) < len(whole)))
            return parts[0] if len(parts) == 1 else f"<{', '.join(parts)}>"

        for name, t in self.parameters.items():
            add(name, t)
        takes = ", ".join(f"{n}: {t}" for n, t in self.parameters.items())
        lines = [f"{self.name}({takes}) -> {self.type}"]
        for number, op in enumerate(self.ops, 1):
            given = [f.__name__ for f in op.functions]
            given += [text(op.inputs)] if op.inputs else []
            given += [
                str(c) if np.ndim(c) == 0 else "..." for c in op.constants
            ]
            call = f"  %{number} = {op.kind}({', '.join(given)})"
            lines.append(f"{call:<60} # {op.type}")
            add(f"%{number}", op.type)
        return "\n".join([*lines, f"  return {text(self.results)}"])
