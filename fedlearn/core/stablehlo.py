"""JAX's form of a local computation: StableHLO, by `jax.export`."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import export as jax_export

from fedlearn.core.types import TensorType, dimension_names

NAME = "stablehlo"
PADS = True  # a new number of lanes is a new compilation
canonical_dtype = jax.dtypes.canonicalize_dtype  # without a device

_PLATFORMS = ("cpu", "cuda", "tpu")
# What a file may call besides StableHLO's own operations.
_CALLS = re.compile(
    r"(stablehlo|mhlo|chlo)\.\w+|Sharding|shape_assertion|ApproxTopK|"
    r"cu_threefry2x32_ffi"
)
# Kernels of JAX's linear algebra. They believe the shapes that they are told:
# with others they read and write memory that isn't theirs.
_KERNELS = re.compile(
    r"(lapack|cusolver|cu)_\w+|Eigh|Qr|LuDecomposition|Cholesky|"
    r"ProductOfElementaryHouseholderReflectors"
)


def trace(
    fn: Callable, types: Sequence[TensorType]
) -> tuple[int, list[list[Any]]]:
    """How many arrays it takes from outside, and shapes of what it gives."""
    closed = jax.make_jaxpr(fn)(*_specs(types))
    names = dimension_names(types)
    shapes = [
        # Others are unknown, or sums and products of names.
        [
            s if isinstance(s, int) else str(s) if str(s) in names else None
            for s in x.shape
        ]
        for x in closed.out_avals
    ]
    return sum(isinstance(c, jax.Array) for c in closed.consts), shapes


def export(fn: Callable, types: Sequence[TensorType]) -> bytes:
    """A function as bytes."""
    exported = jax_export.export(jax.jit(fn), platforms=_PLATFORMS)
    return bytes(exported(*_specs(types)).serialize())


def check(data: bytes, ours: bool = False) -> None:
    """A ValueError if a function does more than compute.

    If it is `ours`, and no file's, it may call kernels.
    """
    text = jax_export.deserialize(bytearray(data)).mlir_module()
    calls = re.findall(r'custom_call\s*@"?([^"(\s]+)', text)
    calls += re.findall(r'call_target_name\s*=\s*"([^"]+)"', text)
    kernels = [name for name in calls if _KERNELS.fullmatch(name)]
    refused = [
        name
        for name in calls
        if name not in kernels and not _CALLS.fullmatch(name)
    ]
    refused += re.findall(r"stablehlo\.(?:infeed|outfeed|send|recv)\b", text)
    if refused or (kernels and not ours):
        name = (refused or kernels)[0]
        raise ValueError(f"the operation {name} isn't allowed in a file")


def screen(artifacts: Sequence[bytes]) -> None:
    """A ValueError if a stranger's bytes can't be parsed.

    By a process of its own: on some forged bytes MLIR's reader crashes.
    """
    program = (
        "import sys, jax.export\nfor n in map(int, sys.argv[1:]):\n"
        " data = bytearray(sys.stdin.buffer.read(n))\n"
        " jax.export.deserialize(data).mlir_module()"
    )
    lengths = [str(len(data)) for data in artifacts]
    done = subprocess.run(
        [sys.executable, "-c", program, *lengths],
        input=b"".join(artifacts),
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        timeout=600,
    )
    if done.returncode:
        raise ValueError("a function can't be parsed")


def load(data: bytes, types: Sequence[TensorType]) -> Callable:
    """The function of some bytes."""
    del types
    return jax_export.deserialize(bytearray(data)).call


def jit(fn: Callable, types: Sequence[TensorType] | None = None) -> Callable:
    """A function compiled, once for each shape of its arguments."""
    del types
    return jax.jit(fn)


def _specs(types: Sequence[TensorType]) -> Any:
    """What to trace with; unknown dimensions are symbols."""
    scope = jax_export.SymbolicScope()
    specs = []
    for i, t in enumerate(types):
        shape: Any = [
            f"unknown_{i}_{axis}" if s is None else s
            for axis, s in enumerate(t.shape)
        ]
        if any(isinstance(s, str) for s in shape):
            text = ",".join(map(str, shape))
            shape = jax_export.symbolic_shape(text, scope=scope)
        specs.append(jax.ShapeDtypeStruct(shape, t.dtype))
    return specs
