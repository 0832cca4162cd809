"""TFLite operators that rearrange or reduce: one function each, into the Builder.

Axes of the source are translated to the layout that a tensor has in the graph.
"""

from __future__ import annotations

import math

from zeroskip.converters.frontends.tflite_arguments import (
    Consumers,
    argument,
    clamp,
    integers,
    option,
    same_dtypes,
)
from zeroskip.converters.frontends.tflite_builder import (
    Builder,
    Layout,
    is_spatial,
    natural_layout,
    order_free,
)
from zeroskip.converters.frontends.tflite_reader import MAX_RANK, SourceOperator
from zeroskip.converters.ir import (
    MAX_DIM,
    NO_CLAMP,
    Concat,
    Mean,
    Pad,
    Quantize,
    Reshape,
    Shape,
    Tensor,
    Transpose,
)


def reshape(b: Builder, operator: SourceOperator, consumers: Consumers) -> None:
    x, output = operator.inputs[0], operator.outputs[0]
    same_dtypes(b, operator)
    before, after = b.source(x).shape, b.source(output).shape
    _check_reshape(b, operator, before, after)
    known = b.layouts.get(x, {})
    if before == after and b.quantization(x) == b.quantization(output) and known:
        b.alias(output, known)
        if Layout.FLAT in known:
            b.origins[output] = b.origins[x]
        return
    flat = Layout.FLAT in known or (
        Layout.CHANNEL_MAJOR in known
        and Layout.SOURCE not in known
        and not order_free(before)
        and consumers.only_whole_rows(output)
    )
    if flat:
        b.origins[output] = b.origins[x] if Layout.FLAT in known else before[1:]
        name = known.get(Layout.FLAT) or known[Layout.CHANNEL_MAJOR]
        b.compute("reshape", Reshape(), [name], output, Layout.FLAT)
        return
    layout = Layout.SOURCE
    if is_spatial(after) and order_free(after):
        layout = Layout.CHANNEL_MAJOR
    b.compute("reshape", Reshape(), [b.in_source_order(x)], output, layout)


def _check_reshape(b: Builder, operator: SourceOperator, before: Shape, after: Shape) -> None:
    if math.prod(before) != math.prod(after):
        raise b.malformed(f"input {list(before)} and output {list(after)} differ in size")
    if operator.kind != "RESHAPE" or len(operator.inputs) < 2 or operator.inputs[1] < 0:
        return
    wanted = b.source(operator.inputs[1])
    if wanted.data is not None and wanted.dtype == "int32":
        dims = wanted.data.reshape(-1)
        if len(dims) != len(after) or any(
            w not in (-1, d) for w, d in zip(dims.tolist(), after, strict=True)
        ):
            raise b.unsupported(f"shape {dims.tolist()} is not the output's {list(after)}")


def concatenation(b: Builder, operator: SourceOperator, _: Consumers) -> None:
    output = operator.outputs[0]
    same_dtypes(b, operator, len(operator.inputs))
    if clamp(b, operator) != NO_CLAMP:
        raise b.unsupported("fused activation; supported is NONE")
    shape = b.source(output).shape
    rank = len(shape)
    axis = _axis(b, option(b, operator, "Axis", -rank, rank - 1), rank)
    layout = natural_layout(shape)
    names = []
    for index in operator.inputs:
        tensor = b.source(index)
        if tensor.data is not None:
            raise b.unsupported(f"input '{tensor.name}' is a constant; supported are activations")
        if len(tensor.shape) != rank or (rank > 1 and (tensor.shape[0] == 1) != (shape[0] == 1)):
            raise b.unsupported(f"joins {list(tensor.shape)} to {list(shape)} along the batch")
        names.append(_rescaled(b, b.get(index, layout), output))
    b.compute("concat", Concat(_ir_axis(b, axis, shape, layout)), names, output, layout)


def _rescaled(b: Builder, name: str, output: int) -> str:
    """A part of a concatenation in the output's quantization."""
    part, wanted = b.tensors[name], b.quantization(output)
    if part.quantization == wanted:
        return name
    if b.source(output).dtype != "uint8":
        raise b.unsupported(
            f"int8 input '{name}' has another scale or zero point than the output; "
            "supported is one quantization throughout"
        )
    tensor = Tensor(f"{name}/rescaled", part.shape, "int8", wanted)
    return b.emit("rescale", Quantize(via_float32=True), (name,), tensor)


def _axis(b: Builder, axis: int, rank: int) -> int:
    """Counted from the front."""
    if not -rank <= axis < rank:
        raise b.malformed(f"axis {axis} of a tensor of rank {rank}")
    return axis % rank


