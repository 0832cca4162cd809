"""Post-training quantisation of a float32 graph to TFLite's int8 scheme.

Follows the TensorFlow Lite 8-bit quantization specification: int8 weights in -127..127 with
zero point 0 and one scale per output channel, int8 activations with one scale and zero point
per tensor whose range contains zero exactly, int32 biases with scale input * weight. Pooling,
reshaping, transposing and padding keep the quantization of their input, the inputs of a Concat
share that of its output, softmax and sigmoid give 1/256 from -128, tanh 1/128 around 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from zeroskip.converters.ir import (
    MULTIPLIER_BITS,
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
    Quantization,
    Quantize,
    Reshape,
    Softmax,
    Tensor,
    Transpose,
    Unary,
    UnaryKind,
)
from zeroskip.converters.passes import short_parameters
from zeroskip.converters.passes.calibrate import Range, check_data, clip, observe
from zeroskip.converters.passes.codebook import codebook_scales
from zeroskip.errors import InputError, ModelError, UnsupportedError

METHODS: Final = ("minmax", "mse")
PROBABILITY: Final = Quantization((1 / 256,), -128)  # softmax and sigmoid
TANH: Final = Quantization((1 / 128,), 0)

_STEPS: Final = 255
_WEIGHT_MAX: Final = 127
_INT32_MAX: Final = (1 << 31) - 1
_MIN_SCALE: Final = 2.0**-40  # far below every activation, far above float32's denormals
_MAX_MULTIPLIER: Final = 2.0**8  # one input step already spans the whole output
_MIN_MULTIPLIER: Final = 2.0**-30
_MIN_SOFTMAX_SCALE: Final = 2.0**-25  # times beta; below, softmax is flat

_Float64 = npt.NDArray[np.float64]


def quantize(
    graph: Graph,
    calibration: Array | Sequence[Array],
    *,
    method: str = "minmax",
    per_channel: bool = True,
    float_io: bool = False,
    compact: bool = True,
) -> Graph:
    """The int8 form of a float32 graph.

    `calibration` is one float array (N, *shape) per graph input, representative of the real
    data; 100 samples usually do. `method` chooses the ranges of activations: "minmax" takes
    all that was seen, "mse" clips to the least mean squared error. Weights always keep their
    full range, and a weight of zero stays exactly zero.

    With `per_channel` each output channel gets its own weight scale, but a tensor whose values
    come from a codebook (see codebook.py) gets scales that map equal centroids to equal
    integers, so that weight sharing survives.

    With `compact` weight scales are raised a little, to what takes few bytes in a container
    (short_parameters.py).

    Graph inputs and outputs become int8, or stay float32 behind Quantize ops with `float_io`.

    Raises InputError for bad arguments or data, UnsupportedError for a graph that is not
    float32 throughout, ModelError for constants that are not finite.
    """
    if method not in METHODS:
        raise InputError(f"calibration method '{method}' must be one of {', '.join(METHODS)}")
    for tensor in graph.tensors.values():
        if tensor.dtype != "float32":
            raise UnsupportedError(
                f"tensor '{tensor.name}' is {tensor.dtype}: only float32 models can be quantised"
            )
        if tensor.data is not None and not np.isfinite(tensor.data).all():
            raise ModelError(f"constant '{tensor.name}' holds NaN or infinity")
    inputs = check_data(graph, calibration)
    quantizations = _Activations(graph, inputs, method, per_channel).quantizations()
    int8 = _Rewriter(graph, quantizations, per_channel, compact).run()
    return _with_float_io(int8) if float_io else int8


def affine(observed: Range) -> Quantization:
    """int8 scale and zero point of a range; zero is exact."""
    if observed.low == observed.high:
        observed = Range(0.0, 1.0)  # nothing but zeros was seen: any scale does
    scale = max(float(np.float32((observed.high - observed.low) / _STEPS)), _MIN_SCALE)
    zero_point = min(max(round(-128 - observed.low / scale), -128), 127)
    return Quantization((scale,), zero_point)


def weight_scales(weight: Array, per_channel: bool) -> _Float64:
    """Scales (O,) of float weights (O, ...), each a float32 value; all equal without
    `per_channel`. Channels of zeros get the largest scale of the others."""
    rows = np.abs(weight.astype(np.float64)).reshape(weight.shape[0], -1)
    largest = rows.max(axis=1)
    shared = codebook_scales(weight, _WEIGHT_MAX) if per_channel else None
    if shared is not None:
        scales = shared
    elif per_channel:
        scales = largest / _WEIGHT_MAX
    else:
        scales = np.full(len(largest), largest.max() / _WEIGHT_MAX)
    top = float(scales[largest > 0].max(initial=0.0)) or 1.0
    # A channel far below the others adds nothing that its own scale would have to resolve.
    floor = max(top * 2.0**-40, float(np.finfo(np.float32).tiny))
    scales = np.where(largest > 0, np.maximum(scales, floor), top)
    return scales.astype(np.float32).astype(np.float64)


def _from_codebook(weight: Array, per_channel: bool) -> bool:
    return per_channel and codebook_scales(weight, _WEIGHT_MAX) is not None


def fixed_output(op: Op) -> Quantization | None:
    """The quantization that TFLite prescribes for the output, if it does."""
    match op.attributes:
        case Softmax() | Unary(kind=UnaryKind.SIGMOID):
            return PROBABILITY
        case Unary(kind=UnaryKind.TANH):
            return TANH
    return None


class _Activations:
    """Chooses one quantization for each group of tensors that have to share one."""

    def __init__(
        self, graph: Graph, inputs: Sequence[Array], method: str, per_channel: bool
    ) -> None:
        self._graph = graph
        self._per_channel = per_channel
        names = (*graph.inputs, *(op.output for op in graph.ops))
        self._parent = {name: name for name in names}
        self._fixed: dict[str, Quantization] = {}
        self._tie()
        observed = observe(graph, inputs)
        self._include_padding(observed)
        groups = {name: self._root(name) for name in names}
        self._ranges: dict[str, Range] = {}
        for name, root in groups.items():
            if root not in self._fixed:
                self._ranges[root] = self._ranges.get(root, Range()) | observed[name]
        if method == "mse":
            free = {name: root for name, root in groups.items() if root in self._ranges}
            self._ranges = clip(graph, inputs, free, self._ranges)

    def quantizations(self) -> dict[str, Quantization]:
        """By tensor name."""
        chosen = {root: affine(found) for root, found in self._ranges.items()} | self._fixed
        # Raising one scale can make another one too small; ops are in order, so this settles
        # in one round but for tensors that are tied to an earlier one.
        for _ in range(len(self._graph.ops) + 1):
            if not self._raise_scales(chosen):
                break
        return {name: chosen[self._root(name)] for name in self._parent}

    def _root(self, name: str) -> str:
        while self._parent[name] != name:
            name = self._parent[name]
        return name

    def _join(self, one: str, other: str) -> None:
        a, b = self._root(one), self._root(other)
        if a != b:
            self._parent[b] = a
            if b in self._fixed:
                self._fixed[a] = self._fixed.pop(b)

    def _tie(self) -> None:
        for op in self._graph.ops:
            if isinstance(op.attributes, Pool2D | Reshape | Transpose | Pad):
                self._join(op.inputs[0], op.output)
            elif (fixed := fixed_output(op)) is not None:
                self._fixed[op.output] = fixed
        for op in self._graph.ops:
            if isinstance(op.attributes, Concat):
                # One fixed quantization for all is fine; otherwise those inputs are rescaled.
                found = {self._fixed.get(self._root(name)) for name in op.inputs}
                for name in op.inputs:
                    if len(found) == 1 or self._root(name) not in self._fixed:
                        self._join(op.output, name)

    def _include_padding(self, observed: dict[str, Range]) -> None:
        """What a Pad writes must not saturate, even where no calibration sample is that large."""
        for op in self._graph.ops:
            if isinstance(op.attributes, Pad):
                value = op.attributes.value
                observed[op.output] |= Range(min(value, 0.0), max(value, 0.0))

    def _raise_scales(self, chosen: dict[str, Quantization]) -> bool:
        """Make output scales large enough for a representable multiplier."""
        changed = False
        for op in self._graph.ops:
            target, least = op.output, self._least_scale(op, chosen)
            if isinstance(op.attributes, Softmax):
                target = op.inputs[0]
                least = _MIN_SOFTMAX_SCALE / max(abs(op.attributes.beta), _MIN_SCALE)
            root = self._root(target) if target in self._parent else None
            if root is None or root in self._fixed:
                continue
            scale = chosen[root].scale[0]
            if scale < least:
                chosen[root] = affine(_with_scale(self._ranges[root], least))
                changed |= chosen[root].scale[0] > scale
        return changed

    def _least_scale(self, op: Op, chosen: dict[str, Quantization]) -> float:
        def scale(name: str) -> float:
            data = self._graph.tensors[name].data
            if data is None:
                return chosen[self._root(name)].scale[0]
            return affine(_constant_range(data)).scale[0]

        match op.attributes:
            case Conv2D() | FullyConnected():
                weight = self._graph.tensors[op.inputs[1]].data
                assert weight is not None
                largest = float(weight_scales(weight, self._per_channel).max())
                # One step of the sum, which no finer output scale could resolve.
                return scale(op.inputs[0]) * largest
            case Mean(axes=axes):
                count = math.prod(self._graph.tensors[op.inputs[0]].shape[a] for a in axes)
                # The rescaled sum of int8 values must stay inside int32.
                wide = max(1 / _MAX_MULTIPLIER, (_STEPS + 1) * count / 2.0**31)
                return scale(op.inputs[0]) * wide
            case Binary(kind=BinaryKind.MUL):
                return scale(op.inputs[0]) * scale(op.inputs[1]) / _MAX_MULTIPLIER
            case Softmax():
                return 0.0
            case _:
                return max(scale(name) for name in op.inputs) / _MAX_MULTIPLIER


def _with_scale(found: Range, scale: float) -> Range:
    """A range of the same proportions, wide enough for `scale`."""
    span = found.high - found.low
    low, high = (found.low / span, found.high / span) if span else (0.0, 1.0)
    steps = _STEPS * scale * (1 + 2.0**-20)  # float32 may round the scale down
    return Range(low * steps, high * steps)


def _constant_range(data: Array) -> Range:
    return Range(min(float(data.min()), 0.0), max(float(data.max()), 0.0))


class _Rewriter:
    """Builds the int8 graph, tensors under their old names."""

    def __init__(
        self,
        graph: Graph,
        quantizations: dict[str, Quantization],
        per_channel: bool,
        compact: bool,
    ) -> None:
        self._graph = graph
        self._quantizations = quantizations
        self._per_channel = per_channel
        self._compact = compact
        self._ops: list[Op] = []
        self._tensors: dict[str, Tensor] = {
            name: Tensor(name, graph.tensors[name].shape, "int8", quantization)
            for name, quantization in quantizations.items()
        }

    def run(self) -> Graph:
        for op in self._graph.ops:
            self._rewrite(op)
        graph = self._graph
        used = {name for op in self._ops for name in (*op.inputs, op.output)}
        tensors = {n: t for n, t in self._tensors.items() if n in used or n in graph.inputs}
        return Graph(graph.name, tensors, tuple(self._ops), graph.inputs, graph.outputs)

    def _rewrite(self, op: Op) -> None:
        match op.attributes:
            case Conv2D() | FullyConnected():
                op = replace(op, inputs=(op.inputs[0], *self._weights(op)))
            case Concat():
                op = replace(op, inputs=tuple(self._rescaled(op, name) for name in op.inputs))
        for name in op.inputs:
            if name not in self._tensors:
                self._add_constant(name)
        self._ops.append(op)

    def _add_constant(self, name: str) -> None:
        """A constant operand: 8 bits over its own range."""
        data = self._graph.tensors[name].data
        assert data is not None
        quantization = affine(_constant_range(data))
        q = np.rint(data.astype(np.float64) / quantization.scale[0]) + quantization.zero_point
        self._tensors[name] = Tensor(
            name, data.shape, "int8", quantization, np.clip(q, -128, 127).astype(np.int8)
        )

    def _rescaled(self, op: Op, name: str) -> str:
        """The input in the output's quantization."""
        if name not in self._quantizations:
            raise UnsupportedError(f"op '{op.name}' joins the constant '{name}'")
        target = self._quantizations[op.output]
        if self._quantizations[name] == target:
            return name
        rescaled = self._free_name(f"{name}.for.{op.name}")
        self._tensors[rescaled] = replace(self._tensors[name], name=rescaled, quantization=target)
        self._ops.append(Op(f"{op.name}.quantize", Quantize(), (name,), rescaled))
        return rescaled

    def _weights(self, op: Op) -> list[str]:
        weight = self._graph.tensors[op.inputs[1]].data
        bias = self._graph.tensors[op.inputs[2]].data if len(op.inputs) > 2 else None
        assert weight is not None
        input_scale = self._quantizations[op.inputs[0]].scale[0]
        output_scale = self._quantizations[op.output].scale[0]
        scales = weight_scales(weight, self._per_channel)
        shared = bool((scales != scales[0]).any()) and _from_codebook(weight, self._per_channel)
        compact = self._compact and sum(1 for _ in self._graph.consumers(op.inputs[1])) == 1
        if compact and not shared:
            scales = short_parameters.raised(scales, input_scale, output_scale)
        scales, q, bias_q = _fit_int32(weight, bias, scales, input_scale, output_scale)
        bits = MULTIPLIER_BITS
        if compact and shared:
            # The integers stay: rounded one by one, scales would tear equal centroids apart.
            scales = short_parameters.nearest(scales, input_scale, output_scale)
            bits = short_parameters.CODEBOOK_MULTIPLIER_BITS
        elif compact:
            bits = short_parameters.MULTIPLIER_BITS
        stored = scales[:1] if (scales == scales[0]).all() else scales
        values = tuple(float(s) for s in stored)
        quantization = Quantization(values, 0, multiplier_bits=bits)
        names = [self._add(op, "weight", op.inputs[1], q, quantization)]
        if bias_q is not None:
            products = (stored * input_scale).astype(np.float32)
            smallest = float(np.finfo(np.float32).tiny)
            scale = tuple(max(float(s), smallest) for s in products)
            names.append(self._add(op, "bias", op.inputs[2], bias_q, Quantization(scale, 0)))
        return names

    def _add(self, op: Op, role: str, name: str, data: Array, quantization: Quantization) -> str:
        """Store a constant under its old name, or a new one where another op's differs."""
        old = self._tensors.get(name)
        if old is not None:
            assert old.data is not None
            if old.quantization == quantization and np.array_equal(old.data, data):
                return name
            name = self._free_name(f"{op.name}.{role}.int")
        dtype = "int8" if data.dtype == np.int8 else "int32"
        self._tensors[name] = Tensor(name, data.shape, dtype, quantization, data)
        return name

    def _free_name(self, name: str) -> str:
        while name in self._tensors or name in self._graph.tensors:
            name += "_"
        return name


