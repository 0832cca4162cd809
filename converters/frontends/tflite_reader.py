"""From the bytes of a .tflite file to plain values; the only module that touches the flatbuffer.

The file is untrusted. Everything is read once, into frozen dataclasses, under a budget in
proportion to the file's size: vectors in a flatbuffer may overlap, so that a small file can
claim any amount of data. Whatever else goes wrong while parsing ends in ModelError.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from zeroskip.converters.frontends.tflite_sparse import (
    MAX_DENSE_ELEMENTS,
    Level,
    SparseLayout,
    densify,
)
from zeroskip.converters.ir import Array, Shape
from zeroskip.errors import MissingToolError, ModelError, UnsupportedError

MAX_NAME: Final = 200
MAX_RANK: Final = 8

# TensorType -> numpy's name. Others are read as "type N" and refused where they are used.
DTYPES: Final = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 7: "int16", 9: "int8",
}  # fmt: skip
SPARSE_VECTORS: Final = {1: "Int32Vector", 2: "Uint16Vector", 3: "Uint8Vector"}

# Operator -> (options table, fields). Operators without options are listed with None.
_CONVOLUTION: Final = (
    "Padding", "StrideW", "StrideH", "DilationWFactor", "DilationHFactor",
    "FusedActivationFunction",
)  # fmt: skip
_POOLING: Final = (
    "Padding", "StrideW", "StrideH", "FilterWidth", "FilterHeight", "FusedActivationFunction",
)  # fmt: skip
OPTIONS: Final[dict[str, tuple[str, tuple[str, ...]] | None]] = {
    "ADD": ("AddOptions", ("FusedActivationFunction",)),
    "AVERAGE_POOL_2D": ("Pool2DOptions", _POOLING),
    "CONCATENATION": ("ConcatenationOptions", ("Axis", "FusedActivationFunction")),
    "CONV_2D": ("Conv2DOptions", _CONVOLUTION),
    "DENSIFY": None,
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", _CONVOLUTION),
    "DEQUANTIZE": None,
    "EXPAND_DIMS": None,
    "FULLY_CONNECTED": (
        "FullyConnectedOptions", ("FusedActivationFunction", "WeightsFormat", "KeepNumDims"),
    ),
    "LEAKY_RELU": ("LeakyReluOptions", ("Alpha",)),
    "LOGISTIC": None,
    "MAX_POOL_2D": ("Pool2DOptions", _POOLING),
    "MEAN": ("ReducerOptions", ("KeepDims",)),
    "MUL": ("MulOptions", ("FusedActivationFunction",)),
    "PAD": None,
    "PADV2": None,
    "QUANTIZE": None,
    "RELU": None,
    "RELU6": None,
    "RELU_N1_TO_1": None,
    "RESHAPE": None,
    "SOFTMAX": ("SoftmaxOptions", ("Beta",)),
    "SQUEEZE": None,
    "SUB": ("SubOptions", ("FusedActivationFunction",)),
    "TANH": None,
    "TRANSPOSE": None,
}  # fmt: skip


@dataclass(frozen=True)
class SourceTensor:
    """A tensor as the file has it. `data` (of `dtype` and `shape`) makes it a constant."""

    index: int
    name: str
    shape: Shape
    dtype: str
    scales: Array = field(repr=False)  # float32, empty if not quantized
    zero_points: Array = field(repr=False)  # int64, as many as scales or none
    axis: int
    data: Array | None = field(repr=False)


@dataclass(frozen=True)
class SourceOperator:
    """An operator: its name in TFLite, tensor indices (-1 = left out) and options by field."""

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class SourceModel:
    tensors: tuple[SourceTensor, ...]
    operators: tuple[SourceOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read(data: bytes, name: str) -> SourceModel:
    """Parse the first subgraph. Raises ModelError (UnsupportedError for what may be valid)."""
    if len(data) < 8 or data[4:8] != b"TFL3":
        raise ModelError(f"{name}: not a TFLite model (no TFL3 identifier at byte 4)")
    try:
        with np.errstate(all="ignore"):
            return _Reader(data, name).read()
    except ModelError:
        raise
    except (
        struct.error, IndexError, KeyError, ValueError, TypeError, AttributeError, OverflowError,
    ) as error:  # fmt: skip
        raise ModelError(
            f"{name}: malformed TFLite flatbuffer ({_one_line(str(error))})"
        ) from error


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:MAX_NAME]


class _Reader:
    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name
        self.budget = 4 * len(data) + (1 << 16)
        self.dense_budget = MAX_DENSE_ELEMENTS

    def spend(self, amount: int) -> int:
        """Account for `amount` bytes or records about to be read."""
        self.budget -= amount
        if self.budget < 0:
            raise ModelError(f"{self.name}: the file claims more data than its size allows")
        return amount

    def read(self) -> SourceModel:
        try:
            import tflite
        except ImportError:
            raise MissingToolError(
                "the tflite package is not installed; pip install 'zeroskip[tflite]'"
            ) from None

        model = tflite.Model.GetRootAs(self.data, 0)
        if model.Version() != 3:
            raise UnsupportedError(f"{self.name}: TFLite schema {model.Version()}, supported is 3")
        if model.SubgraphsLength() < 1:
            raise ModelError(f"{self.name}: the model has no subgraph")
        graph = model.Subgraphs(0)
        kinds = list(self.kinds(model))
        tensors = [
            self.tensor(model, graph.Tensors(i), i)
            for i in range(self.spend(graph.TensorsLength()))
        ]
        operators = [
            self.operator(graph.Operators(i), i, kinds, len(tensors))
            for i in range(self.spend(graph.OperatorsLength()))
        ]
        return SourceModel(
            tuple(tensors),
            tuple(operators),
            self.indices(graph.InputsAsNumpy(), len(tensors), 0),
            self.indices(graph.OutputsAsNumpy(), len(tensors), 0),
        )

    def kinds(self, model: Any) -> Iterator[str]:
        import tflite

        names = {v: k for k, v in vars(tflite.BuiltinOperator).items() if isinstance(v, int)}
        for i in range(self.spend(model.OperatorCodesLength())):
            entry = model.OperatorCodes(i)
            # Files before 2020 have only the 8-bit field, newer ones saturate it.
            code = max(entry.BuiltinCode(), entry.DeprecatedBuiltinCode())
            kind = names.get(code, f"operator code {code}")
            if kind == "CUSTOM":
                kind = f"custom operator {self.text(entry.CustomCode())!r}"
            yield kind

    def text(self, raw: bytes | None) -> str:
        self.spend(len(raw or b""))
        return _one_line((raw or b"")[:MAX_NAME].decode("utf-8", "replace"))

    def vector(self, raw: Any) -> Array:
        """A flatbuffers vector as an array; the accessors give 0 for one that is absent."""
        array = np.zeros(0, np.int32) if isinstance(raw, int) else np.asarray(raw)
        self.spend(array.nbytes)
        return array

    def indices(self, raw: Any, count: int, low: int) -> tuple[int, ...]:
        values = self.vector(raw)
        if values.size and not (values.min() >= low and values.max() < count):
            raise ModelError(f"{self.name}: a tensor index is outside 0..{count - 1}")
        return tuple(int(v) for v in values)

    def tensor(self, model: Any, entry: Any, index: int) -> SourceTensor:
        name = self.text(entry.Name()) or f"tensor {index}"
        shape = tuple(int(d) for d in self.vector(entry.ShapeAsNumpy())[: MAX_RANK + 1])
        if len(shape) > MAX_RANK or any(d < 0 for d in shape):
            raise ModelError(f"tensor {index} '{name}': shape {list(shape)} is not valid")
        dtype = DTYPES.get(entry.Type(), f"type {entry.Type()}")
        scales, zero_points, axis = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
        quantization = entry.Quantization()
        if quantization is not None:
            scales = self.vector(quantization.ScaleAsNumpy()).astype(np.float32)
            zero_points = self.vector(quantization.ZeroPointAsNumpy()).astype(np.int64)
            axis = quantization.QuantizedDimension()
        where = f"tensor {index} '{name}'"
        raw = self.buffer(model, entry.Buffer(), where)
        data = None
        if raw.size and dtype in np.sctypeDict:
            sparsity = entry.Sparsity()
            if sparsity is not None:
                data = self.sparse(raw, shape, dtype, sparsity, where)
            else:
                data = self.dense(raw, shape, dtype, where)
        return SourceTensor(index, name, shape, dtype, scales, zero_points, axis, data)

    def buffer(self, model: Any, index: int, where: str) -> Array:
        if not 0 <= index < model.BuffersLength():
            raise ModelError(f"{where}: buffer {index} is outside 0..{model.BuffersLength() - 1}")
        buffer = model.Buffers(index)
        if buffer.Offset() > 1:
            raise UnsupportedError(
                f"{where}: its data lies outside the flatbuffer (models over 2 GB); "
                "supported are models in one flatbuffer"
            )
        return self.vector(buffer.DataAsNumpy()).view(np.uint8)

    def dense(self, raw: Array, shape: Shape, dtype: str, where: str) -> Array:
        expected = int(np.prod([1, *shape], dtype=object)) * np.dtype(dtype).itemsize
        if raw.size != expected:
            raise ModelError(
                f"{where}: {raw.size} bytes of data, but {dtype}{list(shape)} needs {expected}"
            )
        # A copy: aligned, and independent of the file's bytes.
        return np.frombuffer(raw.tobytes(), np.dtype(dtype).newbyteorder("<")).reshape(shape)

    def sparse(self, raw: Array, shape: Shape, dtype: str, sparsity: Any, where: str) -> Array:
        count = int(np.prod([1, *shape], dtype=object))
        self.dense_budget -= count
        if self.dense_budget < 0:
            raise UnsupportedError(
                f"{where}: sparse tensors over {MAX_DENSE_ELEMENTS} elements in all"
            )
        if raw.size % np.dtype(dtype).itemsize:
            raise ModelError(f"{where}: {raw.size} bytes are no whole number of {dtype} values")
        values = np.frombuffer(raw.tobytes(), np.dtype(dtype).newbyteorder("<"))
        levels = []
        for i in range(self.spend(sparsity.DimMetadataLength())):
            entry = sparsity.DimMetadata(i)
            if entry.Format() == 0:
                levels.append(Level(entry.DenseSize(), None, None))
                continue
            segments = self.sparse_vector(entry.ArraySegmentsType, entry.ArraySegments)
            indices = self.sparse_vector(entry.ArrayIndicesType, entry.ArrayIndices)
            levels.append(Level(0, segments, indices))
        layout = SparseLayout(
            tuple(int(v) for v in self.vector(sparsity.TraversalOrderAsNumpy())),
            tuple(int(v) for v in self.vector(sparsity.BlockMapAsNumpy())),
            tuple(levels),
        )
        try:
            return densify(values, shape, layout)
        except ModelError as error:
            raise ModelError(f"{where}: {error}") from None

    def sparse_vector(self, kind: Callable[[], int], entry: Callable[[], Any]) -> Array:
        import tflite

        table = entry()
        if kind() not in SPARSE_VECTORS or table is None:
            raise ModelError(f"{self.name}: a sparse dimension has no index vector")
        vector = getattr(tflite, SPARSE_VECTORS[kind()])()
        vector.Init(table.Bytes, table.Pos)
        return self.vector(vector.ValuesAsNumpy()).astype(np.int64)

    def operator(
        self, entry: Any, index: int, kinds: list[str], tensor_count: int
    ) -> SourceOperator:
        code = entry.OpcodeIndex()
        if not 0 <= code < len(kinds):
            raise ModelError(f"{self.name}: operator {index} has opcode index {code}")
        kind = kinds[code]
        inputs = self.indices(entry.InputsAsNumpy(), tensor_count, -1)
        outputs = self.indices(entry.OutputsAsNumpy(), tensor_count, 0)
        return SourceOperator(index, kind, inputs, outputs, self.options(entry, index, kind))

    def options(self, entry: Any, index: int, kind: str) -> dict[str, Any]:
        import tflite

        known = OPTIONS.get(kind)
        table = entry.BuiltinOptions()
        if known is None or table is None:
            return {}
        name, fields = known
        if entry.BuiltinOptionsType() != getattr(tflite.BuiltinOptions, name):
            raise ModelError(f"{self.name}: operator {index} ({kind}) carries no {name}")
        options = getattr(tflite, name)()
        options.Init(table.Bytes, table.Pos)
        return {field: getattr(options, field)() for field in fields}
