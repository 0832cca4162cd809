"""Reading a .zsk container for people and reports; only the C runtime executes one.

The reader checks what it needs to describe a file and raises FormatError for anything else;
it is no substitute for zs_model_init, which validates everything.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from zeroskip.converters import parameters
from zeroskip.converters.codecs import (
    POSITION_BY_CODE,
    POSITIONS,
    VALUE_BY_CODE,
    VALUES,
    Directory,
    EncodedMatrix,
    bits,
    decode,
)
from zeroskip.converters.codecs.ans_values import MAX_TABLE_BYTES, Table
from zeroskip.converters.codecs.base import Array, Positions, Values
from zeroskip.converters.format import (
    CONSTANT_FLAG,
    HEADER,
    IO,
    MAGIC,
    MAJOR,
    TENSOR,
    DType,
    OpCode,
    Reader,
)
from zeroskip.errors import FormatError

_OP_NAMES = {code: code.name.lower() for code in OpCode}
_MAX_MATRIX = 1 << 27


@dataclass(frozen=True)
class TensorDescription:
    """A row of the tensor table. `location` is in the arena, or in data for a constant."""

    shape: tuple[int, ...]
    dtype: str
    zero_point: int
    location: int
    constant: bool


@dataclass(frozen=True)
class WeightDescription:
    """A weight matrix: how it is stored, and how small it could be.

    `entropy_bytes` is the bound for positions and values coded apart as independent symbols:
    n * H(density) + nonzeros * H(values), without codebooks or tables.
    """

    codec: str
    shape: tuple[int, int]
    nonzeros: int
    distinct: int
    stream_bytes: int
    entropy_bytes: float

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def sparsity(self) -> float:
        """Fraction of zeros."""
        return 1 - self.nonzeros / self.size

    @property
    def entropy_ratio(self) -> float | None:
        """Stored bytes to the bound; None if that is 0."""
        return self.stream_bytes / self.entropy_bytes if self.entropy_bytes else None


@dataclass(frozen=True)
class OpDescription:
    """One op. `bytes` counts its record and all data it refers to; `macs` a dense execution,
    `macs_nonzero_weight` one that skips zero weights."""

    index: int
    name: str
    op: str
    output: TensorDescription
    bytes: int
    macs: int = 0
    macs_nonzero_weight: int = 0
    weights: WeightDescription | None = None

    @property
    def codec(self) -> str | None:
        return self.weights.codec if self.weights is not None else None


@dataclass(frozen=True)
class Description:
    """What a container holds."""

    version: str
    bytes: int
    arena_bytes: int
    inputs: tuple[TensorDescription, ...]
    outputs: tuple[TensorDescription, ...]
    ops: tuple[OpDescription, ...]
    sections: dict[str, int] = field(default_factory=dict)

    @property
    def macs(self) -> int:
        return sum(op.macs for op in self.ops)

    @property
    def macs_nonzero_weight(self) -> int:
        return sum(op.macs_nonzero_weight for op in self.ops)


def describe(blob: bytes) -> Description:
    """Describe a container. Raises FormatError if it is damaged."""
    try:
        return _describe(blob)
    except (struct.error, ValueError, KeyError, IndexError) as error:
        raise FormatError(f"damaged container: {error}") from None


def weights(blob: bytes) -> dict[int, Array]:
    """The weight matrices (rows, cols), decoded, by op index. Raises FormatError."""
    try:
        container = _Container(blob)
        return {
            op.index: decode(op.encoded, op.dtype)
            for op in container.ops()
            if op.encoded is not None
        }
    except (struct.error, ValueError, KeyError, IndexError) as error:
        raise FormatError(f"damaged container: {error}") from None


# What can be left out of a build of the runtime: options of runtime_c/include/zs_config.h.
RUNTIME_OPTIONS: Final = frozenset(
    (
        *(f"ZS_OP_{code.name}" for code in OpCode),
        *(f"ZS_CODEC_{name.upper()}" for name in (*POSITIONS, *VALUES)),
        *("ZS_INT8_KERNELS", "ZS_FLOAT32_KERNELS"),
    )
) - {"ZS_CODEC_DENSE", "ZS_CODEC_RAW"}


def runtime_options(blob: bytes) -> frozenset[str]:
    """Those of RUNTIME_OPTIONS that a build needs to run the container. Raises FormatError."""
    try:
        ops = _Container(blob).ops()
    except (struct.error, ValueError, KeyError, IndexError) as error:
        raise FormatError(f"damaged container: {error}") from None
    needed = {f"ZS_OP_{op.code.name}" for op in ops}
    needed |= {f"ZS_{op.output.dtype.upper()}_KERNELS" for op in ops}
    for op in ops:
        if op.encoded is not None:
            needed |= {f"ZS_CODEC_{n.upper()}" for n in (op.encoded.positions, op.encoded.values)}
    return RUNTIME_OPTIONS & needed


def _describe(blob: bytes) -> Description:
    container = _Container(blob)
    names = container.names()
    rows = []
    for op in container.ops():
        weight, macs, live = None, 0, 0
        if op.encoded is not None:
            weight = _weight_description(op.encoded, op.dtype)
            outputs = op.encoded.cols if op.encoded.by_columns else op.encoded.rows
            uses = math.prod(op.output.shape) // outputs
            macs, live = weight.size * uses, weight.nonzeros * uses
        kind = _OP_NAMES[op.code]
        rows.append(
            OpDescription(
                index=op.index,
                name=names[op.index] if names else f"{kind}_{op.index}",
                op=kind,
                output=op.output,
                bytes=op.bytes,
                macs=macs,
                macs_nonzero_weight=live,
                weights=weight,
            )
        )
    return Description(
        version=f"{blob[4]}.{blob[5]}",
        bytes=len(blob),
        arena_bytes=container.arena_bytes,
        inputs=container.inputs,
        outputs=container.outputs,
        ops=tuple(rows),
        sections=container.sections,
    )


def _weight_description(e: EncodedMatrix, dtype: np.dtype[np.generic]) -> WeightDescription:
    matrix = decode(e, dtype)
    live = matrix[matrix != e.zero_point]
    counts = np.unique(live, return_counts=True)[1]
    entropy = matrix.size * _entropy(np.array([live.size, matrix.size - live.size]))
    entropy += live.size * _entropy(counts)
    return WeightDescription(
        codec=e.name,
        shape=(matrix.shape[0], matrix.shape[1]),
        nonzeros=int(live.size),
        distinct=int(counts.size),
        stream_bytes=e.stream_bytes,
        entropy_bytes=entropy / 8,
    )


def _entropy(counts: Array) -> float:
    """Bits per symbol."""
    present = counts[counts > 0].astype(np.float64)
    if present.size < 2:
        return 0.0
    p = present / present.sum()
    return float(-(p * np.log2(p)).sum())


@dataclass(frozen=True)
class StoredLayer:
    """A weighted op as stored. `window` of a convolution: kernel height, width, stride y, x,
    dilation y, x, padding top, left, groups; empty for a fully connected layer."""

    index: int
    x: TensorDescription
    output: TensorDescription
    window: tuple[int, ...]
    encoded: EncodedMatrix
    dtype: np.dtype[np.generic]


def stored_layers(blob: bytes) -> list[StoredLayer]:
    """The ops with weights. Raises FormatError."""
    try:
        return [
            StoredLayer(op.index, op.inputs[0], op.output, op.window, op.encoded, op.dtype)
            for op in _Container(blob).ops()
            if op.encoded is not None
        ]
    except (struct.error, ValueError, KeyError, IndexError) as error:
        raise FormatError(f"damaged container: {error}") from None


@dataclass(frozen=True)
class _ParsedOp:
    index: int
    code: OpCode
    inputs: tuple[TensorDescription, ...]
    window: tuple[int, ...]
    output: TensorDescription
    bytes: int
    dtype: np.dtype[np.generic]
    encoded: EncodedMatrix | None


class _Container:
    """Sections and records of a file."""

    def __init__(self, blob: bytes) -> None:
        if len(blob) < HEADER.size + 4:
            raise FormatError(f"{len(blob)} bytes are too few for a container")
        fields = HEADER.unpack_from(blob)
        magic, major, _, _, length, self.arena_bytes, tensors, self._op_count = fields[:8]
        inputs, outputs, _, ops, names, data = fields[8:]
        if magic != MAGIC:
            raise FormatError("not a .zsk container (no ZSKP at the start)")
        if major != MAJOR:
            raise FormatError(f"container version {major}, this reader knows {MAJOR}")
        if length != len(blob) or zlib.crc32(blob[:-4]) != int.from_bytes(blob[-4:], "little"):
            raise FormatError("damaged container: length or checksum is wrong")
        io = HEADER.size + TENSOR.size * tensors
        ends = names or data
        if not io + IO.size * (inputs + outputs) <= ops <= ends <= data <= length - 4:
            raise FormatError("damaged container: sections out of order")
        self._tensors = [
            _tensor(blob, HEADER.size + TENSOR.size * index) for index in range(tensors)
        ]
        ports = [
            self._tensors[IO.unpack_from(blob, io + IO.size * index)[0]]
            for index in range(inputs + outputs)
        ]
        self.inputs, self.outputs = tuple(ports[:inputs]), tuple(ports[inputs:])
        self._ops = blob[ops:ends]
        self._names = blob[names:data] if names else b""
        self._data = blob[data : length - 4]
        self.sections = {
            "header and tensors": ops,
            "ops": ends - ops,
            "names": data - names if names else 0,
            "data": len(self._data),
            "checksum": 4,
        }

    def names(self) -> list[str]:
        if not self._names:
            return []
        r = Reader(self._names)
        return [r.take(r.u8()).decode(errors="replace") for _ in range(self._op_count)]

    def ops(self) -> list[_ParsedOp]:
        r = Reader(self._ops)
        return [self._op(index, r) for index in range(self._op_count)]

    def _op(self, index: int, r: Reader) -> _ParsedOp:
        before = r.left
        code = OpCode(r.u8())
        body = Reader(r.take(r.var()))
        used = before - r.left
        count = {OpCode.BINARY: 2, OpCode.CONCAT: 0}.get(code, 1)
        if code is OpCode.CONCAT:
            count = body.u8()
        inputs = tuple(self._tensors[i] for i in body.vars(count))
        window: tuple[int, ...] = ()
        output = self._tensors[body.var()]
        dtype = np.dtype(output.dtype)
        encoded = None
        used += sum(math.prod(t.shape) * np.dtype(t.dtype).itemsize for t in inputs if t.constant)
        if code is OpCode.TABLE:
            used += 256
        if code in (OpCode.CONV, OpCode.FULLY_CONNECTED):
            if code is OpCode.CONV:
                window = body.vars(9)
            encoded = self._weights(body, dtype)
            channels = encoded.cols if encoded.by_columns else encoded.rows
            used += encoded.stream_bytes + self._stage_bytes(body, dtype, channels)
        return _ParsedOp(index, code, inputs, window, output, used, dtype, encoded)

    def _stage_bytes(self, r: Reader, dtype: np.dtype[np.generic], channels: int) -> int:
        """Bytes of the bias and requantisation data."""
        used = parameters.read_bias_size(r, self._data, channels)
        if dtype == np.int8:
            used += parameters.read_scale_size(r, channels)
        return used

    def _weights(self, r: Reader, dtype: np.dtype[np.generic]) -> EncodedMatrix:
        codec, flags, zero_point = r.u8(), r.u8(), r.svar()
        rows, cols, count, max_row = r.vars(4)
        if rows * cols > _MAX_MATRIX:
            raise FormatError(f"a weight matrix of {rows} x {cols} is over the format's limit")
        positions, values = POSITION_BY_CODE[codec & 15].name, VALUE_BY_CODE[codec >> 4].name
        placed = Positions(b"")
        if positions != "dense":
            placed = self._positions(r, positions)
        coded = self._values(r, values, dtype)
        directory = None
        if flags & 1:
            widths = (r.u8(), r.u8(), r.u8())
            size = bits.byte_count(sum(widths) * rows)
            directory = Directory(widths, self._slice(r.var(), size))
        return EncodedMatrix(
            positions, values, rows, cols, count, max_row, zero_point, placed, coded,
            directory,
        )  # fmt: skip

    def _values(self, r: Reader, codec: str, dtype: np.dtype[np.generic]) -> Values:
        stream = self._slice(*r.vars(2))
        if codec == "raw":
            return Values(stream)
        if codec == "ans":
            offset, segment = r.vars(2)
            rest = self._data[offset : offset + MAX_TABLE_BYTES]
            table, size = Table.parse(rest, dtype)
            return Values(stream, table.codebook, table=rest[:size], segment=segment)
        k, offset = r.vars(2)
        codebook = np.frombuffer(
            self._slice(offset, k * dtype.itemsize), dtype.newbyteorder("<")
        ).astype(dtype)
        if codec == "packed":
            return Values(stream, codebook, index_bits=r.u8())
        return Values(stream, codebook, code_counts=r.vars(r.u8()))

    def _positions(self, r: Reader, codec: str) -> Positions:
        stream = self._slice(*r.vars(2))
        if codec == "block":
            return Positions(stream, block_bits=r.u8())
        if codec == "gap":
            count, escape, offset = r.var(), r.u8(), r.var()
            gaps = np.frombuffer(self._slice(offset, count), np.uint8)
            return Positions(stream, gaps=gaps, gap_escape=escape, code_counts=r.vars(r.u8()))
        if codec == "ans":
            classes = r.u8()
            return Positions(
                stream, classes=((classes & 15) + 1, (classes >> 4) + 1), segment=r.var()
            )
        return Positions(stream)

    def _slice(self, offset: int, size: int) -> bytes:
        if offset + size > len(self._data):
            raise FormatError("damaged container: data outside its section")
        return self._data[offset : offset + size]


def _tensor(blob: bytes, at: int) -> TensorDescription:
    location, dtype, rank, zero_point, *dims = TENSOR.unpack_from(blob, at)
    return TensorDescription(
        shape=tuple(dims[: rank & ~CONSTANT_FLAG]),
        dtype=DType(dtype).name.lower(),
        zero_point=zero_point,
        location=location,
        constant=bool(rank & CONSTANT_FLAG),
    )
