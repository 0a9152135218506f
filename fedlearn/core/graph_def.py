"""TensorFlow's form of a local computation: a GraphDef."""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fedlearn.core.types import TensorType

NAME = "graph_def"
PADS = False  # a graph takes any number of lanes

# What a graph of a file may be made of. None of it touches files, the
# network, Python, or what a process keeps.
_ALLOWED = frozenset(
    """
    Abs Acos Acosh Add AddN AddV2 All Any ArgMax ArgMin Asin Asinh Assert
    Atan Atan2 Atanh AvgPool AvgPoolGrad BatchMatMulV2 BatchMatMulV3
    BatchToSpaceND BiasAdd BiasAddGrad Bitcast BitwiseAnd BitwiseOr
    BitwiseXor BroadcastGradientArgs BroadcastTo Cast Ceil ClipByValue
    Complex ConcatOffset ConcatV2 Const Conv2D Conv2DBackpropFilter
    Conv2DBackpropInput Cos Cosh Cumprod Cumsum DepthwiseConv2dNative
    DepthwiseConv2dNativeBackpropFilter DepthwiseConv2dNativeBackpropInput
    Digamma Div DivNoNan DynamicPartition DynamicStitch Einsum Elu EluGrad
    EmptyTensorList EnsureShape Equal Erf Erfc Erfinv Exp ExpandDims Expm1
    FFT Fill Floor FloorDiv FloorMod FusedBatchNormGradV3 FusedBatchNormV3
    GatherNd GatherV2 Greater GreaterEqual IFFT Identity IdentityN If Imag
    Invert InvertPermutation IsFinite IsInf IsNan L2Loss LeakyRelu
    LeakyReluGrad LeftShift Less LessEqual Lgamma Log Log1p LogSoftmax
    LogicalAnd LogicalNot LogicalOr MatMul Max MaxPool MaxPoolGrad Maximum
    Mean Min Minimum MirrorPad MirrorPadGrad Mul MulNoNan Neg NoOp NotEqual
    OneHot OnesLike Pack Pad PadV2 PartitionedCall Placeholder
    PlaceholderWithDefault Pow Prod Range Rank Real RealDiv Reciprocal
    ReciprocalGrad Relu Relu6 Relu6Grad ReluGrad Reshape ReverseV2
    RightShift Rint Roll Round Rsqrt RsqrtGrad ScatterNd SegmentSum Select
    SelectV2 Selu SeluGrad Shape ShapeN Sigmoid SigmoidGrad Sign Sin Sinh
    Size Slice Softmax SoftmaxCrossEntropyWithLogits Softplus SoftplusGrad
    Softsign SoftsignGrad SpaceToBatchND SparseSoftmaxCrossEntropyWithLogits
    Split SplitV Sqrt SqrtGrad Square SquaredDifference Squeeze
    StatefulPartitionedCall StatelessIf StatelessRandomGetKeyCounter
    StatelessRandomNormalV2 StatelessRandomUniform
    StatelessRandomUniformFullInt StatelessRandomUniformFullIntV2
    StatelessRandomUniformInt StatelessRandomUniformIntV2
    StatelessRandomUniformV2 StatelessTruncatedNormalV2 StatelessWhile
    StopGradient StridedSlice StridedSliceGrad Sub Sum Tan Tanh TanhGrad
    TensorListElementShape TensorListFromTensor TensorListGetItem
    TensorListLength TensorListPopBack TensorListPushBack TensorListReserve
    TensorListSetItem TensorListStack TensorScatterAdd TensorScatterMax
    TensorScatterMin TensorScatterSub TensorScatterUpdate Tile TopKV2
    Transpose TruncateDiv TruncateMod Unpack UnsortedSegmentMax
    UnsortedSegmentMin UnsortedSegmentSum Where While Xdivy Xlog1py Xlogy
    ZerosLike
    """.split()  # noqa: SIM905
)
_MOST_CONSTANTS = 2**28  # bytes that constants of a file may unfold to


