"""The intermediate representation: what front ends produce and everything else reads.

A `Graph` is a list of `Op`s in execution order over named `Tensor`s. All values are frozen
and validated on construction, so that a graph that exists is well-formed.

Conventions, which every front end establishes and every consumer relies on:

* **No batch axis.** Shapes leave the batch of 1 out. Executors (reference.py) put their own
  leading axis N in front.
* **Channel-major.** Spatial activations are (C, H, W); one-dimensional ones are (C, 1, L).
  A front end whose source is channel-last inserts `Transpose` ops; graph inputs and outputs
  keep the source's layout. Convolution weights are (O, C/groups, KH, KW), fully connected
  weights (O, I).
* **Integer tensors** follow TFLite's int8 scheme: real = scale * (q - zero_point). Weights
  are int8 with one scale (per tensor) or O scales (per channel, axis 0) and one zero point
  (0 but for models that were uint8). Biases are int32 with scale input * weight and zero
  point 0. uint8 exists only at graph inputs and outputs, behind `Quantize`.
* **Rank** is 1 to 4; every dimension is 1 to 65,535.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from zeroskip.errors import ModelError

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

MAX_RANK: Final = 4
MAX_DIM: Final = 65535
MULTIPLIER_BITS: Final = 31
DTYPES: Final = ("int8", "uint8", "int32", "float32")


@dataclass(frozen=True)
class Quantization:
    """real = scale * (q - zero_point); one scale, or one per index of axis 0.

    Scales are kept as the float32 values of the source model (exactly representable).
    `was_uint8` marks int8 activations of a uint8 model (q and zero point less 128): lowering
    then follows TFLite's uint8 kernels where those round differently. `multiplier_bits`, of
    weights whose scales were chosen for it, is the number of significant bits that the
    multipliers of their layer are rounded to; the default is all that there are.
    """

    scale: tuple[float, ...]
    zero_point: int
    was_uint8: bool = False
    multiplier_bits: int = MULTIPLIER_BITS

    def __post_init__(self) -> None:
        if not self.scale or not all(math.isfinite(s) and s > 0 for s in self.scale):
            raise ModelError(f"scales must be finite and positive, got {self.scale[:4]}")
        if any(float(np.float32(s)) != s for s in self.scale):
            raise ModelError("scales must be float32 values")
        if not 1 <= self.multiplier_bits <= MULTIPLIER_BITS:
            raise ModelError(f"multipliers have 1 to {MULTIPLIER_BITS} bits")

    @property
    def per_channel(self) -> bool:
        return len(self.scale) > 1

    def of_rows(self, rows: slice | Array) -> Quantization:
        """That of some indices of axis 0: a slice, or a bool array (O,)."""
        if not self.per_channel:
            return self
        return replace(self, scale=tuple(np.array(self.scale)[rows].tolist()))


@dataclass(frozen=True)
class Tensor:
    """An activation (data is None) or a constant (data holds it, of `shape` and `dtype`).

    `active` is the share of an activation's elements that are not its zero point, if measured.
    """

    name: str
    shape: Shape
    dtype: str
    quantization: Quantization | None = None
    data: Array | None = field(default=None, compare=False, repr=False)
    active: float | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        where = f"tensor '{self.name}'"
        if self.dtype not in DTYPES:
            raise ModelError(f"{where}: dtype {self.dtype} is not one of {', '.join(DTYPES)}")
        if not 1 <= len(self.shape) <= MAX_RANK:
            raise ModelError(f"{where}: shape {self.shape} must have 1 to {MAX_RANK} dimensions")
        if any(not 1 <= d <= MAX_DIM for d in self.shape):
            raise ModelError(f"{where}: dimensions of {self.shape} must be 1 to {MAX_DIM}")
        q = self.quantization
        if q is not None:
            if self.dtype == "float32":
                raise ModelError(f"{where}: float32 tensors carry no quantization")
            if q.per_channel and len(q.scale) != self.shape[0]:
                raise ModelError(f"{where}: {len(q.scale)} scales for {self.shape[0]} channels")
            low, high = {"int8": (-128, 127), "uint8": (0, 255), "int32": (0, 0)}[self.dtype]
            if not low <= q.zero_point <= high:
                raise ModelError(f"{where}: zero point {q.zero_point} outside {low}..{high}")
        elif self.dtype in ("int8", "uint8"):
            raise ModelError(f"{where}: {self.dtype} tensors need a quantization")
        if self.data is not None:
            if self.data.shape != self.shape or self.data.dtype != np.dtype(self.dtype):
                raise ModelError(
                    f"{where}: data is {self.data.dtype}{self.data.shape}, "
                    f"declared {self.dtype}{self.shape}"
                )
            self.data.flags.writeable = False

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * np.dtype(self.dtype).itemsize

    @property
    def scale(self) -> float:
        """The scale of a per-tensor quantized tensor."""
        assert self.quantization is not None and not self.quantization.per_channel, self.name
        return self.quantization.scale[0]

    @property
    def zero_point(self) -> int:
        """The zero point; 0 for float32."""
        return self.quantization.zero_point if self.quantization is not None else 0


@dataclass(frozen=True)
class Clamp:
    """A fused activation: real values are limited to [low, high]."""

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ModelError(f"activation range [{self.low}, {self.high}] is empty")


NO_CLAMP: Final = Clamp()
RELU: Final = Clamp(0.0)
RELU6: Final = Clamp(0.0, 6.0)
RELU_N1_TO_1: Final = Clamp(-1.0, 1.0)


class BinaryKind(Enum):
    ADD = "add"
    SUB = "sub"
    MUL = "mul"


class PoolKind(Enum):
    AVERAGE = "average"
    MAX = "max"


class UnaryKind(Enum):
    CLAMP = "clamp"  # relu, relu6, hardtanh: limits in Unary.clamp
    LEAKY_RELU = "leaky_relu"
    SIGMOID = "sigmoid"
    TANH = "tanh"
    HARDSWISH = "hardswish"


# Attributes, one class per operator. Pairs are (vertical, horizontal).
# Inputs of each operator are given as: input names -> one output.


@dataclass(frozen=True)
class Conv2D:
    """input (C, H, W), weight (O, C/groups, KH, KW)[, bias (O,)] -> (O, OH, OW).

    `padding` is (top, bottom, left, right); padded elements are real zeros.
    Depthwise is groups = C.
    """

    name: ClassVar[str] = "conv2d"
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    clamp: Clamp = NO_CLAMP


@dataclass(frozen=True)
class FullyConnected:
    """input (..., I), weight (O, I)[, bias (O,)] -> (..., O); leading axes are rows."""

    name: ClassVar[str] = "fully_connected"
    clamp: Clamp = NO_CLAMP


@dataclass(frozen=True)
class Binary:
    """two inputs of one dtype, broadcast like numpy -> their sum, difference or product.

    Either may be a constant.
    """

    name: ClassVar[str] = "binary"
    kind: BinaryKind
    clamp: Clamp = NO_CLAMP


@dataclass(frozen=True)
class Pool2D:
    """input (C, H, W) -> (C, OH, OW).

    Average divides by the number of elements inside the input; with `count_include_pad`
    (PyTorch's default, needs padding top = bottom, left = right) by those inside the padded
    input. With `adaptive` window i covers [floor(i*H/OH), ceil((i+1)*H/OH)), and kernel,
    stride and padding are ignored.
    """

    name: ClassVar[str] = "pool2d"
    kind: PoolKind
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    count_include_pad: bool = False
    adaptive: bool = False
    clamp: Clamp = NO_CLAMP


@dataclass(frozen=True)
class Mean:
    """input -> mean over `axes` (non-negative, ascending). The output's shape may keep or
    drop the reduced axes: only its element count is checked."""

    name: ClassVar[str] = "mean"
    axes: tuple[int, ...]


@dataclass(frozen=True)
class Pad:
    """input -> input with (before, after) elements of real `value` per axis.

    For int8 the value is the zero point plus value / scale, rounded half away and clamped.
    """

    name: ClassVar[str] = "pad"
    padding: tuple[tuple[int, int], ...]
    value: float = 0.0


@dataclass(frozen=True)
class Reshape:
    """input -> the same elements in the same order with the output's shape."""

    name: ClassVar[str] = "reshape"


@dataclass(frozen=True)
class Slice:
    """input -> its elements from `begin` on, per axis as many as the output has."""

    name: ClassVar[str] = "slice"
    begin: tuple[int, ...]


@dataclass(frozen=True)
class Transpose:
    """input -> numpy.transpose(input, perm)."""

    name: ClassVar[str] = "transpose"
    perm: tuple[int, ...]


@dataclass(frozen=True)
class Concat:
    """one or more inputs of one dtype and one quantization -> joined along `axis`."""

    name: ClassVar[str] = "concat"
    axis: int


@dataclass(frozen=True)
class Softmax:
    """input -> softmax(beta * input) along `axis`. int8 output has scale 1/256, zero -128."""

    name: ClassVar[str] = "softmax"
    axis: int
    beta: float = 1.0


@dataclass(frozen=True)
class Unary:
    """input -> element-wise function. int8 becomes a 256-entry table when lowered."""

    name: ClassVar[str] = "unary"
    kind: UnaryKind
    clamp: Clamp = NO_CLAMP
    alpha: float = 0.0


@dataclass(frozen=True)
class Quantize:
    """input -> the output's dtype and quantization: float32 -> int8 | uint8,
    int8 | uint8 -> float32, int8 -> int8 (requantize), uint8 <-> int8 (same scale).

    `via_float32` (int8 -> int8 only) rounds as the rescaling inside TFLite's uint8
    CONCATENATION does; when lowered it is one more table.
    """

    name: ClassVar[str] = "quantize"
    via_float32: bool = False


Attributes = (
    Conv2D
    | FullyConnected
    | Binary
    | Pool2D
    | Mean
    | Pad
    | Reshape
    | Slice
    | Transpose
    | Concat
    | Softmax
    | Unary
    | Quantize
)


@dataclass(frozen=True)
class Op:
    """One step. `name` is where it comes from in the source model, for messages and reports."""

    name: str
    attributes: Attributes
    inputs: tuple[str, ...]
    output: str

    @property
    def kind(self) -> str:
        return self.attributes.name


@dataclass(frozen=True)
class Graph:
    """Ops in execution order. Each tensor is an input, a constant, or one op's output."""

    name: str
    tensors: Mapping[str, Tensor]
    ops: tuple[Op, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.inputs or not self.outputs:
            raise ModelError(f"graph '{self.name}' needs at least one input and one output")
        known = set(self.inputs)
        for name, tensor in self.tensors.items():
            if name != tensor.name:
                raise ModelError(f"tensor '{tensor.name}' is filed under '{name}'")
            if tensor.data is not None:
                known.add(name)
        for op in self.ops:
            for name in op.inputs:
                if name not in self.tensors or name not in known:
                    raise ModelError(f"op '{op.name}' reads '{name}' before it is written")
            if op.output not in self.tensors or op.output in known:
                raise ModelError(f"op '{op.name}' must write a new tensor, not '{op.output}'")
            known.add(op.output)
        for name in (*self.inputs, *self.outputs):
            if name not in known:
                raise ModelError(f"graph '{self.name}': nothing computes '{name}'")
        for op in self.ops:
            _check_op(self, op)

    def input_tensors(self, op: Op) -> tuple[Tensor, ...]:
        return tuple(self.tensors[name] for name in op.inputs)

    def output_tensor(self, op: Op) -> Tensor:
        return self.tensors[op.output]

    def producer(self, name: str) -> Op | None:
        """The op that computes a tensor; None for inputs and constants."""
        return next((op for op in self.ops if op.output == name), None)

    def consumers(self, name: str) -> Iterator[Op]:
        return (op for op in self.ops if name in op.inputs)

    def fresh(self, name: str) -> str:
        """`name`, or if a tensor has it already one like it."""
        while name in self.tensors:
            name += "_"
        return name

    def with_ops(self, ops: Iterable[Op], tensors: Iterable[Tensor] = ()) -> Graph:
        """The same graph with other ops, `tensors` added, and tensors no longer used dropped."""
        kept = tuple(ops)
        merged = {**self.tensors, **{t.name: t for t in tensors}}
        used = {*self.inputs, *self.outputs}
        for op in kept:
            used.update(op.inputs, (op.output,))
        return replace(self, ops=kept, tensors={n: t for n, t in merged.items() if n in used})


def conv_output_size(
    size: int, kernel: int, stride: int, dilation: int, before: int, after: int
) -> int:
    """Output length of a convolution or pooling along one axis."""
    return (size + before + after - (kernel - 1) * dilation - 1) // stride + 1


def _check_op(graph: Graph, op: Op) -> None:
    """Raise ModelError unless the op's tensors fit its attributes."""
    inputs = graph.input_tensors(op)
    output = graph.output_tensor(op)
    a = op.attributes

    def require(condition: bool, what: str) -> None:
        if not condition:
            shapes = ", ".join(f"{t.dtype}{list(t.shape)}" for t in inputs)
            raise ModelError(
                f"op '{op.name}' ({op.kind}): {what}; inputs {shapes}, "
                f"output {output.dtype}{list(output.shape)}"
            )

    count = {Conv2D: (2, 3), FullyConnected: (2, 3), Binary: (2, 2), Concat: (1, 255)}
    low, high = count.get(type(a), (1, 1))
    require(low <= len(inputs) <= high, f"takes {low} to {high} inputs")
    x = inputs[0]
    if not isinstance(a, Quantize):
        require(output.dtype == x.dtype, "input and output dtypes must be equal")
        require(x.dtype in ("int8", "float32"), "must be int8 or float32")
    match a:
        case Conv2D():
            weight = inputs[1]
            require(len(x.shape) == 3 and len(output.shape) == 3, "needs (C, H, W) activations")
            require(len(weight.shape) == 4 and weight.data is not None, "needs constant weights")
            require(min(*a.stride, *a.dilation) >= 1 and min(a.padding) >= 0, "bad geometry")
            channels, kh, kw = x.shape[0], *weight.shape[2:]
            require(
                a.groups >= 1
                and channels == weight.shape[1] * a.groups
                and weight.shape[0] % a.groups == 0,
                "channels do not fit the weights and groups",
            )
            require(weight.size // weight.shape[0] <= MAX_DIM, f"filters over {MAX_DIM} elements")
            expected = (
                weight.shape[0],
                conv_output_size(x.shape[1], kh, a.stride[0], a.dilation[0], *a.padding[:2]),
                conv_output_size(x.shape[2], kw, a.stride[1], a.dilation[1], *a.padding[2:]),
            )
            require(output.shape == expected, f"output should be {list(expected)}")
            _check_weights(require, x, weight, inputs[2:])
        case FullyConnected():
            weight = inputs[1]
            require(len(weight.shape) == 2 and weight.data is not None, "needs constant weights")
            require(x.shape[-1] == weight.shape[1], "input width is not the weights' width")
            require(
                output.size == x.size // weight.shape[1] * weight.shape[0],
                "output size is not rows x output channels",
            )
            _check_weights(require, x, weight, inputs[2:])
        case Binary():
            require(inputs[1].dtype == x.dtype, "both inputs must have one dtype")
            try:
                shape = np.broadcast_shapes(x.shape, inputs[1].shape)
            except ValueError:
                shape = ()
            require(shape == output.shape, "shapes do not broadcast to the output")
        case Pool2D():
            require(len(x.shape) == 3 and len(output.shape) == 3, "needs (C, H, W) activations")
            require(x.shape[0] == output.shape[0], "channels differ")
            if not a.adaptive:
                require(min(*a.kernel, *a.stride) >= 1 and min(a.padding) >= 0, "bad geometry")
                top, bottom, left, right = a.padding
                require(
                    max(top, bottom) < a.kernel[0] and max(left, right) < a.kernel[1],
                    "padding must be smaller than the kernel",
                )
                require(
                    not a.count_include_pad or (top == bottom and left == right),
                    "count_include_pad needs symmetric padding",
                )
        case Mean():
            require(
                0 < len(a.axes) == len(set(a.axes)) and all(0 <= i < len(x.shape) for i in a.axes),
                f"bad axes {a.axes}",
            )
            kept = math.prod(d for i, d in enumerate(x.shape) if i not in a.axes)
            require(output.size == kept, "output size is not that of the kept axes")
        case Pad():
            require(
                len(a.padding) == len(x.shape)
                and all(min(p) >= 0 for p in a.padding)
                and output.shape
                == tuple(d + sum(p) for d, p in zip(x.shape, a.padding, strict=True)),
                f"padding {a.padding} does not give the output",
            )
        case Reshape():
            require(output.size == x.size, "element counts differ")
        case Slice():
            require(
                len(a.begin) == len(x.shape) == len(output.shape)
                and all(
                    0 <= begin and begin + size <= whole
                    for begin, size, whole in zip(a.begin, output.shape, x.shape, strict=True)
                ),
                f"slice from {a.begin} does not give the output",
            )
        case Transpose():
            require(
                sorted(a.perm) == list(range(len(x.shape)))
                and output.shape == tuple(x.shape[i] for i in a.perm),
                f"permutation {a.perm} does not give the output",
            )
        case Concat():
            require(all(t.dtype == x.dtype for t in inputs), "dtypes differ")
            require(
                all(t.quantization == output.quantization for t in inputs), "quantizations differ"
            )
            require(0 <= a.axis < len(x.shape), f"bad axis {a.axis}")
            joined = list(x.shape)
            joined[a.axis] = sum(t.shape[a.axis] for t in inputs if len(t.shape) > a.axis)
            require(
                all(
                    len(t.shape) == len(x.shape)
                    and t.shape[: a.axis] + t.shape[a.axis + 1 :]
                    == x.shape[: a.axis] + x.shape[a.axis + 1 :]
                    for t in inputs
                )
                and output.shape == tuple(joined),
                "shapes do not join to the output",
            )
        case Softmax():
            require(0 <= a.axis < len(x.shape) and output.shape == x.shape, f"bad axis {a.axis}")
        case Unary():
            require(output.shape == x.shape, "shapes differ")
        case Quantize():
            require(output.shape == x.shape, "shapes differ")
            pairs = {
                ("float32", "int8"), ("float32", "uint8"), ("int8", "float32"),
                ("uint8", "float32"), ("int8", "int8"), ("uint8", "int8"), ("int8", "uint8"),
            }  # fmt: skip
            require((x.dtype, output.dtype) in pairs, "unsupported conversion")


def _check_weights(require: Any, x: Tensor, weight: Tensor, rest: tuple[Tensor, ...]) -> None:
    require(weight.dtype == x.dtype, "weights and input must have one dtype")
    if rest:
        bias = rest[0]
        require(bias.data is not None and bias.shape == (weight.shape[0],), "bias must be (O,)")
        require(bias.dtype == ("int32" if x.dtype == "int8" else "float32"), "bad bias dtype")