def _ir_axis(b: Builder, axis: int, shape: Shape, layout: Layout) -> int:
    """Where an axis of the source is in a layout."""
    if layout is Layout.CHANNEL_MAJOR:
        return {1: 1, 2: 2, 3: 0}[axis] if axis else _no_batch(b)
    if len(shape) > 1 and shape[0] == 1:
        return axis - 1 if axis else _no_batch(b)
    return axis


def _no_batch(b: Builder) -> int:
    raise b.unsupported("works along the batch axis")


def pad(b: Builder, operator: SourceOperator, _: Consumers) -> None:
    x, output = operator.inputs[0], operator.outputs[0]
    same_dtypes(b, operator)
    shape = b.source(x).shape
    pairs = integers(b, operator, 1)
    if pairs.shape != (len(shape), 2) or pairs.min(initial=0) < 0 or pairs.max(initial=0) > MAX_DIM:
        raise b.malformed(f"paddings {pairs.tolist()} do not fit a tensor of rank {len(shape)}")
    layout = natural_layout(shape)
    if layout != natural_layout(b.source(output).shape):
        raise b.unsupported("pads the batch axis")
    by_axis: dict[int, tuple[int, int]] = {}
    for axis, (before, after) in enumerate(pairs.tolist()):
        if len(shape) > 1 and shape[0] == 1 and axis == 0:
            if before or after:
                raise b.unsupported("pads the batch axis")
            continue
        by_axis[_ir_axis(b, axis, shape, layout)] = (before, after)
    padding = tuple(by_axis[i] for i in range(len(by_axis)))
    attributes = Pad(padding, _pad_value(b, operator, output))
    b.compute("pad", attributes, [b.get(x, layout)], output, layout)


def _pad_value(b: Builder, operator: SourceOperator, output: int) -> float:
    if operator.kind == "PAD":
        return 0.0
    tensor = argument(b, operator, 2)
    if tensor.data is None or tensor.data.size != 1 or tensor.dtype != b.source(output).dtype:
        raise b.unsupported(f"pad value '{tensor.name}' must be one constant of the output's dtype")
    value = float(tensor.data.reshape(-1)[0])
    if not math.isfinite(value):
        raise b.malformed(f"pad value {value} is not finite")
    if tensor.dtype == "float32":
        return value
    scale, zero_point = b.scale_and_zero_point(output)
    return scale * (value - zero_point)


def transpose(b: Builder, operator: SourceOperator, _: Consumers) -> None:
    x, output = operator.inputs[0], operator.outputs[0]
    same_dtypes(b, operator)
    shape = b.source(x).shape
    perm = [int(axis) for axis in integers(b, operator, 1).reshape(-1)[: len(shape) + 1]]
    if sorted(perm) != list(range(len(shape))):
        raise b.malformed(f"permutation {perm} of a tensor of rank {len(shape)}")
    if b.source(output).shape != tuple(shape[axis] for axis in perm):
        raise b.malformed(f"permutation {perm} of {list(shape)} does not give the output")
    if len(shape) > 1 and (shape[0] == 1) != (shape[perm[0]] == 1):
        raise b.unsupported("moves the batch axis")
    name = b.get(x, Layout.SOURCE)
    if len(shape) > 1 and shape[0] == 1:
        if perm[0] != 0:
            raise b.unsupported("moves the batch axis")
        perm = [axis - 1 for axis in perm[1:]]
    b.compute("transpose", Transpose(tuple(perm)), [name], output, Layout.SOURCE)


def mean(b: Builder, operator: SourceOperator, _: Consumers) -> None:
    x, output = operator.inputs[0], operator.outputs[0]
    same_dtypes(b, operator)
    shape = b.source(x).shape
    rank = len(shape)
    given = [int(axis) for axis in integers(b, operator, 1).reshape(-1)[:MAX_RANK]]
    axes = {_axis(b, axis, rank) for axis in given}
    keep_dims = bool(operator.options.get("KeepDims", False))
    kept = [1 if i in axes else d for i, d in enumerate(shape) if keep_dims or i not in axes]
    if b.source(output).shape != tuple(kept) and (kept or b.source(output).shape != (1,)):
        raise b.malformed(f"the mean of {list(shape)} over {given} is not the declared output")
    has_batch = rank > 1 and shape[0] == 1
    reduced = {axis for axis in axes if axis or not has_batch}
    if not reduced:
        raise b.unsupported("averages over the batch axis only")
    # Without keep_dims the result has the kept axes in the source's order.
    mixed = 3 not in reduced and not {1, 2} <= reduced
    layout = natural_layout(shape)
    if layout is Layout.CHANNEL_MAJOR and not keep_dims and mixed:
        layout = Layout.SOURCE
    ir_axes = tuple(sorted(_ir_axis(b, axis, shape, layout) for axis in reduced))
    target = natural_layout(b.source(output).shape) if keep_dims else Layout.SOURCE
    b.compute("mean", Mean(ir_axes), [b.get(x, layout)], output, target)
