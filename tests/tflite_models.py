"""Builds small .tflite models for tests, and runs them on TensorFlow Lite's reference kernels.

`Flatbuffer` writes tensors and operators as they are given. `Net` sits on top of it: a chain of
layers with random constants and output scales that keep the values in range. Shapes are TFLite's,
with the batch of 1; arrays that go in and come out have a leading axis N instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
import tflite

from zeroskip.converters.frontends.tflite_reader import OPTIONS

Array = npt.NDArray[Any]

TYPES = {
    "float32": tflite.TensorType.FLOAT32,
    "float16": tflite.TensorType.FLOAT16,
    "int32": tflite.TensorType.INT32,
    "int64": tflite.TensorType.INT64,
    "uint8": tflite.TensorType.UINT8,
    "int8": tflite.TensorType.INT8,
}
RANGES = {"int8": (-128, 127), "uint8": (0, 255)}
ACTIVATIONS = {"none": 0, "relu": 1, "relu_n1_to_1": 2, "relu6": 3}
PADDINGS = {"same": 0, "valid": 1}


@dataclass(frozen=True)
class SparseLevel:
    """One dimension of a sparse tensor: dense of `size`, or compressed."""

    size: int
    segments: list[int] | None = None
    indices: list[int] | None = None


@dataclass(frozen=True)
class SparseTensor:
    values: Array
    order: tuple[int, ...]
    blocks: tuple[int, ...]
    levels: tuple[SparseLevel, ...]


@dataclass
class TensorSpec:
    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: Sequence[float] = ()
    zero_points: Sequence[int] = ()
    axis: int = 0
    data: Array | None = None
    sparse: SparseTensor | None = None


class Flatbuffer:
    """Tensors and operators, written as a model by `build`."""

    def __init__(self) -> None:
        self.tensors: list[TensorSpec] = []
        self.operators: list[tuple[str, list[int], list[int], dict[str, Any] | None]] = []

    def tensor(self, spec: TensorSpec) -> int:
        self.tensors.append(spec)
        return len(self.tensors) - 1

    def operator(
        self, kind: str, inputs: list[int], outputs: list[int], options: dict[str, Any] | None
    ) -> None:
        self.operators.append((kind, inputs, outputs, options))

    def build(self, inputs: list[int], outputs: list[int]) -> bytes:
        b = flatbuffers.Builder(1024)
        kinds = sorted({kind for kind, *_ in self.operators})
        buffers = [self._buffer(b, b"")]
        tensors = []
        for spec in self.tensors:
            data = spec.sparse.values if spec.sparse is not None else spec.data
            if data is None:
                tensors.append(self._tensor(b, spec, 0))
            else:
                buffers.append(self._buffer(b, np.ascontiguousarray(data).tobytes()))
                tensors.append(self._tensor(b, spec, len(buffers) - 1))
        operators = [self._operator(b, kinds.index(op[0]), *op) for op in self.operators]
        codes = []
        for kind in kinds:
            code = getattr(tflite.BuiltinOperator, kind)
            tflite.OperatorCodeStart(b)
            tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(code, 127))
            tflite.OperatorCodeAddBuiltinCode(b, code)
            tflite.OperatorCodeAddVersion(b, 1)
            codes.append(tflite.OperatorCodeEnd(b))
        parts = [_offsets(b, tensors), b.CreateNumpyVector(np.array(inputs, np.int32))]
        parts += [b.CreateNumpyVector(np.array(outputs, np.int32)), _offsets(b, operators)]
        tflite.SubGraphStart(b)
        tflite.SubGraphAddTensors(b, parts[0])
        tflite.SubGraphAddInputs(b, parts[1])
        tflite.SubGraphAddOutputs(b, parts[2])
        tflite.SubGraphAddOperators(b, parts[3])
        subgraphs = _offsets(b, [tflite.SubGraphEnd(b)])
        code_vector, buffer_vector = _offsets(b, codes), _offsets(b, buffers)
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, 3)
        tflite.ModelAddOperatorCodes(b, code_vector)
        tflite.ModelAddSubgraphs(b, subgraphs)
        tflite.ModelAddBuffers(b, buffer_vector)
        b.Finish(tflite.ModelEnd(b), b"TFL3")
        return bytes(b.Output())

    @staticmethod
    def _buffer(b: Any, data: bytes) -> int:
        vector = b.CreateNumpyVector(np.frombuffer(data, np.uint8)) if data else None
        tflite.BufferStart(b)
        if vector is not None:
            tflite.BufferAddData(b, vector)
        return int(tflite.BufferEnd(b))

    def _tensor(self, b: Any, spec: TensorSpec, buffer: int) -> int:
        name = b.CreateString(spec.name)
        shape = b.CreateNumpyVector(np.array(spec.shape, np.int32))
        quantization = sparsity = None
        if len(spec.scales):
            scales = b.CreateNumpyVector(np.array(spec.scales, np.float32))
            zero_points = b.CreateNumpyVector(np.array(spec.zero_points, np.int64))
            tflite.QuantizationParametersStart(b)
            tflite.QuantizationParametersAddScale(b, scales)
            tflite.QuantizationParametersAddZeroPoint(b, zero_points)
            tflite.QuantizationParametersAddQuantizedDimension(b, spec.axis)
            quantization = tflite.QuantizationParametersEnd(b)
        if spec.sparse is not None:
            sparsity = self._sparsity(b, spec.sparse)
        tflite.TensorStart(b)
        tflite.TensorAddName(b, name)
        tflite.TensorAddShape(b, shape)
        tflite.TensorAddType(b, TYPES[spec.dtype])
        tflite.TensorAddBuffer(b, buffer)
        if quantization is not None:
            tflite.TensorAddQuantization(b, quantization)
        if sparsity is not None:
            tflite.TensorAddSparsity(b, sparsity)
        return int(tflite.TensorEnd(b))

    def _sparsity(self, b: Any, sparse: SparseTensor) -> int:
        levels = []
        for n, level in enumerate(sparse.levels):
            vectors = []
            if level.segments is not None and level.indices is not None:
                # All three index widths occur.
                vectors = [_index_vector(b, v, n) for v in (level.segments, level.indices)]
            tflite.DimensionMetadataStart(b)
            tflite.DimensionMetadataAddDenseSize(b, level.size)
            if vectors:
                tflite.DimensionMetadataAddFormat(b, tflite.DimensionType.SPARSE_CSR)
                tflite.DimensionMetadataAddArraySegmentsType(b, vectors[0][0])
                tflite.DimensionMetadataAddArraySegments(b, vectors[0][1])
                tflite.DimensionMetadataAddArrayIndicesType(b, vectors[1][0])
                tflite.DimensionMetadataAddArrayIndices(b, vectors[1][1])
            levels.append(tflite.DimensionMetadataEnd(b))
        metadata = _offsets(b, levels)
        order = b.CreateNumpyVector(np.array(sparse.order, np.int32))
        blocks = b.CreateNumpyVector(np.array(sparse.blocks, np.int32))
        tflite.SparsityParametersStart(b)
        tflite.SparsityParametersAddTraversalOrder(b, order)
        if sparse.blocks:
            tflite.SparsityParametersAddBlockMap(b, blocks)
        tflite.SparsityParametersAddDimMetadata(b, metadata)
        return int(tflite.SparsityParametersEnd(b))

    @staticmethod
    def _operator(
        b: Any, code: int, kind: str, inputs: list[int], outputs: list[int],
        options: dict[str, Any] | None,
    ) -> int:  # fmt: skip
        ins = b.CreateNumpyVector(np.array(inputs, np.int32))
        outs = b.CreateNumpyVector(np.array(outputs, np.int32))
        known = OPTIONS.get(kind)
        table = None
        if known is not None and options is not None:
            name = known[0]
            getattr(tflite, f"{name}Start")(b)
            for key, value in options.items():
                getattr(tflite, f"{name}Add{key}")(b, value)
            table = getattr(tflite, f"{name}End")(b)
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, code)
        tflite.OperatorAddInputs(b, ins)
        tflite.OperatorAddOutputs(b, outs)
        if known is not None and table is not None:
            tflite.OperatorAddBuiltinOptionsType(b, getattr(tflite.BuiltinOptions, known[0]))
            tflite.OperatorAddBuiltinOptions(b, table)
        return int(tflite.OperatorEnd(b))


def _offsets(b: Any, offsets: list[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())


def _index_vector(b: Any, values: list[int], n: int) -> tuple[int, int]:
    """(union type, offset) of an index vector; the width varies with n where values allow."""
    widths = [("Int32Vector", np.int32), ("Uint16Vector", np.uint16), ("Uint8Vector", np.uint8)]
    name, dtype = widths[n % 3]
    if max(values, default=0) > np.iinfo(dtype).max:
        name, dtype = widths[0]
    vector = b.CreateNumpyVector(np.array(values, dtype))
    getattr(tflite, f"{name}Start")(b)
    getattr(tflite, f"{name}AddValues")(b, vector)
    return getattr(tflite.SparseIndexVector, name), int(getattr(tflite, f"{name}End")(b))


def sparse_tensor(
    dense: Array, compressed: Sequence[int], order: Sequence[int] | None = None,
    blocks: dict[int, int] | None = None,
) -> SparseTensor:  # fmt: skip
    """Encode a dense array as TFLite does: the dimensions in `order`, then the block dimensions.

    `compressed` names the dimensions that are stored as CSR, `blocks` gives block sizes.
    """
    blocks = blocks or {}
    rank = dense.ndim
    outer = [d // blocks.get(i, 1) for i, d in enumerate(dense.shape)]
    split: list[int] = []
    for i, d in enumerate(outer):
        split += [d, blocks.get(i, 1)]
    # (outer 0, block 0, outer 1, block 1, ...) -> outer in order, then the blocks there are.
    axes = [2 * i for i in (order or range(rank))] + [2 * i + 1 for i in blocks]
    axes += [2 * i + 1 for i in range(rank) if i not in blocks]
    tree = dense.reshape(split).transpose(axes)
    tree = tree.reshape(tree.shape[: rank + len(blocks)])
    nodes = [tree]
    levels = []
    for level, dimension in enumerate([*(order or range(rank)), *[-1] * len(blocks)]):
        if dimension not in compressed:
            levels.append(SparseLevel(tree.shape[level]))
            nodes = [child for node in nodes for child in node]
            continue
        segments, indices, children = [0], [], []
        for node in nodes:
            for i, child in enumerate(node):
                if np.any(child != 0):
                    indices.append(i)
                    children.append(child)
            segments.append(len(indices))
        levels.append(SparseLevel(0, segments, indices))
        nodes = children
    values = np.array([node for node in nodes], dense.dtype)
    traversal = (*(order or range(rank)), *range(rank, rank + len(blocks)))
    return SparseTensor(values, tuple(traversal), tuple(blocks), tuple(levels))


@dataclass
class Net:
    """Layers with random constants. `dtype` is that of all activations."""

    dtype: str
    seed: int
    file: Flatbuffer = field(default_factory=Flatbuffer)
    inputs: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    # --- tensors ---------------------------------------------------------------------------

    def shape(self, x: int) -> tuple[int, ...]:
        return self.file.tensors[x].shape

    def scale(self, x: int) -> float:
        return float(self.file.tensors[x].scales[0])

    def activation(
        self, shape: Sequence[int], scale: float = 0.0, zero_point: int | None = None,
        dtype: str | None = None,
    ) -> int:  # fmt: skip
        dtype = dtype or self.dtype
        name = f"t{len(self.file.tensors)}"
        spec = TensorSpec(name, tuple(int(d) for d in shape), dtype)
        if dtype != "float32":
            low, high = RANGES[dtype]
            spec.scales = (float(np.float32(scale or 10 ** self.rng.uniform(-2.5, -0.5))),)
            chosen = int(self.rng.integers(low, high + 1)) if zero_point is None else zero_point
            spec.zero_points = (chosen,)
        return self.file.tensor(spec)

    def like(self, x: int, shape: Sequence[int] | None = None) -> int:
        """An activation with the quantization of x."""
        spec = self.file.tensors[x]
        wanted = spec.shape if shape is None else shape
        if spec.dtype == "float32":
            return self.activation(wanted, dtype="float32")
        return self.activation(wanted, spec.scales[0], spec.zero_points[0], spec.dtype)

    def input(self, shape: Sequence[int], **quantization: Any) -> int:
        self.inputs.append(self.activation(shape, **quantization))
        return self.inputs[-1]

    def constant(self, data: Array, **quantization: Any) -> int:
        name = f"c{len(self.file.tensors)}"
        return self.file.tensor(
            TensorSpec(name, data.shape, str(data.dtype), data=data, **quantization)
        )

    def integers(self, values: Any) -> int:
        return self.constant(np.array(values, np.int32))

    def operand(self, shape: Sequence[int]) -> int:
        """A constant that may stand where an activation does."""
        if self.dtype == "float32":
            return self.constant(self.rng.normal(size=shape).astype(np.float32))
        low, high = RANGES[self.dtype]
        data = self.rng.integers(low, high + 1, shape).astype(self.dtype)
        return self.constant(
            data, scales=(float(np.float32(self.rng.uniform(0.01, 0.1))),),
            zero_points=(int(self.rng.integers(low, high + 1)),),
        )  # fmt: skip

    def op(
        self, kind: str, inputs: Sequence[int], output: int, options: dict[str, Any] | None = None
    ) -> int:
        self.file.operator(kind, list(inputs), [output], options)
        return output

    def build(self, *outputs: int) -> bytes:
        return self.file.build(self.inputs, list(outputs))

    # --- layers with weights ---------------------------------------------------------------

    def weights(
        self, shape: Sequence[int], axis: int, sparsity: float, per_channel: bool,
        sparse: dict[str, Any] | None = None,
    ) -> int:  # fmt: skip
        """A weight tensor with the given share of zeros; `sparse` (arguments of sparse_tensor)
        stores it as a sparse tensor behind DENSIFY."""
        rng = self.rng
        keep = rng.random(shape) >= sparsity
        if self.dtype == "float32":
            data = (rng.normal(size=shape) * keep).astype(np.float32)
            quantization: dict[str, Any] = {}
        else:
            channels = shape[axis] if per_channel else 1
            scales = rng.uniform(0.002, 0.02, channels).astype(np.float32)
            low, high = (0, 256) if self.dtype == "uint8" else (-127, 128)
            zero = int(rng.integers(low, high)) if self.dtype == "uint8" else 0
            drawn = rng.integers(low, high, shape)
            data = np.where(keep, drawn, zero).astype(self.dtype)
            quantization = {
                "scales": [float(s) for s in scales], "zero_points": [zero] * channels,
                "axis": axis,
            }  # fmt: skip
        if sparse is None:
            return self.constant(data, **quantization)
        encoded = sparse_tensor(data, **sparse)
        name = f"s{len(self.file.tensors)}"
        stored = self.file.tensor(
            TensorSpec(name, data.shape, str(data.dtype), sparse=encoded, **quantization)
        )
        densified = self.file.tensor(
            TensorSpec(f"{name}d", data.shape, str(data.dtype), **quantization)
        )
        return self.op("DENSIFY", [stored], densified, None)

    def bias(self, x: int, weight: int, count: int) -> int:
        if self.dtype == "float32":
            return self.constant(self.rng.normal(size=count).astype(np.float32))
        scales = [float(np.float32(self.scale(x)) * np.float32(s))
                  for s in self.file.tensors[weight].scales]  # fmt: skip
        data = self.rng.integers(-20000, 20001, count).astype(np.int32)
        return self.constant(data, scales=scales, zero_points=[0] * len(scales))

    def sum_output(self, x: int, weight: int, taps: int, shape: Sequence[int]) -> int:
        """An output whose scale fits sums over `taps` products."""
        if self.dtype == "float32":
            return self.activation(shape)
        spread = math.sqrt(taps) * 70 * 70 / 50 * float(self.rng.uniform(0.2, 2))
        return self.activation(shape, self.scale(x) * self.file.tensors[weight].scales[0] * spread)

    def conv(
        self, x: int, filters: int, kernel: tuple[int, int], *, stride: tuple[int, int] = (1, 1),
        dilation: tuple[int, int] = (1, 1), padding: str = "same", activation: str = "none",
        groups: int = 1, multiplier: int = 0, sparsity: float = 0.0, per_channel: bool = True,
        bias: bool = True, sparse: dict[str, Any] | None = None,
    ) -> int:  # fmt: skip
        """CONV_2D, or DEPTHWISE_CONV_2D with channel `multiplier` (then `filters` is ignored)."""
        _, height, width, channels = self.shape(x)
        per_channel = per_channel and self.dtype == "int8"
        if multiplier:
            filters = channels * multiplier
            shape, axis, taps = (1, *kernel, filters), 3, kernel[0] * kernel[1]
        else:
            per_group = channels // groups
            shape, axis = (filters, *kernel, per_group), 0
            taps = kernel[0] * kernel[1] * per_group
        weight = self.weights(shape, axis, sparsity, per_channel, sparse)
        size = [
            output_size(n, k, s, d, padding)
            for n, k, s, d in zip((height, width), kernel, stride, dilation, strict=True)
        ]
        output = self.sum_output(x, weight, taps, (1, *size, filters))
        inputs = [x, weight] + ([self.bias(x, weight, filters)] if bias else [])
        options = {
            "Padding": PADDINGS[padding], "StrideH": stride[0], "StrideW": stride[1],
            "DilationHFactor": dilation[0], "DilationWFactor": dilation[1],
            "FusedActivationFunction": ACTIVATIONS[activation],
        }  # fmt: skip
        if multiplier:
            options["DepthMultiplier"] = multiplier
        return self.op("DEPTHWISE_CONV_2D" if multiplier else "CONV_2D", inputs, output, options)

    def dense(
        self, x: int, units: int, *, width: int = 0, activation: str = "none",
        sparsity: float = 0.0, bias: bool = True, keep_dims: bool = False,
        sparse: dict[str, Any] | None = None,
    ) -> int:  # fmt: skip
        """FULLY_CONNECTED over rows of `width` (by default all elements are one row)."""
        size = math.prod(self.shape(x))
        width = width or size
        weight = self.weights((units, width), 0, sparsity, False, sparse)
        shape = (*self.shape(x)[:-1], units) if keep_dims else (size // width, units)
        output = self.sum_output(x, weight, width, shape)
        inputs = [x, weight] + ([self.bias(x, weight, units)] if bias else [])
        options = {"FusedActivationFunction": ACTIVATIONS[activation], "KeepNumDims": keep_dims}
        return self.op("FULLY_CONNECTED", inputs, output, options)

    # --- layers without weights ------------------------------------------------------------

    def binary(self, kind: str, x: int, y: int, activation: str = "none") -> int:
        shape = np.broadcast_shapes(self.shape(x), self.shape(y))
        scale = 0.0
        if self.dtype != "float32":
            factor = float(self.rng.uniform(0.5, 2))
            scale = factor * max(self.scale(x), self.scale(y))
            if kind == "MUL":
                scale = self.scale(x) * self.scale(y) * 64 * factor
        return self.op(
            kind, [x, y], self.activation(shape, scale),
            {"FusedActivationFunction": ACTIVATIONS[activation]},
        )  # fmt: skip

    def pool(
        self, kind: str, x: int, kernel: tuple[int, int], stride: tuple[int, int],
        padding: str = "valid", activation: str = "none",
    ) -> int:  # fmt: skip
        _, height, width, channels = self.shape(x)
        size = [
            output_size(n, k, s, 1, padding)
            for n, k, s in zip((height, width), kernel, stride, strict=True)
        ]
        options = {
            "Padding": PADDINGS[padding], "StrideH": stride[0], "StrideW": stride[1],
            "FilterHeight": kernel[0], "FilterWidth": kernel[1],
            "FusedActivationFunction": ACTIVATIONS[activation],
        }  # fmt: skip
        return self.op(f"{kind}_POOL_2D", [x], self.like(x, (1, *size, channels)), options)

    def mean(self, x: int, axes: Sequence[int], keep_dims: bool, same_scale: bool) -> int:
        shape = self.shape(x)
        reduced = {a % len(shape) for a in axes}
        kept = [
            1 if i in reduced else d for i, d in enumerate(shape) if keep_dims or i not in reduced
        ]
        output = self.like(x, kept) if same_scale else self.activation(kept)
        if not same_scale and self.dtype != "float32":
            scale = self.scale(x) * float(self.rng.uniform(0.3, 1.5))
            self.file.tensors[output].scales = (float(np.float32(scale)),)
        return self.op("MEAN", [x, self.integers(list(axes))], output, {"KeepDims": keep_dims})

    def pad(self, x: int, pairs: Sequence[tuple[int, int]], value: bool = False) -> int:
        shape = [d + a + b for d, (a, b) in zip(self.shape(x), pairs, strict=True)]
        inputs = [x, self.integers([list(p) for p in pairs])]
        if not value:
            return self.op("PAD", inputs, self.like(x, shape))
        spec = self.file.tensors[x]
        fill = np.array([self.rng.integers(0, 100)]).astype(spec.dtype)
        inputs.append(self.constant(fill, scales=spec.scales, zero_points=spec.zero_points))
        return self.op("PADV2", inputs, self.like(x, shape))

    def reshape(self, x: int, shape: Sequence[int]) -> int:
        return self.op("RESHAPE", [x, self.integers(list(shape))], self.like(x, shape))

    def flatten(self, x: int) -> int:
        return self.reshape(x, (1, math.prod(self.shape(x))))

    def transpose(self, x: int, perm: Sequence[int]) -> int:
        shape = [self.shape(x)[i] for i in perm]
        return self.op("TRANSPOSE", [x, self.integers(list(perm))], self.like(x, shape))

    def concat(self, parts: Sequence[int], axis: int, output: int | None = None) -> int:
        shape = list(self.shape(parts[0]))
        shape[axis] = sum(self.shape(p)[axis] for p in parts)
        if output is None:
            output = self.like(parts[0], shape)
        return self.op("CONCATENATION", parts, output, {"Axis": axis, "FusedActivationFunction": 0})

    def softmax(self, x: int, beta: float = 1.0) -> int:
        lowest = RANGES.get(self.dtype, (0, 0))[0]
        output = self.activation(self.shape(x), 1 / 256, lowest)
        return self.op("SOFTMAX", [x], output, {"Beta": beta})

    def unary(self, kind: str, x: int, alpha: float = 0.1) -> int:
        lowest = RANGES.get(self.dtype, (0, 0))[0]
        if kind == "LOGISTIC":
            output = self.activation(self.shape(x), 1 / 256, lowest)
        elif kind == "TANH":
            output = self.activation(self.shape(x), 1 / 128, lowest + 128)
        else:
            scale = (
                self.scale(x) * float(self.rng.uniform(0.5, 2)) if self.dtype != "float32" else 0
            )
            output = self.activation(self.shape(x), scale)
        options = {"Alpha": alpha} if kind == "LEAKY_RELU" else None
        return self.op(kind, [x], output, options)

    def quantize(self, x: int, dtype: str) -> int:
        """QUANTIZE to `dtype`, or DEQUANTIZE where that is float32."""
        output = self.activation(self.shape(x), dtype=dtype)
        return self.op("DEQUANTIZE" if dtype == "float32" else "QUANTIZE", [x], output)


def output_size(size: int, kernel: int, stride: int, dilation: int, padding: str) -> int:
    if padding == "same":
        return -(-size // stride)
    return (size - (kernel - 1) * dilation - 1) // stride + 1


# --- running ----------------------------------------------------------------------------------


def random_inputs(model: bytes, count: int, seed: int) -> list[Array]:
    """`count` random samples of each input, (count, *shape without the batch of 1)."""
    rng = np.random.default_rng(seed)
    arrays = []
    for detail in _interpreter(model).get_input_details():
        shape = (count, *_without_batch(detail["shape"]))
        if detail["dtype"] == np.float32:
            arrays.append(rng.normal(size=shape).astype(np.float32))
        else:
            low, high = RANGES[np.dtype(detail["dtype"]).name]
            arrays.append(rng.integers(low, high + 1, shape).astype(detail["dtype"]))
    return arrays


def reference_outputs(model: bytes, inputs: Sequence[Array]) -> list[Array]:
    """What TensorFlow Lite's reference kernels give, one sample at a time, (N, ...) each.

    Raises RuntimeError or ValueError where TFLite refuses the model.
    """
    interpreter = _interpreter(model)
    interpreter.allocate_tensors()
    results: list[list[Array]] = [[] for _ in interpreter.get_output_details()]
    for sample in range(len(inputs[0])):
        for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
            interpreter.set_tensor(detail["index"], array[sample].reshape(detail["shape"]))
        interpreter.invoke()
        for found, detail in zip(results, interpreter.get_output_details(), strict=True):
            found.append(interpreter.get_tensor(detail["index"]))
    return [np.stack(found).reshape(len(found), *_without_batch(found[0].shape))
            for found in results]  # fmt: skip


def _without_batch(shape: Sequence[int]) -> tuple[int, ...]:
    dims = tuple(int(d) for d in shape) or (1,)
    return dims[1:] if len(dims) > 1 and dims[0] == 1 else dims


def _interpreter(model: bytes) -> Any:
    try:
        from tflite_runtime import interpreter as runtime
    except ImportError:
        from ai_edge_litert import interpreter as runtime
    return runtime.Interpreter(
        model_content=model, num_threads=1,
        experimental_op_resolver_type=runtime.OpResolverType.BUILTIN_REF,
    )  # fmt: skip