def _fit_int32(
    weight: Array,
    bias: Array | None,
    scales: _Float64,
    input_scale: float,
    output_scale: float,
) -> tuple[_Float64, Array, Array | None]:
    """(scales, int8 weights, int32 bias) whose sums cannot leave int32.

    Where a bias is so large against its weights that it would overflow, or a multiplier so
    small that it could not be represented, the weight scale is doubled until it fits: such
    weights hardly move the result.
    """
    shape = (-1, *(1,) * (weight.ndim - 1))
    per_tensor = bool((scales == scales[0]).all())
    real_bias = np.zeros(len(scales)) if bias is None else bias.astype(np.float64)
    while True:
        q = np.clip(
            np.rint(weight.astype(np.float64) / scales.reshape(shape)), -_WEIGHT_MAX, _WEIGHT_MAX
        )
        bias_q = np.rint(real_bias / (scales * input_scale))
        sums = np.abs(q).reshape(len(scales), -1).sum(axis=1) * _STEPS + np.abs(bias_q)
        # On top of that the rounding of the multiplication adds at most one.
        bad = (sums >= _INT32_MAX) & (np.abs(bias_q) > 0)
        bad |= scales * input_scale / output_scale < _MIN_MULTIPLIER
        if not bad.any():
            return scales, q.astype(np.int8), None if bias is None else bias_q.astype(np.int32)
        scales = scales * 2 if per_tensor else np.where(bad, scales * 2, scales)


def _with_float_io(graph: Graph) -> Graph:
    """The int8 graph between Quantize ops; the float32 tensors have the old names."""
    ends = dict.fromkeys((*graph.inputs, *graph.outputs))
    renamed = {name: graph.fresh(f"{name}.int8") for name in ends}

    def rename(names: Iterable[str]) -> tuple[str, ...]:
        return tuple(renamed.get(name, name) for name in names)

    tensors = {renamed.get(n, n): replace(t, name=renamed.get(n, n))
               for n, t in graph.tensors.items()}  # fmt: skip
    for name in ends:
        tensors[name] = Tensor(name, graph.tensors[name].shape, "float32")
    before = [Op(f"{n}.quantize", Quantize(), (n,), renamed[n]) for n in graph.inputs]
    inside = [
        replace(op, inputs=rename(op.inputs), output=rename([op.output])[0]) for op in graph.ops
    ]
    after = [Op(f"{n}.dequantize", Quantize(), (renamed[n],), n)
             for n in dict.fromkeys(graph.outputs)]  # fmt: skip
    return Graph(graph.name, tensors, (*before, *inside, *after), graph.inputs, graph.outputs)