def trace(fn: Callable, types: Sequence[TensorType]) -> tuple[int, Any]:
    """How many arrays a function takes from outside, and what it gives."""
    concrete = _concrete(fn, types)
    return len(concrete.captured_inputs), concrete.structured_outputs


def export(
    fn: Callable, types: Sequence[TensorType], lanes: Sequence[bool]
) -> bytes:
    """A function as bytes; `lanes`, which arguments there are many of."""
    concrete = _concrete(fn, types, lanes)
    names = (
        [x.name for x in concrete.inputs],
        [x.name for x in concrete.outputs],
    )
    head = json.dumps(names).encode()
    graph = concrete.graph.as_graph_def().SerializeToString(deterministic=True)
    return len(head).to_bytes(4, "little") + head + graph


def vmap(fn: Callable, lanes: Sequence[bool]) -> Callable:
    """A function along the first axis of some arguments, all at once."""

    def vectorized(*leaves):
        def one(rows):
            rows = iter(rows)
            pairs = zip(lanes, leaves, strict=True)
            return fn(*(next(rows) if many else x for many, x in pairs))

        pairs = zip(lanes, leaves, strict=True)
        return tf.vectorized_map(one, [x for many, x in pairs if many])

    return vectorized if lanes else fn


def check(data: bytes) -> None:
    """A ValueError if a function does more than compute."""
    _, _, graph = _parts(data)
    functions = graph.library.function
    known = _ALLOWED | {f.signature.name for f in functions}
    unfolded = 0
    for node in (*graph.node, *(n for f in functions for n in f.node_def)):
        if node.op not in known:
            raise ValueError(f"the operation {node.op} isn't allowed in a file")
        if "value" in node.attr:  # asking for one would add it
            sizes = node.attr["value"].tensor.tensor_shape.dim
            unfolded += 16 * math.prod(max(d.size, 0) for d in sizes)
    if unfolded > _MOST_CONSTANTS + 16 * len(data):
        raise ValueError(f"its constants unfold to {unfolded} bytes")


def screen(artifacts: Sequence[bytes]) -> None:
    """Nothing: the reader of protocol buffers refuses what it can't parse."""


def load(data: bytes) -> Callable:
    """The function of some bytes."""
    inputs, outputs, graph = _parts(data)
    nodes = {f"{node.name}:0": node.attr for node in graph.node}
    specs = []
    for name in inputs:
        shape = tf.TensorShape(nodes[name]["shape"].shape)
        specs.append(tf.TensorSpec(shape, nodes[name]["dtype"].type))

    def imported(*leaves):
        given = dict(zip(inputs, leaves, strict=True))
        return tf.graph_util.import_graph_def(graph, given, outputs, name="")

    wrapped = tf.compat.v1.wrap_function(imported, specs)
    return lambda *leaves: wrapped(*map(tf.convert_to_tensor, leaves))


def _parts(data: bytes) -> tuple[list[str], list[str], Any]:
    start = 4 + int.from_bytes(data[:4], "little")
    inputs, outputs = json.loads(data[4:start])
    return inputs, outputs, tf.compat.v1.GraphDef.FromString(data[start:])


def jit(fn: Callable, types: Sequence[TensorType] | None = None) -> Callable:
    """A function compiled; with `types`, once for all lengths."""
    if types is not None:
        return _concrete(fn, types)
    return tf.function(fn, autograph=False, reduce_retracing=True)


def has_dtype(dtype: np.dtype) -> bool:
    """Whether arrays of a dtype are computed with as such."""
    return True


def _concrete(
    fn: Callable, types: Sequence[TensorType], lanes: Sequence[bool] = ()
) -> Any:
    specs = []
    for i, t in enumerate(types):
        sizes = [s if isinstance(s, int) else None for s in t.shape]
        lead = [None] if lanes and lanes[i] else []
        specs.append(tf.TensorSpec([*lead, *sizes], t.dtype))

    def identified(*leaves):  # so that no output is an input
        return keras.tree.map_structure(tf.identity, fn(*leaves))

    function = tf.function(identified, specs, autograph=False)
    return function.get_concrete_function()
