"""Every operator of the PyTorch front end against PyTorch itself, in float32."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeroskip.converters import reference
from zeroskip.converters.frontends import pytorch
from zeroskip.converters.ir import (
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
    Reshape,
    Softmax,
    Transpose,
    Unary,
    UnaryKind,
)
from zeroskip.errors import UnsupportedError

Shape = tuple[int, ...]


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> object:
        return self.function(*inputs)


class Block(nn.Module):
    """A residual block over a body that keeps the shape."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


def randomize(module: nn.Module) -> nn.Module:
    """Statistics and parameters that make every term of a batch-norm count."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.dtype == torch.float32 and (tensor.ndim == 1 or "running" in name):
            low = 0.25 if "var" in name else -1.0
            tensor.data.uniform_(low, 1.5, generator=generator)
    return module.eval()


class Together(nn.Module):
    """Several modules side by side, each with its own inputs: one export instead of many."""

    def __init__(self, parts: list[tuple[nn.Module, int]]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(part for part, _ in parts)
        self.counts = [count for _, count in parts]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        results: list[Tensor] = []
        for part, count in zip(self.parts, self.counts, strict=True):
            result = part(*inputs[:count])
            results.extend([result] if isinstance(result, Tensor) else result)
            inputs = inputs[count:]
        return tuple(results)


def check_all(cases: list[tuple[nn.Module, tuple[Shape, ...]]]) -> Graph:
    together = Together([(module, len(shapes)) for module, shapes in cases])
    return check(together, *(shape for _, shapes in cases for shape in shapes))


def check(module: nn.Module, *shapes: Shape, tolerance: float = 2e-6) -> Graph:
    """Convert and compare on three samples, relative to the largest output."""
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(3, *shape, generator=generator) for shape in shapes]
    randomize(module)
    graph = pytorch.load(module, inputs)
    assert [graph.tensors[name].shape for name in graph.inputs] == list(shapes)
    with torch.no_grad():
        rows = [module(*(x[i : i + 1] for x in inputs)) for i in range(3)]
    found = reference.run(graph, [x.numpy() for x in inputs])
    if isinstance(rows[0], Tensor):
        rows = [(row,) for row in rows]
    assert len(found) == len(rows[0])
    for index, output in enumerate(found):
        expected = np.stack([row[index].numpy().reshape(output.shape[1:]) for row in rows])
        limit = tolerance * max(float(np.abs(expected).max()), 1e-3)
        np.testing.assert_allclose(output, expected, rtol=0, atol=limit)
    return graph


def kinds(graph: Graph) -> list[str]:
    return [op.kind for op in graph.ops]


def only(graph: Graph) -> Op:
    assert len(graph.ops) == 1, kinds(graph)
    return graph.ops[0]


CONVOLUTIONS: dict[str, tuple[nn.Module, Shape]] = {
    "plain": (nn.Conv2d(3, 8, 3), (3, 9, 11)),
    "pointwise-no-bias": (nn.Conv2d(6, 4, 1, bias=False), (6, 5, 5)),
    "strided-padded": (nn.Conv2d(3, 8, (3, 5), stride=(2, 3), padding=(1, 2)), (3, 11, 13)),
    "dilated": (nn.Conv2d(2, 5, 3, dilation=(2, 3), padding=(2, 3)), (2, 9, 9)),
    "grouped": (nn.Conv2d(8, 12, 3, groups=4, padding=1), (8, 6, 6)),
    "depthwise": (nn.Conv2d(6, 6, 3, groups=6, stride=2, padding=1), (6, 8, 8)),
    "depth-multiplier": (nn.Conv2d(4, 12, 3, groups=4), (4, 6, 6)),
    "same": (nn.Conv2d(3, 4, (5, 3), padding="same", dilation=(1, 2)), (3, 8, 9)),
    "same-even": (nn.Conv2d(3, 4, (2, 4), padding="same"), (3, 7, 7)),
    "valid": (nn.Conv2d(3, 4, 3, padding="valid"), (3, 7, 7)),
    "1d": (nn.Conv1d(3, 8, 3, stride=2, padding=1), (3, 17)),
    "1d-dilated-grouped": (nn.Conv1d(4, 8, 3, dilation=4, groups=2), (4, 20)),
    "1d-depthwise-same": (nn.Conv1d(4, 4, 4, padding="same", groups=4), (4, 12)),
}


def test_convolutions() -> None:
    graph = check_all([(module, (shape,)) for module, shape in CONVOLUTIONS.values()])
    assert kinds(graph).count("conv2d") == len(CONVOLUTIONS)
    # Padding is a part of the convolution; one-dimensional data is reshaped before and behind.
    assert sorted(set(kinds(graph))) == ["conv2d", "reshape"]
    assert kinds(graph).count("reshape") == 6


BATCH_NORMS: dict[str, tuple[nn.Module, Shape, list[str]]] = {
    "conv": (nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)), (3, 6, 6),
             ["conv2d"]),
    "conv-bias-relu6": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6()),
                        (3, 6, 6), ["conv2d"]),
    "depthwise": (nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4)), (4, 6, 6),
                  ["conv2d"]),
    "linear": (nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)), (6,), ["fully_connected"]),
    "conv1d": (nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)), (3, 9),
               ["reshape", "conv2d", "reshape"]),
    "not-affine": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)), (3, 6, 6),
                   ["conv2d"]),
    "twice": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)), (3, 6, 6),
              ["conv2d"]),
    "standalone": (nn.BatchNorm2d(3), (3, 5, 5), ["binary", "binary"]),
    "standalone-1d": (nn.BatchNorm1d(3), (3,), ["binary", "binary"]),
    "behind-relu": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)), (3, 6, 6),
                    ["conv2d", "binary", "binary"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BATCH_NORMS)
def test_batch_norm_is_folded_where_a_layer_precedes(name: str) -> None:
    module, shape, expected = BATCH_NORMS[name]
    assert kinds(check(module, shape)) == expected


def test_batch_norm_behind_a_shared_result_is_not_folded() -> None:
    conv, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = conv, norm

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return y * self.norm(y)

    graph = check(Shared(), (3, 6, 6))
    assert kinds(graph) == ["conv2d", "binary", "binary", "binary"]


ELEMENTWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "relu6": F.relu6,
    "hardtanh": lambda x: F.hardtanh(x, -0.5, 0.75),
    "clamp": lambda x: x.clamp(-0.25, 0.5),
    "clamp-min": lambda x: x.clamp(min=0.1),
    "clamp-max": lambda x: torch.clamp_max(x, 0.1),
    "leaky-relu": lambda x: F.leaky_relu(x, 0.2),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "silu": F.silu,
    "add-scalar": lambda x: x + 1.5,
    "rsub-scalar": lambda x: 1 - x,
    "mul-scalar": lambda x: x * -3,
    "div-scalar": lambda x: x / 3,
    "neg": torch.neg,
    "add-alpha": lambda x: torch.add(x, x, alpha=2.5),
    "sub-self": lambda x: x * 2 - x,
    "inplace": lambda x: (x + 1).relu_().mul_(2),
    "channel-constant": lambda x: x * torch.arange(4.0)[:, None, None] + torch.ones(1, 4, 1, 1),
    "row-constant": lambda x: x + torch.arange(6.0),
    "gate": lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
    "identity": lambda x: F.dropout(x.clone().contiguous(), 0.5, training=False) + 0,
}  # fmt: skip


def test_elementwise() -> None:
    check_all([(Apply(function), ((4, 5, 6),)) for function in ELEMENTWISE.values()])


@pytest.mark.parametrize("count", [1, 4])
def test_prelu(count: int) -> None:
    graph = check(nn.PReLU(count), (4, 5, 5))
    assert (kinds(graph) == ["unary"]) == (count == 1)


def test_limits_go_into_the_layer_even_past_maximum_pooling() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.Hardtanh())
    graph = check(module, (1, 8, 8))
    conv, pool = graph.ops
    assert isinstance(conv.attributes, Conv2D) and conv.attributes.clamp == Clamp(-1.0, 1.0)
    assert isinstance(pool.attributes, Pool2D) and pool.attributes.kind is PoolKind.MAX


POOLS: dict[str, tuple[nn.Module, Shape]] = {
    "max": (nn.MaxPool2d(2), (3, 9, 8)),
    "max-overlap-pad": (nn.MaxPool2d((3, 2), stride=(2, 1), padding=(1, 1)), (3, 9, 8)),
    "max-ceil": (nn.MaxPool2d(3, 2, ceil_mode=True), (3, 8, 9)),
    "max-ceil-pad": (nn.MaxPool2d(3, 2, padding=1, ceil_mode=True), (3, 8, 9)),
    "max-ceil-window-dropped": (nn.MaxPool2d(2, 3, padding=1, ceil_mode=True), (1, 4, 7)),
    "max-1d": (nn.MaxPool1d(3, 2, ceil_mode=True), (3, 12)),
    "average": (nn.AvgPool2d(2), (3, 8, 9)),
    "average-include-pad": (nn.AvgPool2d(3, 2, padding=1), (3, 8, 9)),
    "average-exclude-pad": (nn.AvgPool2d(3, 2, padding=1, count_include_pad=False), (3, 8, 9)),
    "average-ceil": (nn.AvgPool2d(3, 2, ceil_mode=True), (3, 8, 9)),
    "average-ceil-exclude": (
        nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False), (3, 8, 9)),
    "average-1d": (nn.AvgPool1d(3, 2, padding=1), (3, 12)),
    "adaptive-1": (nn.AdaptiveAvgPool2d(1), (3, 8, 9)),
    "adaptive-even": (nn.AdaptiveAvgPool2d((4, 3)), (3, 8, 9)),
    "adaptive-uneven": (nn.AdaptiveAvgPool2d((3, 4)), (3, 8, 9)),
    "adaptive-larger": (nn.AdaptiveAvgPool2d(7), (2, 3, 4)),
    "adaptive-1d": (nn.AdaptiveAvgPool1d(1), (3, 12)),
    "adaptive-1d-uneven": (nn.AdaptiveAvgPool1d(5), (3, 12)),
    "adaptive-max": (nn.AdaptiveMaxPool2d(1), (3, 8, 9)),
    "adaptive-max-uneven": (nn.AdaptiveMaxPool2d((3, 2)), (3, 8, 9)),
    "adaptive-max-1d": (nn.AdaptiveMaxPool1d(1), (3, 12)),
}  # fmt: skip


def test_pooling() -> None:
    check_all([(module, (shape,)) for module, shape in POOLS.values()])


def test_global_average_of_a_single_pixel_in_a_wide_tensor() -> None:
    # torch decomposes this one to a mean and an as_strided that does nothing.
    module = nn.Sequential(nn.Conv2d(1, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    program = torch.export.export(module.eval(), (torch.zeros(1, 1, 5, 5),))
    graph = pytorch.load(program.run_decompositions(torch.export.default_decompositions()))
    assert kinds(graph)[:2] == ["conv2d", "mean"]


SHAPES: dict[str, tuple[Callable[..., object], tuple[Shape, ...]]] = {
    "flatten": (lambda x: F.linear(x.flatten(1), torch.ones(3, 60)), ((3, 4, 5),)),
    "view": (lambda x: x.view(1, 12, 5) + 1, ((3, 4, 5),)),
    "squeeze": (lambda x: x.mean((2, 3), keepdim=True).squeeze() + 1, ((3, 4, 5),)),
    "unsqueeze": (lambda x: x[:, None] * torch.ones(2, 1, 1), ((4, 5),)),
    "permute": (lambda x: x.permute(0, 2, 3, 1), ((3, 4, 5),)),
    "permute-flatten": (lambda x: x.permute(0, 2, 3, 1).flatten(1), ((3, 4, 5),)),
    "permute-moves-the-batch": (lambda x: x.permute(2, 0, 1).relu().permute(1, 2, 0), ((3, 4),)),
    "transpose": (lambda x: x.transpose(1, 2) * 2, ((3, 4),)),
    "channel-shuffle": (lambda x: F.channel_shuffle(x, 2), ((6, 4, 4),)),
    "pad": (lambda x: F.pad(x, (1, 2, 3, 0)), ((3, 4, 5),)),
    "pad-value": (lambda x: F.pad(x, (0, 1, 0, 0, 2, 1), value=-1.5), ((3, 4, 5),)),
    "pad-1d": (lambda x: F.pad(x, (2, 2)), ((3, 4),)),
    "pad-nothing": (lambda x: F.pad(x, (0, 0)) + 1, ((3, 4),)),
    "cat-channels": (lambda x, y: torch.cat([x, y, x], 1), ((3, 4, 5), (2, 4, 5))),
    "cat-columns": (lambda x, y: torch.cat([x, y], -1), ((3, 4, 5), (3, 4, 2))),
    "cat-one": (lambda x: torch.cat([x], 1) + 1, ((3, 4),)),
    "stack": (lambda x, y: torch.stack([x, y], 1), ((3, 4), (3, 4))),
    "mean-all-but-batch": (lambda x: x.mean((1, 2, 3)), ((3, 4, 5),)),
    "mean-channels": (lambda x: x.mean(1), ((3, 4, 5),)),
    "mean-keepdim": (lambda x: x.mean(-1, keepdim=True), ((3, 4, 5),)),
    "softmax-last": (lambda x: F.softmax(x, -1), ((3, 4, 5),)),
    "softmax-channels": (lambda x: F.softmax(x, 1), ((3, 4, 5),)),
    "matmul": (lambda x: x @ torch.arange(10.0).reshape(5, 2), ((3, 4, 5),)),
    "two-outputs": (lambda x: (x.relu(), x.mean((1, 2, 3))), ((3, 4, 5),)),
    "output-is-input": (lambda x: (x, x.flatten(1), x * 2), ((3, 4, 5),)),
    "same-output-twice": (lambda x: [x.relu()] * 2, ((3, 4),)),
    "dict-output": (lambda x: tuple({"a": x + 1, "b": x + 2}.values()), ((3,),)),
    "broadcast-inputs": (lambda x, y: x * y[:, :, None, None] - y.mean(1), ((3, 4, 5), (3,))),
    "residual-1d": (
        lambda x: F.avg_pool1d(x + F.conv1d(x, torch.ones(3, 3, 3), padding=1), 2), ((3, 8),)),
    "cat-1d": (
        lambda x: torch.cat([F.conv1d(x, torch.ones(n, 3, 1)) for n in (2, 1)], 1),
        ((3, 8),)),
    "cat-1d-mixed": (lambda x: torch.cat([x, F.conv1d(x, torch.ones(2, 3, 1))], 1), ((3, 8),)),
}  # fmt: skip


def test_shapes() -> None:
    check_all([(Apply(function), shapes) for function, shapes in SHAPES.values()])


def test_linear_on_rows() -> None:
    graph = check(nn.Linear(5, 7), (3, 5))
    assert isinstance(only(graph).attributes, FullyConnected)
    assert graph.tensors[graph.outputs[0]].shape == (3, 7)


def test_addmm_with_a_parameter_on_the_right() -> None:
    weight, bias = torch.randn(6, 4), torch.randn(4)
    graph = check(Apply(lambda x: torch.addmm(bias, x, weight)), (6,))
    assert kinds(graph) == ["fully_connected"]


def test_permuted_flatten_goes_into_the_weights() -> None:
    module = nn.Sequential(nn.Conv2d(2, 3, 3), Apply(lambda x: x.permute(0, 2, 3, 1).flatten(1)),
                           nn.Linear(48, 5))  # fmt: skip
    assert kinds(check(module, (2, 6, 6))) == ["conv2d", "reshape", "fully_connected"]


def test_one_dimensional_net_reshapes_at_its_ends_only() -> None:
    net = nn.Sequential(
        nn.Conv1d(3, 8, 5, padding=2), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2),
        Block(nn.Sequential(nn.Conv1d(8, 8, 3, padding=1), nn.BatchNorm1d(8))),
        nn.Conv1d(8, 8, 3, groups=8), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip
    graph = check(net, (3, 32))
    assert kinds(graph) == [
        "reshape", "conv2d", "pool2d", "conv2d", "binary", "conv2d", "mean", "fully_connected",
    ]  # fmt: skip


def test_residual_net_with_depthwise_and_strided_layers() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        Block(nn.Sequential(
            nn.Conv2d(8, 16, 1), nn.ReLU6(), nn.Conv2d(16, 16, 3, padding=1, groups=16),
            nn.BatchNorm2d(16), nn.Hardswish(), nn.Conv2d(16, 8, 1), nn.BatchNorm2d(8))),
        nn.AdaptiveAvgPool2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(32, 4), nn.Softmax(1),
    )  # fmt: skip
    graph = check(net, (3, 16, 16), tolerance=1e-5)
    assert kinds(graph) == [
        "conv2d", "conv2d", "conv2d", "unary", "conv2d", "binary", "pool2d", "reshape",
        "fully_connected", "softmax",
    ]  # fmt: skip


def test_attributes_arrive_as_given() -> None:
    cases: dict[object, tuple[nn.Module, tuple[Shape, ...]]] = {
        Conv2D((2, 1), (1, 2), (1, 1, 2, 2), 2): (
            nn.Conv2d(4, 8, (3, 5), (2, 1), (1, 2), (1, 2), groups=2), ((4, 9, 12),)),
        Pool2D(PoolKind.AVERAGE, (2, 3), (1, 2), (1, 1, 1, 1), count_include_pad=True): (
            nn.AvgPool2d((2, 3), (1, 2), (1, 1)), ((2, 6, 7),)),
        Mean((0, 2)): (Apply(lambda x: x.mean((1, 3))), ((3, 4, 5),)),
        Softmax(1): (nn.Softmax(2), ((3, 4),)),
        Binary(BinaryKind.SUB): (Apply(lambda x, y: x - y), ((3,), (3,))),
        Concat(1): (Apply(lambda x, y: torch.cat([x, y], 2)), ((3, 4), (3, 1))),
        Transpose((1, 0)): (Apply(lambda x: x.mT), ((3, 4),)),
        Reshape(): (nn.Flatten(), ((3, 4),)),
        Unary(UnaryKind.TANH): (nn.Tanh(), ((3, 4),)),
        Unary(UnaryKind.CLAMP, Clamp(-0.5, 2.0)): (nn.Hardtanh(-0.5, 2.0), ((3, 4),)),
        Pad(((0, 0), (2, 1)), 1.5): (nn.ConstantPad2d((2, 1, 0, 0), 1.5), ((3, 4),)),
    }  # fmt: skip
    graph = check_all(list(cases.values()))
    assert [op.attributes for op in graph.ops if op.kind != "reshape"] == [
        case for case in cases if case not in (Reshape(), Pad(((0, 0), (2, 1)), 1.5))
    ] + [Pad(((0, 0), (0, 0), (2, 1)), 1.5)]


REFUSED: dict[str, tuple[nn.Module, Shape, str]] = {
    "operator": (Apply(lambda x: x.cumsum(1)), (3, 4), r"aten\.cumsum at 'cumsum'.*supported are"),
    "in-a-module": (nn.Sequential(nn.Conv2d(3, 4, 1), nn.GELU()), (3, 4, 4), r"aten\.gelu at '1'"),
    "transposed": (nn.ConvTranspose2d(3, 4, 3), (3, 5, 5), "transposed convolutions"),
    "three-dimensional": (nn.Conv3d(2, 3, 1), (2, 3, 3, 3), r"supported are batches of 1"),
    "instance-norm": (nn.InstanceNorm2d(3), (3, 4, 4), "_native_batch_norm_legit"),
    "reflection": (nn.ReflectionPad2d(1), (3, 4, 4), r"aten\.index"),
    "cropping": (Apply(lambda x: F.pad(x, (-1, 0))), (3, 4), "cropping"),
    "batch-mean": (Apply(lambda x: x.mean()), (3, 4), "batch axis"),
    "batch-softmax": (Apply(lambda x: F.softmax(x, 0)), (3, 4), "batch axis"),
    "batch-cat": (Apply(lambda x: torch.cat([x, x], 0)), (3, 4), "batch axis"),
    "double": (Apply(lambda x: x.double() * 2), (3, 4), "float64"),
    "comparison": (Apply(lambda x: torch.where(x > 0, x, x * 2)), (3, 4), r"aten\.gt"),
    "random": (Apply(lambda x: x + torch.rand(3, 4)), (3, 4), r"aten\.rand"),
    "divide-by-activation": (Apply(lambda x: 1 / (x + 9)), (3, 4), r"aten\.(reciprocal|div)"),
    "activation-product": (Apply(lambda x: x @ x), (4, 4), r"aten\.bmm"),
    "dilated-pool": (nn.MaxPool2d(2, dilation=2), (3, 8, 8), "dilation"),
    "divisor": (nn.AvgPool2d(2, divisor_override=3), (3, 8, 8), "divisor_override"),
    "rank": (Apply(lambda x: x.reshape(1, 2, 2, 2, 2, 2).relu().permute(0, 5, 4, 3, 2, 1)),
             (32,), "supported are 1 to 4 dimensions"),
    "repeat": (Apply(lambda x: x.expand(1, 3, 4) + 1), (1, 4), r"repeating elements"),
    "constant-output": (Apply(lambda x: (x + 1, torch.ones(1, 3))), (3,), "output 1"),
    "half": (Apply(lambda x: x.half() + 1), (3,), "float16"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_one_line_that_names_the_operator(name: str) -> None:
    module, shape, message = REFUSED[name]
    with pytest.raises(UnsupportedError, match=message) as caught:
        pytorch.load(module, torch.zeros(1, *shape))
    assert "\n" not in str(caught.value)
