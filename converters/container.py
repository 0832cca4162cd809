"""The writer of .zsk containers (runtime_c/FORMAT.md).

`build` turns a graph into bytes; equal graphs give equal bytes. `describe`, re-exported from
description.py, reads them back for people and reports; only the C runtime executes them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from zeroskip.converters import lowering, parameters, planner
from zeroskip.converters.codecs import POSITIONS, VALUES, EncodedMatrix, tables
from zeroskip.converters.codecs.base import Positions
from zeroskip.converters.description import Description, describe
from zeroskip.converters.format import (
    CONSTANT_FLAG,
    HEADER,
    IO,
    MAGIC,
    MAJOR,
    MAX_ARENA,
    MAX_WORK,
    MINOR,
    TENSOR,
    DType,
    OpCode,
    PoolFlag,
    Writer,
)
from zeroskip.converters.ir import (
    Array,
    Binary,
    BinaryKind,
    Concat,
    Conv2D,
    FullyConnected,
    Graph,
    Mean,
    Op,
    Pad,
    Pool2D,
    PoolKind,
    Quantize,
    Reshape,
    Slice,
    Softmax,
    Tensor,
    Transpose,
    Unary,
    UnaryKind,
)
from zeroskip.converters.passes import memory
from zeroskip.converters.passes.placement import align
from zeroskip.converters.planner import Prefer
from zeroskip.converters.scratch import scratch_bytes
from zeroskip.errors import FitError, UnsupportedError

__all__ = ["Description", "build", "describe"]

_BINARY = {BinaryKind.ADD: 0, BinaryKind.SUB: 1, BinaryKind.MUL: 2}
_UNARY = {
    UnaryKind.CLAMP: 0,
    UnaryKind.LEAKY_RELU: 1,
    UnaryKind.SIGMOID: 2,
    UnaryKind.TANH: 3,
    UnaryKind.HARDSWISH: 4,
}


Chooser = Callable[[Graph, Op, Prefer], planner.Choice]


def build(
    graph: Graph,
    *,
    prefer: Prefer = Prefer.SIZE,
    names: bool = True,
    choose: Chooser = planner.choose,
) -> bytes:
    """The container of a graph.

    `names` keeps the op names for reports. `choose` picks the codec of each weight matrix;
    matrices may then come to share tables.
    Raises UnsupportedError for what the format cannot hold, FitError for an arena beyond its
    limit.
    """
    weighted = [op for op in graph.ops if isinstance(op.attributes, Conv2D | FullyConnected)]
    weights = tables.share(
        {op.output: _matrix(graph, op) for op in weighted},
        {op.output: choose(graph, op, prefer).encoded for op in weighted},
    )
    scratch = {op.output: scratch_bytes(graph, op, weights[op.output]) for op in weighted}
    plan = memory.plan(graph, scratch)
    if plan.arena_bytes > MAX_ARENA:
        raise FitError(
            f"graph '{graph.name}' needs an arena of {plan.arena_bytes:,} bytes, "
            f"the format's limit is {MAX_ARENA:,}"
        )
    return _Builder(graph, weights, plan).file(names)


def _matrix(graph: Graph, op: Op) -> Array:
    """The weights (rows, cols) of a Conv2D or FullyConnected."""
    weight = graph.tensors[op.inputs[1]]
    assert weight.data is not None
    return weight.data.reshape(weight.shape[0], -1)


@dataclass(frozen=True)
class _Place:
    offset: int
    size: int


class _Builder:
    def __init__(
        self, graph: Graph, weights: Mapping[str, EncodedMatrix], plan: memory.MemoryPlan
    ) -> None:
        self._graph = graph
        self._weights = weights
        self._plan = plan
        self._data = bytearray()
        self._stored: dict[bytes, int] = {}
        self._index: dict[str, int] = {}
        self._tensors: list[bytes] = []

    def file(self, names: bool) -> bytes:
        ops = [op for op in self._graph.ops if not self._is_free(op)]
        records = b"".join(self._op(op) for op in ops)
        io = b"".join(self._io(n) for n in (*self._graph.inputs, *self._graph.outputs))
        tensors = b"".join(self._tensors)
        labels = b"".join(_label(op.name) for op in ops) if names else b""

        ops_offset = align(HEADER.size + len(tensors) + len(io))
        names_offset = ops_offset + align(len(records))
        data_offset = names_offset + align(len(labels))
        length = data_offset + align(len(self._data)) + 4
        header = HEADER.pack(
            MAGIC, MAJOR, MINOR, 0, length, self._plan.arena_bytes, len(self._tensors), len(ops),
            len(self._graph.inputs), len(self._graph.outputs), 0,
            ops_offset, names_offset if labels else 0, data_offset,
        )  # fmt: skip
        body = b"".join(map(_pad, (header + tensors + io, records, labels, bytes(self._data))))
        return body + zlib.crc32(body).to_bytes(4, "little")

    def _is_free(self, op: Op) -> bool:
        """Whether the memory plan leaves an op nothing to do."""
        return memory.is_view(self._graph, op) or op.output in self._plan.joined

    def _tensor(self, name: str) -> int:
        """The index of a tensor, which is added to the table on first use."""
        if name in self._index:
            return self._index[name]
        tensor = self._graph.tensors[name]
        rank = len(tensor.shape)
        location = self._plan.tensors[name] if tensor.data is None else self._constant(tensor)
        flag = 0 if tensor.data is None else CONSTANT_FLAG
        dims = (*tensor.shape, *[1] * (4 - rank))
        record = TENSOR.pack(
            location, DType[tensor.dtype.upper()], rank | flag, tensor.zero_point, *dims
        )
        if record in self._tensors:  # tensors in one place, such as a reshaped one
            self._index[name] = self._tensors.index(record)
            return self._index[name]
        self._tensors.append(record)
        if len(self._tensors) > 65535:
            raise UnsupportedError("more than 65,535 tensors")
        self._index[name] = len(self._tensors) - 1
        return self._index[name]

    def _constant(self, tensor: Tensor) -> int:
        assert tensor.data is not None
        return self._store(_little_endian(tensor.data)).offset

    def _store(self, content: bytes) -> _Place:
        """Put bytes into the data section; equal ones are stored once."""
        if content not in self._stored:
            self._stored[content] = len(self._data)
            self._data += content
        return _Place(self._stored[content], len(content))

    def _io(self, name: str) -> bytes:
        quantization = self._graph.tensors[name].quantization
        return IO.pack(self._tensor(name), 0, quantization.scale[0] if quantization else 1.0)

    def _op(self, op: Op) -> bytes:
        w = Writer()
        if isinstance(op.attributes, Concat):
            w.u8(len(op.inputs))
        activations = op.inputs
        if isinstance(op.attributes, Conv2D):
            activations = op.inputs[:1]
        elif isinstance(op.attributes, FullyConnected):
            activations = (self._before_reshaping(op.inputs[0]),)
        w.var(*(self._tensor(name) for name in activations), self._tensor(op.output))
        code = self._body(op, w)
        body = w.bytes()
        head = Writer()
        head.u8(code)
        head.var(len(body))
        return head.bytes() + body

    def _before_reshaping(self, name: str) -> str:
        """A tensor of the same elements; a fully connected layer asks for no more."""
        producer = self._graph.producer(name)
        if producer is None or not isinstance(producer.attributes, Reshape):
            return name
        return self._before_reshaping(producer.inputs[0])

    def _body(self, op: Op, w: Writer) -> OpCode:
        x = self._graph.tensors[op.inputs[0]]
        quantized = x.dtype == "int8"
        a = op.attributes
        match a:
            case Conv2D():
                kernel = self._graph.tensors[op.inputs[1]].shape[2:]
                w.var(*kernel, *a.stride, *a.dilation, a.padding[0], a.padding[2], a.groups)
                self._weighted(op, w)
                return OpCode.CONV
            case FullyConnected():
                self._weighted(op, w)
                return OpCode.FULLY_CONNECTED
            case Binary():
                w.u8(_BINARY[a.kind])
                if quantized:
                    b = lowering.binary(self._graph, op)
                    w.var(b.left_shift)
                    w.svar(b.multiplier1, b.shift1, b.multiplier2, b.shift2)
                    w.svar(b.output_multiplier, b.output_shift, b.low, b.high)
                else:
                    w.f32(*map(float, lowering.float_range(a.clamp)))
                return OpCode.BINARY
            case Pool2D():
                self._pool(op, a, w, quantized)
                return OpCode.POOL
            case Mean():
                w.u8(sum(1 << axis for axis in a.axes))
                if quantized:
                    m = lowering.mean(self._graph, op)
                    w.svar(m.multiplier, m.shift)
                return OpCode.MEAN
            case Pad():
                w.var(*(before for before, _ in a.padding))
                if quantized:
                    w.svar(lowering.pad_value(self._graph, op))
                else:
                    w.f32(a.value)
                return OpCode.PAD
            case Concat():
                w.u8(a.axis)
                return OpCode.CONCAT
            case Softmax():
                w.u8(a.axis)
                if quantized:
                    s = lowering.softmax(self._graph, op)
                    w.svar(s.multiplier, s.left_shift, s.diff_min)
                else:
                    w.f32(a.beta)
                return OpCode.SOFTMAX
            case Unary() if not quantized:
                w.u8(_UNARY[a.kind])
                low, high = lowering.float_range(a.clamp)
                w.f32(*((float(low), float(high)) if a.kind is UnaryKind.CLAMP else (a.alpha, 0)))
                return OpCode.UNARY
            case Quantize() if (x.dtype, self._graph.output_tensor(op).dtype) != ("int8", "int8"):
                real = x if x.quantization is not None else self._graph.output_tensor(op)
                w.f32(real.scale)
                return OpCode.CONVERT
            case Unary() | Quantize():
                w.var(self._store(lowering.table(self._graph, op).tobytes()).offset)
                return OpCode.TABLE
            case Transpose():
                w.u8(*a.perm)
                return OpCode.TRANSPOSE
            case Slice():
                w.var(*a.begin)
                return OpCode.SLICE
            case Reshape():
                raise AssertionError("a reshape is no op of the container")

    def _pool(self, op: Op, a: Pool2D, w: Writer, quantized: bool) -> None:
        flags = PoolFlag.MAX if a.kind is PoolKind.MAX else 0
        flags |= PoolFlag.COUNT_PADDING if a.count_include_pad else 0
        flags |= PoolFlag.ADAPTIVE if a.adaptive else 0
        w.u8(flags)
        w.var(*a.kernel, *a.stride, a.padding[0], a.padding[2])
        if quantized:
            average = a.kind is PoolKind.AVERAGE
            w.svar(lowering.pool_offset(self._graph, op) if average else 0)
            w.svar(*lowering.pool(self._graph, op))
        else:
            w.f32(*map(float, lowering.float_range(a.clamp)))

    def _weighted(self, op: Op, w: Writer) -> None:
        """Weight record, bias record, requantisation or limits, scratch."""
        a = op.attributes
        assert isinstance(a, Conv2D | FullyConnected)
        output = self._graph.output_tensor(op)
        encoded = self._weights[op.output]
        work = encoded.count * (output.size // self._graph.tensors[op.inputs[1]].shape[0])
        if work > MAX_WORK:
            raise UnsupportedError(
                f"op '{op.name}' ({op.kind}) needs {work:,} multiply-accumulates, "
                f"the format's limit is {MAX_WORK:,}"
            )
        self._weight_record(encoded, w)
        bias = self._graph.tensors[op.inputs[2]].data if len(op.inputs) > 2 else None
        self._form(parameters.bias_form(bias), w)
        if output.dtype == "int8":
            p = lowering.weighted(self._graph, op)
            self._form(parameters.scale_form(p.multiplier, p.shift), w)
            w.svar(p.low, p.high)
        else:
            w.f32(*map(float, lowering.float_range(a.clamp)))
        w.var(self._plan.scratch[op.output])

    def _weight_record(self, e: EncodedMatrix, w: Writer) -> None:
        w.u8(POSITIONS[e.positions].code | VALUES[e.values].code << 4, int(e.by_columns))
        w.svar(e.zero_point)
        w.var(e.rows, e.cols, e.count, e.max_row)
        if e.positions != "dense":
            place = self._store(e.placed.stream)
            w.var(place.offset, place.size)
            self._position_table(e.placed, e.positions, w)
        place = self._store(e.coded.stream)
        w.var(place.offset, place.size)
        if e.values == "ans":
            w.var(self._store(e.coded.table).offset, e.coded.segment)
        elif e.coded.codebook is not None:
            w.var(e.coded.codebook.size, self._store(_little_endian(e.coded.codebook)).offset)
            if e.values == "huffman":
                w.u8(len(e.coded.code_counts))
                w.var(*e.coded.code_counts)
            else:
                w.u8(e.coded.index_bits)
        if e.directory is not None:
            w.u8(*e.directory.widths)
            w.var(self._store(e.directory.stream).offset)

    def _position_table(self, placed: Positions, codec: str, w: Writer) -> None:
        """What a position codec's record holds beside its stream."""
        if codec == "block":
            w.u8(placed.block_bits)
        elif codec == "gap":
            assert placed.gaps is not None
            w.var(placed.gaps.size)
            w.u8(placed.gap_escape)
            w.var(self._store(placed.gaps.tobytes()).offset)
            w.u8(len(placed.code_counts))
            w.var(*placed.code_counts)
        elif codec == "ans":
            rows, cols = placed.classes
            w.u8((rows - 1) | (cols - 1) << 4)
            w.var(placed.segment)

    def _form(self, form: parameters.Form, w: Writer) -> None:
        w.raw(form.head)
        if form.data:
            w.var(self._store(form.data).offset)


def _little_endian(array: Array) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _label(name: str) -> bytes:
    text = name.encode()[:255].decode(errors="ignore").encode()
    return bytes([len(text)]) + text


def _pad(section: bytes) -> bytes:
    return section + bytes(-len(section) % 4)
