"""Random graphs over every operator, for parity tests and as seeds for fuzzing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from zeroskip.converters import codecs, planner
from zeroskip.converters.codecs import rans
from zeroskip.converters.container import Chooser
from zeroskip.converters.ir import (
    NO_CLAMP,
    RELU,
    RELU6,
    Array,
    Attributes,
    Binary,
    BinaryKind,
    Clamp,
    Concat,
    Conv2D,
    FullyConnected,
    Graph,
    Mean,
    Op,
    Pad,
    Pool2D,
    PoolKind,
    Quantization,
    Quantize,
    Reshape,
    Shape,
    Slice,
    Softmax,
    Tensor,
    Transpose,
    Unary,
    UnaryKind,
    conv_output_size,
)
from zeroskip.converters.planner import Choice, Prefer

T = TypeVar("T")

CLAMPS = (NO_CLAMP, RELU, RELU6, Clamp(-1.0, 1.0))


class GraphMaker:
    """Grows a chain of ops from one input; every draw comes from one seed."""

    def __init__(self, seed: int, dtype: str, shape: Shape | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype
        self.tensors: dict[str, Tensor] = {}
        self.ops: list[Op] = []
        if shape is None:
            shape = tuple(int(d) for d in self.rng.integers(1, [6, 9, 9]))
        self.input = self.activation(shape)
        self.last = self.input

    def integer(self, low: int, high: int) -> int:
        """low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def pick(self, options: Sequence[T]) -> T:
        return options[self.integer(0, len(options) - 1)]

    def add(self, tensor: Tensor) -> Tensor:
        self.tensors[tensor.name] = tensor
        return tensor

    def quantization(self) -> Quantization | None:
        if self.dtype == "float32":
            return None
        zero = self.pick([-128, 0, 127, self.integer(-128, 127)])
        return Quantization((float(np.float32(self.rng.uniform(0.02, 0.2))),), zero)

    def activation(self, shape: Shape, like: Tensor | None = None) -> Tensor:
        q = like.quantization if like is not None else self.quantization()
        return self.add(Tensor(f"t{len(self.tensors)}", shape, self.dtype, q))

    def constant(self, shape: Shape, sparsity: float = 0.0, distinct: int = 255) -> Array:
        half = max(1, distinct // 2)
        values = self.rng.integers(-half, half + 1, shape)
        values = np.where(self.rng.random(shape) < sparsity, 0, values)
        if self.dtype == "float32":
            return (values / np.float32(half)).astype(np.float32)
        return np.clip(values * max(1, 100 // half), -127, 127).astype(np.int8)

    def op(
        self,
        attributes: Attributes,
        inputs: tuple[Tensor, ...],
        shape: Shape,
        like: Tensor | None = None,
    ) -> Tensor:
        output = self.activation(shape, like)
        self.ops.append(
            Op(
                f"{attributes.name}_{len(self.ops)}",
                attributes,
                tuple(t.name for t in inputs),
                output.name,
            )
        )
        self.last = output
        return output

    def weights(self, shape: Shape) -> tuple[Tensor, ...]:
        """A weight and perhaps a bias, of random sparsity and codebook size."""
        x = self.last
        sparsity = self.pick([0.0, 0.3, 0.8, 0.95, 1.0])
        data = self.constant(shape, sparsity, self.pick([1, 2, 15, 255]))
        q = bias_q = None
        if self.dtype == "int8":
            per_channel = self.integer(0, 1)
            scales = self.rng.uniform(0.002, 0.02, shape[0] if per_channel else 1)
            zero = 0 if per_channel else self.pick([0, 0, 3, -128])
            if zero:
                data = np.where(data == 0, zero, data).astype(np.int8)
            q = Quantization(tuple(float(np.float32(s)) for s in scales), zero)
            bias_q = Quantization(tuple(float(np.float32(s * x.scale)) for s in q.scale), 0)
        weight = self.add(Tensor(f"w{len(self.tensors)}", shape, self.dtype, q, data))
        if self.integer(0, 2) == 0:
            return (weight,)
        magnitude = self.pick([100, 30000, 2**31 - 1])
        if self.dtype == "int8":
            values = self.rng.integers(-magnitude, magnitude, shape[0]).astype(np.int32)
        else:
            values = self.rng.uniform(-1, 1, shape[0]).astype(np.float32)
        kind = "int32" if self.dtype == "int8" else "float32"
        bias = self.add(Tensor(f"b{len(self.tensors)}", (shape[0],), kind, bias_q, values))
        return weight, bias

    def conv(self) -> None:
        c, h, w = self.last.shape
        groups = self.pick([g for g in (1, 2, c) if c % g == 0])
        out = groups * self.integer(1, 3)
        kernel = (self.integer(1, min(4, h + 2)), self.integer(1, min(4, w + 2)))
        stride = (self.integer(1, 3), self.integer(1, 3))
        dilation = (self.integer(1, 2), self.integer(1, 2))
        padding = tuple(self.integer(0, 2) for _ in range(4))
        if self.integer(0, 2) == 0:
            kernel, stride, padding = (1, 1), (1, 1), (0, 0, 0, 0)
        size = (
            conv_output_size(h, kernel[0], stride[0], dilation[0], *padding[:2]),
            conv_output_size(w, kernel[1], stride[1], dilation[1], *padding[2:]),
        )
        if min(size) < 1:
            return
        x = self.last
        inputs = (x, *self.weights((out, c // groups, *kernel)))
        attributes = Conv2D(stride, dilation, padding, groups, self.pick(CLAMPS))
        self.op(attributes, inputs, (out, *size))

    def fully_connected(self) -> None:
        x = self.last
        out = self.integer(1, 12)
        inputs = (x, *self.weights((out, x.shape[-1])))
        self.op(FullyConnected(self.pick(CLAMPS)), inputs, (*x.shape[:-1], out))

    def binary(self) -> None:
        x = self.last
        kind = self.pick(list(BinaryKind))
        if self.integer(0, 1):
            shape = tuple(d if self.integer(0, 1) else 1 for d in x.shape)
            shape = shape[self.integer(0, len(shape) - 1) :]
            other = self.add(
                Tensor(
                    f"c{len(self.tensors)}", shape, self.dtype, self.quantization(),
                    self.constant(shape),
                )
            )  # fmt: skip
        else:
            activations = [t for t in self.tensors.values() if t.data is None]
            like = (x.shape, x.dtype)
            other = self.pick([t for t in activations if (t.shape, t.dtype) == like])
        pair = (x, other) if self.integer(0, 1) else (other, x)
        self.op(Binary(kind, self.pick(CLAMPS)), pair, x.shape)

    def pool(self) -> None:
        c, h, w = self.last.shape
        kind = self.pick(list(PoolKind))
        if self.integer(0, 3) == 0:
            shape = (c, self.integer(1, h), self.integer(1, w))
            self.op(Pool2D(kind, (1, 1), (1, 1), adaptive=True), (self.last,), shape, self.last)
            return
        kernel = (self.integer(1, min(h, 4)), self.integer(1, min(w, 4)))
        stride = (self.integer(1, 3), self.integer(1, 3))
        top, left = (self.integer(0, k - 1) for k in kernel)
        count = kind is PoolKind.AVERAGE and self.integer(0, 1) == 1
        padding = (top, top, left, left)
        size = (
            conv_output_size(h, kernel[0], stride[0], 1, top, top),
            conv_output_size(w, kernel[1], stride[1], 1, left, left),
        )
        attributes = Pool2D(kind, kernel, stride, padding, count, False, self.pick(CLAMPS))
        self.op(attributes, (self.last,), (c, *size), self.last)

    def mean(self) -> None:
        x = self.last
        axes = tuple(i for i in range(len(x.shape)) if self.integer(0, 1)) or (0,)
        shape = tuple(1 if i in axes else d for i, d in enumerate(x.shape))
        self.op(Mean(axes), (x,), shape)

    def pad(self) -> None:
        x = self.last
        padding = tuple((self.integer(0, 2), self.integer(0, 2)) for _ in x.shape)
        shape = tuple(d + sum(p) for d, p in zip(x.shape, padding, strict=True))
        self.op(Pad(padding, self.pick([0.0, 1.5])), (x,), shape, x)

    def concat(self) -> None:
        x = self.last
        axis = self.integer(0, len(x.shape) - 1)
        count = self.integer(1, 3)
        parts = (x,) * count
        if self.integer(0, 1):  # of their own: what may be computed in its place
            kind = Unary(UnaryKind.CLAMP, RELU6)
            parts = tuple(self.op(kind, (x,), x.shape, x) for _ in range(count))
        shape = tuple(d * (count if i == axis else 1) for i, d in enumerate(x.shape))
        self.op(Concat(axis), parts, shape, x)

    def softmax(self) -> None:
        x = self.last
        output = self.op(Softmax(self.integer(0, len(x.shape) - 1)), (x,), x.shape)
        if self.dtype == "int8":
            fixed = Tensor(output.name, output.shape, "int8", Quantization((1 / 256,), -128))
            self.tensors[output.name] = fixed
            self.last = fixed

    def unary(self) -> None:
        x = self.last
        kind = self.pick(list(UnaryKind))
        clamp = self.pick([RELU, RELU6]) if kind is UnaryKind.CLAMP else NO_CLAMP
        self.op(Unary(kind, clamp, 0.125 if kind is UnaryKind.LEAKY_RELU else 0.0), (x,), x.shape)

    def quantize(self) -> None:
        x = self.last
        if self.dtype == "int8":
            self.op(Quantize(), (x,), x.shape)

    def slice(self) -> None:
        x = self.last
        cut = self.integer(1, len(x.shape))  # often the first axis alone: a view
        begin = [self.integer(0, min(2, d - 1)) if i < cut else 0 for i, d in enumerate(x.shape)]
        shape = tuple(d - b for d, b in zip(x.shape, begin, strict=True))
        self.op(Slice(tuple(begin)), (x,), shape, x)

    def transpose(self) -> None:
        x = self.last
        perm = tuple(int(i) for i in self.rng.permutation(len(x.shape)))
        self.op(Transpose(perm), (x,), tuple(x.shape[i] for i in perm), x)

    def reshape(self) -> None:
        x = self.last
        shape = self.pick([(x.size,), (1, x.size), (x.shape[0], x.size // x.shape[0])])
        self.op(Reshape(), (x,), shape, x)

    def converted(self, x: Tensor, dtype: str) -> Tensor:
        """x as float32, or as uint8 or int8 of the same scale; becomes the last tensor."""
        q = x.quantization
        if dtype == "float32":
            q = None
        elif q is None:
            self.dtype, q = "int8", None
            q = self.quantization()
        elif dtype != x.dtype:
            offset = 128 if dtype == "uint8" else -128
            q = Quantization(q.scale, q.zero_point + offset)
        output = self.add(Tensor(f"t{len(self.tensors)}", x.shape, dtype, q))
        self.ops.append(Op(f"convert_{len(self.ops)}", Quantize(), (x.name,), output.name))
        self.last = output
        return output

    def graph(self) -> Graph:
        outputs = (self.last.name,)
        used = {self.input.name, *outputs}
        for op in self.ops:
            used.update((*op.inputs, op.output))
        tensors = {n: t for n, t in self.tensors.items() if n in used}
        return Graph("random", tensors, tuple(self.ops), (self.input.name,), outputs)

    def steps(self) -> list[Callable[[], None]]:
        any_rank = [
            self.fully_connected, self.binary, self.mean, self.pad, self.concat, self.softmax,
            self.unary, self.quantize, self.slice, self.transpose, self.reshape,
        ]  # fmt: skip
        spatial = [self.conv, self.conv, self.conv, self.pool]
        return any_rank + spatial if len(self.last.shape) == 3 else any_rank


def random_graph(seed: int, dtype: str, ops: int = 3, io: str | None = None) -> Graph:
    """A chain of about `ops` ops over an input of (C, H, W); input and output of dtype `io`."""
    maker = GraphMaker(seed, dtype)
    if io is not None and io != dtype:
        x = maker.input
        q = Quantization(x.quantization.scale, x.zero_point + 128) if io == "uint8" else None
        maker.tensors = {}
        maker.input = maker.add(Tensor("t0", x.shape, io, q))
        maker.converted(maker.input, dtype)
        ops += 1
    while len(maker.ops) < ops:
        if maker.last.size > 20000:
            break
        maker.pick(maker.steps())()
    if io is not None and io != dtype:
        maker.converted(maker.last, io)
    return maker.graph()


def random_inputs(graph: Graph, count: int, seed: int) -> Array:
    """(count, *shape) for a graph of one input: a third of the values are zeros."""
    rng = np.random.default_rng(seed)
    tensor = graph.tensors[graph.inputs[0]]
    shape = (count, *tensor.shape)
    zero = rng.random(shape) < 1 / 3
    if rng.random() < 0.3:  # whole rows of zeros, too
        zero |= rng.random((*shape[:-1], 1)) < 0.5
    if tensor.dtype == "float32":
        return np.where(zero, 0, rng.normal(size=shape)).astype(np.float32)
    low = np.iinfo(tensor.dtype).min
    values = rng.integers(low, low + 256, shape)
    return np.where(zero, tensor.zero_point, values).astype(tensor.dtype)


def elements(graph: Graph) -> int:
    """Elements of all activations."""
    return sum(math.prod(t.shape) for t in graph.tensors.values() if t.data is None)


def forced(positions: str, values: str) -> Chooser:
    """A chooser of one codec pair, by columns where speed is preferred and a layer can; the
    planner's own choice where the pair cannot hold the weights."""

    def choose(graph: Graph, op: Op, prefer: Prefer) -> Choice:
        weight = graph.tensors[op.inputs[1]]
        matrix = weight.data.reshape(weight.shape[0], -1)
        columns = isinstance(op.attributes, FullyConnected) and prefer is Prefer.SPEED
        encoded = codecs.encode(matrix, weight.zero_point, positions, values, columns)
        return planner.choose(graph, op, prefer) if encoded is None else Choice(encoded, {})

    return choose


def layer_graph(step: str, seed: int, dtype: str) -> Graph:
    """One "conv" or "fully_connected" with random weights."""
    maker = GraphMaker(seed, dtype, (4, 7, 9) if step == "conv" else (3, 60))
    while not maker.ops:
        getattr(maker, step)()
    return maker.graph()


def uneven_graph(seed: int, dtype: str) -> Graph:
    """One fully connected layer whose rows and columns are full, sparse or empty."""
    maker = GraphMaker(seed, dtype, (2, 60))
    density = np.outer(
        maker.rng.choice([0.0, 0.1, 0.5, 1.0], 40), maker.rng.choice([0.0, 0.1, 0.5, 1.0], 60)
    )
    matrix = maker.constant((40, 60), distinct=int(maker.rng.choice([3, 15, 31, 255])))
    matrix[maker.rng.random(matrix.shape) >= density] = 0
    matrix[0, 0] = 1
    scale = Quantization((0.0078125,), 0) if dtype == "int8" else None
    weight = maker.add(Tensor("w", matrix.shape, dtype, scale, matrix))
    maker.op(FullyConnected(), (maker.last, weight), (2, 40))
    return maker.graph()


@contextmanager
def short_segments() -> Iterator[None]:
    """ANS streams made inside are cut into many segments, as those of large matrices are."""
    before = rans.BYTES_PER_SEGMENT, rans.MIN_SEGMENTS
    rans.BYTES_PER_SEGMENT, rans.MIN_SEGMENTS = 24, 2  # type: ignore[misc]
    try:
        yield
    finally:
        rans.BYTES_PER_SEGMENT, rans.MIN_SEGMENTS = before  # type: ignore[misc]


def biased_layer(bias: Array, seed: int, bits: int | None, per_channel: bool, conv: bool) -> Graph:
    """One layer with the given biases, int32 or float32, one per output; its multipliers have
    `bits` significant bits, all if None."""
    rng = np.random.default_rng(seed)
    integer = bias.dtype == np.int32
    dtype = "int8" if integer else "float32"
    values = rng.integers(-20, 20, (bias.size, 5))
    data = values.astype(dtype).reshape((bias.size, 5, 1, 1) if conv else (bias.size, 5))
    q = weight_q = bias_q = None
    if integer:
        q = Quantization((0.0625,), 5)
        scales = rng.uniform(2**-8, 2**-4, bias.size if per_channel else 1)
        if bits is not None:
            fraction, power = np.frexp(scales)
            scales = np.ldexp(np.rint(np.ldexp(fraction, bits)), power - bits)
        scale = tuple(float(np.float32(s)) for s in scales)
        weight_q, bias_q = Quantization(scale, 0), Quantization(scale, 0)
    kind = "int32" if integer else "float32"
    after = (3, 4) if conv else ()
    tensors = [
        Tensor("x", (5, *after), dtype, q),
        Tensor("w", data.shape, dtype, weight_q, data),
        Tensor("b", bias.shape, kind, bias_q, bias),
        Tensor("y", (bias.size, *after), dtype, q),
    ]
    op = Op("layer", Conv2D() if conv else FullyConnected(), ("x", "w", "b"), "y")
    return Graph("biased", {t.name: t for t in tensors}, (op,), ("x",), ("y",))
