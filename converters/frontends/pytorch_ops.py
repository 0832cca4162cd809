"""The ATen operators that the PyTorch front end knows: one handler each.

A handler gets a `Call` (the operator's arguments by schema name, activations as `Value`,
everything that depends on parameters only as a torch tensor) and appends ops to the builder.
Semantics follow PyTorch's documentation of the operator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from zeroskip.converters.frontends.pytorch_graph import (
    FloatArray,
    GraphBuilder,
    Operand,
    Value,
    is_batched,
    lifted,
    natural,
)
from zeroskip.converters.ir import (
    BinaryKind,
    Clamp,
    Concat,
    Conv2D,
    FullyConnected,
    Mean,
    Pad,
    Pool2D,
    PoolKind,
    Shape,
    Softmax,
    Transpose,
    Unary,
    UnaryKind,
    conv_output_size,
)
from zeroskip.errors import UnsupportedError


@dataclass(frozen=True)
class Call:
    """One operator call. `shape` is that of its (first) output, with the batch axis."""

    name: str  # where it is in the model, the op's name in the graph
    operator: str  # e.g. aten.convolution
    args: Mapping[str, Any]
    shape: Shape

    def refuse(self, what: str) -> UnsupportedError:
        return UnsupportedError(f"{self.operator} at '{self.name}': {what}")

    def value(self, argument: str) -> Value:
        """An argument that has to be an activation."""
        given = self.args[argument]
        if not isinstance(given, Value):
            raise self.refuse(f"argument '{argument}' must depend on the model's inputs")
        return given

    def constant(self, argument: str) -> FloatArray:
        """An argument that has to be constant, as float32."""
        given = self.args[argument]
        if given is None or isinstance(given, Value):
            raise self.refuse(
                f"argument '{argument}' must be constant (made of parameters and buffers)"
            )
        return to_numpy(given)

    def optional(self, argument: str) -> FloatArray | None:
        return None if self.args.get(argument) is None else self.constant(argument)

    def operand(self, argument: str) -> Operand:
        given = self.args[argument]
        return given if isinstance(given, Value) else self.constant(argument)

    def number(self, argument: str, default: float) -> float:
        given = self.args.get(argument)
        if given is None:
            return default
        array = self.constant(argument)
        if array.size != 1:
            raise self.refuse(f"argument '{argument}' must be one number, not {array.shape}")
        return float(array.reshape(-1)[0])

    def pair(self, argument: str, default: int) -> tuple[int, int]:
        """A vertical and a horizontal number, for which torch also takes one, or none."""
        given = [int(v) for v in self.args.get(argument) or []] or [default]
        return given[0], given[-1]


def to_numpy(value: Any) -> FloatArray:
    """A torch tensor or a Python number as a float32 array of its shape."""
    if isinstance(value, bool | int | float):
        return np.asarray(value, np.float32)
    array: FloatArray = value.detach().cpu().float().contiguous().numpy()
    return array


Handler = Callable[[GraphBuilder, Call], Value | tuple[Value | None, ...]]


# --- weights ----------------------------------------------------------------------------------


def _convolution(b: GraphBuilder, call: Call) -> Value:
    x, weight = call.value("input"), call.constant("weight")
    if call.args.get("transposed") or any(call.args.get("output_padding") or ()):
        raise call.refuse("transposed convolutions are not supported; conv1d and conv2d are")
    spatial = weight.ndim - 2
    if spatial not in (1, 2) or len(x.shape) != weight.ndim or x.shape[0] != 1:
        raise call.refuse(
            f"input {list(x.shape)} and weight {list(weight.shape)}; supported are batches of 1 "
            "of one- and two-dimensional data: (1, C, L) and (1, C, H, W)"
        )

    def geometry(argument: str, unused: int) -> tuple[int, int]:
        given = call.pair(argument, unused)
        return given if spatial == 2 else (unused, given[1])

    stride, dilation = geometry("stride", 1), geometry("dilation", 1)
    vertical, horizontal = geometry("padding", 0)
    inputs = [b.shaped(x, _spatial(x))]
    inputs.append(b.constant(f"{call.name}.weight", _filters(weight)))
    bias = call.optional("bias")
    if bias is not None:
        inputs.append(b.constant(f"{call.name}.bias", bias))
    attributes = Conv2D(
        stride, dilation, (vertical, vertical, horizontal, horizontal), int(call.args["groups"])
    )
    out = natural(call.shape)
    return b.emit(call.name, attributes, inputs, out if spatial == 2 else lifted(out), call.shape)


def _spatial(x: Value) -> Shape:
    shape = x.shape[1:]
    return lifted(shape) if len(shape) == 2 else shape


def _filters(weight: FloatArray) -> FloatArray:
    return weight if weight.ndim == 4 else weight[:, :, None, :]


def _linear(b: GraphBuilder, call: Call) -> Value:
    weight = call.constant("weight")
    if weight.ndim != 2:
        raise call.refuse(f"weight {list(weight.shape)} must be (outputs, inputs)")
    return _fully_connected(b, call, call.value("input"), weight, call.optional("bias"))


def _fully_connected(
    b: GraphBuilder, call: Call, x: Value, weight: FloatArray, bias: FloatArray | None
) -> Value:
    inputs = [b.natural(x), b.constant(f"{call.name}.weight", weight)]
    if bias is not None:
        inputs.append(b.constant(f"{call.name}.bias", bias))
    return b.emit(call.name, FullyConnected(), inputs, natural(call.shape), call.shape)


def _addmm(b: GraphBuilder, call: Call) -> Value:
    weight = call.constant("mat2").T
    if call.args.get("alpha", 1) != 1 or call.args.get("beta", 1) != 1:
        raise call.refuse("alpha and beta must be 1")
    bias = call.constant("self")
    if bias.size != weight.shape[0]:
        raise call.refuse(f"added tensor {list(bias.shape)} must be ({weight.shape[0]},)")
    return _fully_connected(b, call, call.value("mat1"), weight, bias.reshape(-1))


def _mm(b: GraphBuilder, call: Call) -> Value:
    weight = call.constant("mat2")
    if weight.ndim == 3 and weight.shape[0] == 1:
        weight = weight[0]
    if weight.ndim != 2:
        raise call.refuse(f"right side {list(weight.shape)} must be one matrix")
    return _fully_connected(b, call, call.value("self"), weight.T, None)


def _batch_norm(b: GraphBuilder, call: Call) -> tuple[Value | None, ...]:
    """y = x * scale + shift per channel (axis 1), from the running statistics."""
    x = call.value("input")
    if call.args.get("training"):
        raise call.refuse("exported in training mode; call .eval() on the module before exporting")
    if len(x.shape) < 2 or x.shape[0] != 1:
        raise call.refuse(f"input {list(x.shape)} must be (1, C, ...)")
    mean, variance = (call.constant(f"running_{w}").astype(np.float64) for w in ("mean", "var"))
    scale = 1 / np.sqrt(variance + float(call.args["eps"]))
    weight, bias = call.optional("weight"), call.optional("bias")
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale
    if bias is not None:
        shift = shift + bias
    shape = (-1, *(1,) * (len(x.shape) - 2))
    scaled = b.binary(
        f"{call.name}.scale", BinaryKind.MUL, x, np.float32(scale).reshape(shape), x.shape
    )
    shifted = b.binary(call.name, BinaryKind.ADD, scaled, np.float32(shift).reshape(shape), x.shape)
    return (shifted, None, None)


def _batch_norm_plain(b: GraphBuilder, call: Call) -> Value:
    result = _batch_norm(b, call)[0]
    assert result is not None
    return result


# --- element-wise -----------------------------------------------------------------------------


def _binary(kind: BinaryKind, b: GraphBuilder, call: Call) -> Value:
    left, right = call.operand("self"), call.operand("other")
    alpha = call.number("alpha", 1)
    if alpha != 1:
        if isinstance(right, Value):
            factor = np.full(1, alpha, np.float32)
            right = b.binary(f"{call.name}.alpha", BinaryKind.MUL, right, factor, right.shape)
        else:
            right = right * np.float32(alpha)
    return b.binary(call.name, kind, left, right, call.shape)


def _rsub(b: GraphBuilder, call: Call) -> Value:
    swapped = {**call.args, "self": call.args["other"], "other": call.args["self"]}
    return _binary(BinaryKind.SUB, b, Call(call.name, call.operator, swapped, call.shape))


def _div(b: GraphBuilder, call: Call) -> Value:
    if call.args.get("rounding_mode") is not None:
        raise call.refuse("rounding_mode must be None")
    divisor = call.constant("other").astype(np.float64)
    if not np.all(np.abs(divisor) > np.finfo(np.float32).tiny):
        raise call.refuse("division by zero or by a denormal number")
    inverse = np.asarray(1 / divisor, np.float32)
    return b.binary(call.name, BinaryKind.MUL, call.value("self"), inverse, call.shape)


def _neg(b: GraphBuilder, call: Call) -> Value:
    minus_one = np.full(1, -1, np.float32)
    return b.binary(call.name, BinaryKind.MUL, call.value("self"), minus_one, call.shape)


def _unary(b: GraphBuilder, call: Call, attributes: Unary, argument: str = "self") -> Value:
    x = call.value(argument)
    return b.emit(call.name, attributes, [x.tensor], b.ir_shape(x), call.shape)


def _function(kind: UnaryKind, b: GraphBuilder, call: Call) -> Value:
    return _unary(b, call, Unary(kind))


def _relu(b: GraphBuilder, call: Call) -> Value:
    return _unary(b, call, Unary(UnaryKind.CLAMP, Clamp(0.0)))


def _relu6(b: GraphBuilder, call: Call) -> Value:
    return _unary(b, call, Unary(UnaryKind.CLAMP, Clamp(0.0, 6.0)))


def _clamp(low: str, high: str, b: GraphBuilder, call: Call) -> Value:
    lowest, highest = call.number(low, -math.inf), call.number(high, math.inf)
    if math.isnan(lowest) or math.isnan(highest):
        raise call.refuse("the limits must be numbers")
    # torch: the upper limit wins where the limits cross.
    clamp = Clamp(min(lowest, highest), highest)
    return _unary(b, call, Unary(UnaryKind.CLAMP, clamp))


def _leaky_relu(b: GraphBuilder, call: Call) -> Value:
    alpha = float(np.float32(call.number("negative_slope", 0.01)))
    return _unary(b, call, Unary(UnaryKind.LEAKY_RELU, alpha=alpha))


def _prelu(b: GraphBuilder, call: Call) -> Value:
    weight, x = call.constant("weight"), call.value("self")
    if weight.size == 1:
        alpha = float(weight.reshape(-1)[0])
        return _unary(b, call, Unary(UnaryKind.LEAKY_RELU, alpha=alpha))
    if weight.ndim == 1:  # aten.prelu: along axis 1; aten._prelu_kernel: broadcasts already
        weight = weight.reshape(-1, *(1,) * (len(x.shape) - 2))
    rising = b.emit(f"{call.name}.positive", Unary(UnaryKind.CLAMP, Clamp(low=0.0)), [x.tensor],
                    b.ir_shape(x), x.shape)  # fmt: skip
    falling = b.emit(f"{call.name}.negative", Unary(UnaryKind.CLAMP, Clamp(high=0.0)), [x.tensor],
                     b.ir_shape(x), x.shape)  # fmt: skip
    scaled = b.binary(f"{call.name}.slope", BinaryKind.MUL, falling, weight, x.shape)
    return b.binary(call.name, BinaryKind.ADD, rising, scaled, call.shape)


def _softmax(b: GraphBuilder, call: Call) -> Value:
    x = call.value("self")
    tensor, axes = b.by_axis(x)
    axis = axes.get(_axis(call.args["dim"], len(x.shape)))
    if axis is None:
        raise call.refuse("softmax over the batch axis is not supported; give dim=1 or dim=-1")
    if call.args.get("half_to_float"):
        raise call.refuse("half precision is not supported; convert the module with .float()")
    shape = b.ir_shape(Value(tensor, x.shape))
    return b.emit(call.name, Softmax(axis), [tensor], shape, call.shape)


# --- windows and reductions -------------------------------------------------------------------


def _image(b: GraphBuilder, call: Call) -> tuple[str, tuple[int, int, int]]:
    x = call.value("self")
    if len(x.shape) != 4 or x.shape[0] != 1:
        raise call.refuse(f"input {list(x.shape)} must be (1, C, H, W)")
    c, h, w = x.shape[1:]
    return b.shaped(x, (c, h, w)), (c, h, w)


def _max_pool(b: GraphBuilder, call: Call) -> tuple[Value | None, ...]:
    if call.pair("dilation", 1) != (1, 1):
        raise call.refuse(f"dilation {call.args['dilation']} is not supported, only 1")
    return (_pool(b, call, PoolKind.MAX, include_pad=False), None)


def _max_pool_plain(b: GraphBuilder, call: Call) -> Value:
    result = _max_pool(b, call)[0]
    assert result is not None
    return result


def _average_pool(b: GraphBuilder, call: Call) -> Value:
    kernel = call.pair("kernel_size", 1)
    if call.args.get("divisor_override") not in (None, math.prod(kernel)):
        raise call.refuse("divisor_override is not supported")
    return _pool(b, call, PoolKind.AVERAGE, include_pad=bool(call.args["count_include_pad"]))


def _pool(b: GraphBuilder, call: Call, kind: PoolKind, include_pad: bool) -> Value:
    tensor, (_, *size) = _image(b, call)
    kernel = call.pair("kernel_size", 1)
    stride = call.pair("stride", 0)
    stride = (stride[0] or kernel[0], stride[1] or kernel[1])
    before = call.pair("padding", 0)
    after = list(before)
    for i in range(2):
        outputs = call.shape[2 + i]
        if outputs > conv_output_size(size[i], kernel[i], stride[i], 1, before[i], before[i]):
            # ceil_mode: the last window starts inside the padded input and sticks out of it.
            after[i] = (outputs - 1) * stride[i] + kernel[i] - size[i] - before[i]
    include_pad = include_pad and any((*before, *after))
    if include_pad and before == (0, 0):
        include_pad = False  # torch counts no element beyond the padding that was asked for
    if include_pad and tuple(after) != before:
        raise call.refuse("ceil_mode with padding needs count_include_pad=False")
    padding = (before[0], after[0], before[1], after[1])
    attributes = Pool2D(kind, kernel, stride, padding, include_pad)
    return b.emit(call.name, attributes, [tensor], call.shape[1:], call.shape)


def _adaptive_pool(kind: PoolKind, b: GraphBuilder, call: Call) -> Value:
    tensor, (_, height, width) = _image(b, call)
    rows, columns = call.shape[2:]
    if kind is PoolKind.AVERAGE and rows == columns == 1:
        # The same value; in int8 a mean gets a range of its own.
        return b.emit(call.name, Mean((1, 2)), [tensor], call.shape[1:2], call.shape)
    uneven = bool(height % rows or width % columns)
    kernel = (max(height // rows, 1), max(width // columns, 1))
    attributes = Pool2D(kind, kernel, kernel, adaptive=uneven)
    return b.emit(call.name, attributes, [tensor], call.shape[1:], call.shape)


def _adaptive_max_pool(b: GraphBuilder, call: Call) -> tuple[Value | None, ...]:
    return (_adaptive_pool(PoolKind.MAX, b, call), None)


def _mean(b: GraphBuilder, call: Call) -> Value:
    x = call.value("self")
    rank = len(x.shape)
    asked = call.args.get("dim")
    reduced = [_axis(d, rank) for d in asked] if asked else list(range(rank))
    if is_batched(x.shape) and 0 in reduced:
        raise call.refuse(
            f"averages over the batch axis; supported are means over axes 1 to {rank - 1}"
        )
    tensor, axes = b.by_axis(x)
    shape = b.ir_shape(Value(tensor, x.shape))
    gone = tuple(sorted(axes[axis] for axis in reduced))
    out = tuple(d for i, d in enumerate(shape) if i not in gone)
    return b.emit(call.name, Mean(gone), [tensor], out or (1,), call.shape)


# --- shapes -----------------------------------------------------------------------------------


def _axis(axis: int, rank: int) -> int:
    return int(axis) % rank


def _view(b: GraphBuilder, call: Call) -> Value:
    """Anything that leaves the elements and their order alone."""
    given = call.args.get("self", call.args.get("input"))
    if not isinstance(given, Value):
        raise call.refuse("argument 'self' must depend on the model's inputs")
    if math.prod(given.shape) != math.prod(call.shape):
        raise call.refuse(f"repeating elements ({list(given.shape)} to {list(call.shape)})")
    return Value(given.tensor, call.shape)


def _dropout(b: GraphBuilder, call: Call) -> Value:
    if call.args.get("train"):
        raise call.refuse("exported in training mode; call .eval() on the module before exporting")
    return _view(b, call)


def _permute(b: GraphBuilder, call: Call) -> Value:
    x = call.value("self")
    perm = [_axis(d, len(x.shape)) for d in call.args["dims"]]
    # Axes of length 1 hold no order: leave them out, the batch among them.
    long = [axis for axis, d in enumerate(x.shape) if d != 1]
    order = tuple(long.index(axis) for axis in perm if axis in long)
    if order == tuple(range(len(order))):
        return Value(x.tensor, call.shape)
    source = tuple(x.shape[axis] for axis in long)
    tensor = b.shaped(x, source)
    out = tuple(source[i] for i in order)
    return b.emit(call.name, Transpose(order), [tensor], out, call.shape)


def _concat(b: GraphBuilder, call: Call) -> Value:
    given = call.args["tensors"]
    values = [v for v in given if isinstance(v, Value)]
    if len(values) != len(given):
        raise call.refuse("joining constants is not supported, only activations")
    if len(values) == 1:
        return Value(values[0].tensor, call.shape)
    axis = _axis(call.args["dim"], len(call.shape))
    placed = [b.by_axis(v) for v in values]
    if any(axes != placed[0][1] for _, axes in placed):
        placed = [(b.natural(v), {a: a - is_batched(v.shape) for a in axes})
                  for v, (_, axes) in zip(values, placed, strict=True)]  # fmt: skip
    target = placed[0][1].get(axis)
    if target is None or any(axes != placed[0][1] for _, axes in placed):
        raise call.refuse("joining along the batch axis is not supported")
    shape = list(b.ir_shape(Value(placed[0][0], values[0].shape)))
    shape[target] = call.shape[axis]
    names = [name for name, _ in placed]
    return b.emit(call.name, Concat(target), names, tuple(shape), call.shape)


def _pad(b: GraphBuilder, call: Call) -> Value:
    x = call.value("self")
    amounts = [int(v) for v in call.args["pad"]]
    if min(amounts, default=0) < 0:
        raise call.refuse(f"cropping (padding {amounts}) is not supported")
    if not any(amounts):
        return Value(x.tensor, call.shape)
    if len(x.shape) == 3 and is_batched(x.shape):
        # The form of the convolution that it most likely serves.
        x = Value(b.shaped(x, lifted(natural(x.shape))), x.shape)
    tensor, axes = b.by_axis(x)
    shape = list(b.ir_shape(Value(tensor, x.shape)))
    padding = [(0, 0)] * len(shape)
    for i in range(len(amounts) // 2):
        pair = (amounts[2 * i], amounts[2 * i + 1])
        axis = axes.get(len(x.shape) - 1 - i)
        if axis is None and any(pair):
            raise call.refuse("padding the batch axis is not supported")
        if axis is not None:
            padding[axis] = pair
            shape[axis] += sum(pair)
    value = float(np.float32(call.number("value", 0.0)))
    return b.emit(call.name, Pad(tuple(padding), value), [tensor], tuple(shape), call.shape)


HANDLERS: Final[Mapping[str, Handler]] = MappingProxyType({
    "convolution": _convolution,
    "conv1d": _convolution,
    "conv2d": _convolution,
    "linear": _linear,
    "addmm": _addmm,
    "mm": _mm,
    "bmm": _mm,
    "batch_norm": _batch_norm_plain,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "add": partial(_binary, BinaryKind.ADD),
    "sub": partial(_binary, BinaryKind.SUB),
    "mul": partial(_binary, BinaryKind.MUL),
    "rsub": _rsub,
    "div": _div,
    "neg": _neg,
    "relu": _relu,
    "relu6": _relu6,
    "hardtanh": partial(_clamp, "min_val", "max_val"),
    "clamp": partial(_clamp, "min", "max"),
    "clamp_min": partial(_clamp, "min", "max"),
    "clamp_max": partial(_clamp, "min", "max"),
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
    "sigmoid": partial(_function, UnaryKind.SIGMOID),
    "tanh": partial(_function, UnaryKind.TANH),
    "hardswish": partial(_function, UnaryKind.HARDSWISH),
    "softmax": _softmax,
    "_softmax": _softmax,
    "max_pool2d": _max_pool_plain,
    "max_pool2d_with_indices": _max_pool,
    "avg_pool2d": _average_pool,
    "adaptive_avg_pool2d": partial(_adaptive_pool, PoolKind.AVERAGE),
    "_adaptive_avg_pool2d": partial(_adaptive_pool, PoolKind.AVERAGE),
    "adaptive_max_pool2d": _adaptive_max_pool,
    "mean": _mean,
    "permute": _permute,
    "cat": _concat,
    "constant_pad_nd": _pad,
    "dropout": _dropout,
    "native_dropout": _dropout,
    **dict.fromkeys(
        (
            "alias", "as_strided", "clone", "contiguous", "detach", "expand", "flatten",
            "lift_fresh_copy", "reshape", "squeeze", "to", "_to_copy", "unflatten", "unsqueeze",
            "_unsafe_view", "view", "view_copy",
        ),
        _view,
    ),
})  # fmt: skip

# Families of operators, for the message that refuses another one.
SUPPORTED: Final = (
    "conv1d, conv2d, linear, batch_norm, relu, relu6, hardtanh, clamp, leaky_relu, prelu, "
    "sigmoid, tanh, hardswish, hardsigmoid, silu, max_pool, avg_pool, adaptive pooling, add, sub, "
    "mul, division by constants, cat, pad (constant), mean, softmax, dropout, reshape, permute"
)
