"""Clean-ups and batch-norm folding: fewer ops, the same elements."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskip.converters import reference
from zeroskip.converters.ir import (
    RELU,
    RELU6,
    Array,
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
    Softmax,
    Tensor,
    Transpose,
    Unary,
    UnaryKind,
)
from zeroskip.converters.passes.fold_batch_norm import fold_batch_norm
from zeroskip.converters.passes.simplify import simplify

Q = Quantization((0.5,), 3)


class Net:
    """A graph in the making; shapes are given, values are random."""

    def __init__(self, *shapes: tuple[int, ...], quantization: Quantization | None = None) -> None:
        self.rng = np.random.default_rng(0)
        self.quantization = quantization
        self.dtype = "float32" if quantization is None else "int8"
        self.tensors: dict[str, Tensor] = {}
        self.ops: list[Op] = []
        self.inputs = [self.tensor(f"x{i}", shape) for i, shape in enumerate(shapes)]

    def tensor(self, name: str, shape: tuple[int, ...], data: Array | None = None) -> str:
        self.tensors[name] = Tensor(name, shape, self.dtype, self.quantization, data)
        return name

    def constant(self, data: Any) -> str:
        array = np.asarray(data, self.dtype)
        return self.tensor(f"c{len(self.tensors)}", array.shape, array)

    def random(self, *shape: int) -> str:
        if self.dtype == "float32":
            return self.constant(self.rng.normal(size=shape))
        name = f"w{len(self.tensors)}"
        data = self.rng.integers(-127, 128, shape).astype(np.int8)
        self.tensors[name] = Tensor(name, shape, "int8", Quantization((0.25,), 0), data)
        return name

    def op(self, attributes: Any, inputs: Sequence[str] | str, shape: tuple[int, ...]) -> str:
        names = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        name = self.tensor(f"t{len(self.ops)}", shape)
        self.ops.append(Op(f"op{len(self.ops)}", attributes, names, name))
        return name

    def graph(self, *outputs: str) -> Graph:
        return Graph("net", self.tensors, tuple(self.ops), tuple(self.inputs), outputs)


def check(
    graph: Graph,
    expected: list[str],
    tolerance: float | None = None,
    change: Callable[[Graph], Graph] = simplify,
) -> Graph:
    """Compare kinds of ops and all outputs; without a tolerance they are equal."""
    changed = change(graph)
    assert [op.kind for op in changed.ops] == expected
    assert changed.inputs == graph.inputs and changed.outputs == graph.outputs
    rng = np.random.default_rng(1)
    inputs: list[Array] = []
    for name in graph.inputs:
        shape = (2, *graph.tensors[name].shape)
        if graph.tensors[name].dtype == "int8":
            inputs.append(rng.integers(-128, 128, shape).astype(np.int8))
        else:
            inputs.append((3 * rng.normal(size=shape)).astype(np.float32))
    pairs = zip(reference.run(graph, inputs), reference.run(changed, inputs), strict=True)
    for before, after in pairs:
        if tolerance is None:
            np.testing.assert_array_equal(before, after)
        else:
            np.testing.assert_allclose(after, before, atol=tolerance * np.abs(before).max())
    return changed


def relu(limits: Clamp = RELU) -> Unary:
    return Unary(UnaryKind.CLAMP, limits)


def test_inverse_transposes_and_reshapes_cancel() -> None:
    net = Net((4, 5, 3))
    x = net.op(Transpose((2, 0, 1)), "x0", (3, 4, 5))
    x = net.op(Transpose((1, 2, 0)), x, (4, 5, 3))
    x = net.op(Reshape(), x, (60,))
    x = net.op(Reshape(), x, (4, 5, 3))
    check(net.graph(net.op(Unary(UnaryKind.TANH), x, (4, 5, 3))), ["unary"])


def test_what_nobody_reads_is_dropped() -> None:
    net = Net((4,))
    net.op(Unary(UnaryKind.TANH), "x0", (4,))
    check(net.graph(net.op(Unary(UnaryKind.SIGMOID), "x0", (4,))), ["unary"])


def test_no_ops_are_dropped_but_outputs_keep_their_names() -> None:
    net = Net((4, 1))
    x = net.op(Unary(UnaryKind.TANH), "x0", (4, 1))
    y = net.op(Pad(((0, 0), (0, 0))), x, (4, 1))
    z = net.op(Transpose((0, 1)), y, (4, 1))
    graph = check(net.graph(net.op(Reshape(), z, (4, 1)), y), ["unary", "reshape"])
    assert graph.ops[0].output == y


def test_an_output_that_is_an_input_stays_a_copy() -> None:
    net = Net((4,))
    check(net.graph(net.op(Reshape(), "x0", (4,))), ["reshape"])


def test_transpose_of_axes_without_length_becomes_a_reshape() -> None:
    net = Net((5, 1, 3))
    check(net.graph(net.op(Transpose((1, 0, 2)), "x0", (1, 5, 3))), ["reshape"])


def test_limits_in_a_row_become_one() -> None:
    net = Net((9,))
    x = net.op(relu(Clamp(-2.0, 1.0)), "x0", (9,))
    graph = check(net.graph(net.op(relu(Clamp(0.5, 4.0)), x, (9,))), ["unary"])
    assert graph.ops[0].attributes == relu(Clamp(0.5, 1.0))


def conv(net: Net, x: str, shape: tuple[int, ...], **attributes: Any) -> str:
    channels = net.tensors[x].shape[0]
    return net.op(Conv2D(**attributes), [x, net.random(shape[0], channels, 3, 3)], shape)


def test_limits_go_into_layers() -> None:
    net = Net((2, 6, 6))
    x = net.op(relu(RELU6), conv(net, "x0", (3, 4, 4)), (3, 4, 4))
    y = net.op(Binary(BinaryKind.ADD), [x, x], (3, 4, 4))
    y = net.op(relu(), y, (3, 4, 4))
    y = net.op(Pool2D(PoolKind.AVERAGE, (2, 2), (2, 2)), y, (3, 2, 2))
    y = net.op(relu(Clamp(0.25, 2.0)), y, (3, 2, 2))
    y = net.op(Reshape(), y, (12,))
    y = net.op(FullyConnected(), [y, net.random(5, 12)], (5,))
    y = net.op(relu(), y, (5,))
    graph = check(net.graph(y), ["conv2d", "binary", "pool2d", "reshape", "fully_connected"])
    clamps: list[Any] = [op.attributes for op in graph.ops if op.kind != "reshape"]
    assert [a.clamp for a in clamps] == [RELU6, RELU, Clamp(0.25, 2.0), RELU]


def test_limits_pass_maximum_pooling_but_not_what_others_read() -> None:
    net = Net((2, 6, 6))
    x = conv(net, "x0", (3, 4, 4))
    y = net.op(Pool2D(PoolKind.MAX, (2, 2), (2, 2)), x, (3, 2, 2))
    y = net.op(relu(), y, (3, 2, 2))
    graph = check(net.graph(y), ["conv2d", "pool2d"])
    assert graph.ops[0].attributes == Conv2D(clamp=RELU)
    shared = check(net.graph(y, x), ["conv2d", "pool2d"])
    assert shared.ops[0].attributes == Conv2D()
    assert shared.ops[1].attributes == Pool2D(PoolKind.MAX, (2, 2), (2, 2), clamp=RELU)


def test_limits_stay_behind_pooling_with_windows_in_the_padding_alone() -> None:
    net = Net((2, 6, 6))
    x = conv(net, "x0", (2, 4, 4))
    # Rows start at -2, 1 and 4: the last one lies in the padding and gives a real zero.
    y = net.op(Pool2D(PoolKind.MAX, (3, 1), (3, 1), (2, 2, 0, 0)), x, (2, 3, 4))
    y = net.op(relu(Clamp(0.5, 9.0)), y, (2, 3, 4))
    graph = check(net.graph(y), ["conv2d", "pool2d"])
    assert graph.ops[0].attributes == Conv2D()


def test_integer_limits_stay() -> None:
    net = Net((2, 6, 6), quantization=Q)
    x = conv(net, "x0", (3, 4, 4))
    check(net.graph(net.op(relu(), x, (3, 4, 4))), ["conv2d", "unary"])


@pytest.mark.parametrize("quantization", [None, Q])
def test_transpose_before_a_fully_connected_layer_goes_into_its_weights(
    quantization: Quantization | None,
) -> None:
    net = Net((3, 4, 5), quantization=quantization)
    x = net.op(Transpose((1, 2, 0)), "x0", (4, 5, 3))
    x = net.op(Reshape(), x, (60,))
    weight = net.random(6, 60)
    y = net.op(FullyConnected(), [x, weight], (6,))
    z = net.op(FullyConnected(), [net.op(Reshape(), "x0", (60,)), weight], (6,))
    kinds = ["reshape", "fully_connected", "reshape", "fully_connected"]
    # In float32 the sums are taken in another order.
    check(net.graph(y, z), kinds, tolerance=None if quantization else 1e-6)


def test_transpose_before_rows_stays() -> None:
    net = Net((3, 4))
    x = net.op(Transpose((1, 0)), "x0", (4, 3))
    check(net.graph(net.op(FullyConnected(), [x, net.random(2, 3)], (4, 2))),
          ["transpose", "fully_connected"])  # fmt: skip


@pytest.mark.parametrize("quantization", [None, Q])
def test_transposes_sink_to_their_inverse(quantization: Quantization | None) -> None:
    net = Net((4, 5, 3), (4, 5, 3), quantization=quantization)
    a = net.op(Transpose((2, 0, 1)), "x0", (3, 4, 5))
    b = net.op(Transpose((2, 0, 1)), "x1", (3, 4, 5))
    y = net.op(Unary(UnaryKind.LEAKY_RELU, alpha=0.5), a, (3, 4, 5))
    y = net.op(Binary(BinaryKind.ADD), [y, b], (3, 4, 5))
    c = net.op(Transpose((2, 0, 1)), "x0", (3, 4, 5))
    y = net.op(Concat(0), [y, c], (6, 4, 5))
    y = net.op(Binary(BinaryKind.MUL), [y, net.constant([2])], (6, 4, 5))
    y = net.op(Transpose((1, 2, 0)), y, (4, 5, 6))
    graph = check(net.graph(y), ["unary", "binary", "concat", "binary"])
    assert graph.ops[2].attributes == Concat(2)


def test_transposes_sink_below_quantize_to_int8_only() -> None:
    net = Net((4, 3))
    x = net.op(Transpose((1, 0)), "x0", (3, 4))
    net.tensors["q"] = Tensor("q", (3, 4), "int8", Q)
    net.ops.append(Op("q", Quantize(), (x,), "q"))
    net.tensors["f"] = Tensor("f", (3, 4), "float32")
    net.ops.append(Op("f", Quantize(), ("q",), "f"))
    check(net.graph("f"), ["quantize", "transpose", "quantize"])


@pytest.mark.parametrize("quantization", [None, Q])
def test_zero_padding_goes_into_convolutions(quantization: Quantization | None) -> None:
    net = Net((2, 6, 6), quantization=quantization)
    x = net.op(Pad(((0, 0), (1, 2), (0, 1))), "x0", (2, 9, 7))
    y = conv(net, x, (3, 7, 5))
    z = conv(net, x, (3, 9, 5), padding=(1, 1, 0, 0))
    kinds = ["conv2d", "conv2d"]
    if quantization is None:
        graph = check(net.graph(y), ["conv2d"])
        assert graph.ops[0].attributes == Conv2D(padding=(1, 2, 0, 1))
        # The second one would start with a row of nothing but padding: 2 + 1 >= 3.
        check(net.graph(y, z), ["pad", *kinds])
    else:
        check(net.graph(y), ["conv2d"])


@pytest.mark.parametrize(
    "pad",
    [Pad(((1, 0), (0, 0), (0, 0))), Pad(((0, 0), (1, 1), (1, 1)), 1.0),
     Pad(((0, 0), (3, 0), (0, 0)))],
)  # fmt: skip
def test_other_padding_stays(pad: Pad) -> None:
    net = Net((2, 6, 6))
    (c0, c1), (t, b), (left, right) = pad.padding
    shape = (2 + c0 + c1, 6 + t + b, 6 + left + right)
    x = net.op(pad, "x0", shape)
    check(net.graph(conv(net, x, (3, shape[1] - 2, shape[2] - 2))), ["pad", "conv2d"])


def test_batch_norm_of_every_form_is_folded() -> None:
    net = Net((2, 6, 6))
    weight, bias = net.random(3, 2, 3, 3), net.random(3)
    y = net.op(Conv2D(), ["x0", weight, bias], (3, 4, 4))
    y = net.op(Binary(BinaryKind.MUL), [y, net.random(3, 1, 1)], (3, 4, 4))
    y = net.op(Binary(BinaryKind.ADD), [net.random(3, 1, 1), y], (3, 4, 4))
    y = net.op(Binary(BinaryKind.SUB), [y, net.constant([2.0])], (3, 4, 4))
    y = net.op(Binary(BinaryKind.SUB, RELU), [net.constant([1.0]), y], (3, 4, 4))
    graph = check(net.graph(y), ["conv2d", *["binary"] * 4])
    graph = check(graph, ["conv2d"], tolerance=2e-6, change=fold_batch_norm)
    assert graph.ops[0].attributes == Conv2D(clamp=RELU)


def test_batch_norm_keeps_zeros_and_leaves_shared_weights_alone() -> None:
    net = Net((4,))
    data = np.float32([[0.0, 1.0, 0.0, -2.0], [0.0, 0.0, 3.0, 0.0]])
    weight = net.constant(data)
    y = net.op(FullyConnected(), ["x0", weight], (2,))
    z = net.op(FullyConnected(), ["x0", weight], (2,))
    y = net.op(Binary(BinaryKind.MUL), [y, net.constant([-3.0, 0.5])], (2,))
    graph = check(net.graph(y, z), ["fully_connected"] * 2, tolerance=1e-6, change=fold_batch_norm)
    first, second = (graph.tensors[op.inputs[1]].data for op in graph.ops)
    assert first is not None and second is not None
    assert np.array_equal(first == 0, data == 0) and not np.signbit(first[data == 0]).any()
    assert np.array_equal(second, data)


@pytest.mark.parametrize("shape", [(1, 4, 1), (3, 4, 4), (1, 1, 4)])
def test_constants_that_are_not_per_channel_stay(shape: tuple[int, ...]) -> None:
    net = Net((2, 6, 6))
    y = net.op(Binary(BinaryKind.MUL), [conv(net, "x0", (3, 4, 4)), net.random(*shape)], (3, 4, 4))
    check(net.graph(y), ["conv2d", "binary"], change=fold_batch_norm)


def test_layers_with_a_limit_or_other_readers_keep_their_batch_norm() -> None:
    net = Net((2, 6, 6))
    limited = conv(net, "x0", (3, 4, 4), clamp=RELU)
    read = conv(net, "x0", (3, 4, 4))
    a = net.op(Binary(BinaryKind.ADD), [limited, net.random(3, 1, 1)], (3, 4, 4))
    b = net.op(Binary(BinaryKind.ADD), [read, net.random(3, 1, 1)], (3, 4, 4))
    check(net.graph(a, b, read), ["conv2d", "conv2d", "binary", "binary"], change=fold_batch_norm)


_STEPS = st.lists(
    st.sampled_from(["transpose", "reshape", "relu", "tanh", "pad", "pool", "add", "concat",
                     "softmax", "mean", "scale"]),
    min_size=1, max_size=12,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(_STEPS, st.randoms(use_true_random=False), st.booleans())
def test_any_graph_computes_the_same(steps: list[str], rng: Any, all_outputs: bool) -> None:
    net = Net((2, 4, 3))
    x = "x0"
    for step in steps:
        shape = net.tensors[x].shape
        match step:
            case "transpose":
                perm = tuple(rng.sample(range(len(shape)), len(shape)))
                x = net.op(Transpose(perm), x, tuple(shape[i] for i in perm))
            case "reshape":
                flat = rng.choice([shape, shape[::-1], (int(np.prod(shape)),)])
                x = net.op(Reshape(), x, flat)
            case "relu":
                x = net.op(relu(rng.choice([RELU, RELU6, Clamp(-0.5, 0.5)])), x, shape)
            case "tanh":
                x = net.op(Unary(UnaryKind.TANH), x, shape)
            case "pad":
                padding = tuple((rng.randint(0, 1), 0) for _ in shape)
                padded = tuple(d + a for d, (a, _) in zip(shape, padding, strict=True))
                x = net.op(Pad(padding, rng.choice([0.0, 1.0])), x, padded)
            case "pool" if len(shape) == 3:
                kind = rng.choice(list(PoolKind))
                x = net.op(Pool2D(kind, (1, 1), (1, 1)), x, shape)
            case "add":
                x = net.op(Binary(BinaryKind.ADD), [x, x], shape)
            case "concat":
                axis = rng.randrange(len(shape))
                joined = tuple(d * 2 if i == axis else d for i, d in enumerate(shape))
                x = net.op(Concat(axis), [x, x], joined)
            case "softmax":
                x = net.op(Softmax(rng.randrange(len(shape))), x, shape)
            case "mean" if len(shape) > 1:
                x = net.op(Mean((0,)), x, shape[1:])
            case "scale":
                x = net.op(Binary(BinaryKind.MUL), [net.constant([1.5]), x], shape)
    if not net.ops:
        return
    outputs = [op.output for op in net.ops] if all_outputs else [x]
    graph = net.graph(*outputs)
    changed = simplify(graph)
    assert len(changed.ops) <= len(graph.ops)
    data = np.random.default_rng(2).normal(size=(2, 2, 4, 3)).astype(np.float32)
    for before, after in zip(
        reference.run(graph, [data]), reference.run(changed, [data]), strict=True
    ):
        np.testing.assert_array_equal(before, after)
